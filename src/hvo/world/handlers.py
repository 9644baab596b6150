"""What each step does to a machine: one table, made of those of the files that know the steps.

Every handler works on one page or, when its arguments are arrays whose first axis is the page, on
many: the same code serves the executor that goes step by step and the one that runs a block for
half a million pages.
"""

from typing import Any

from hvo.errors import HvoError
from hvo.steps.base import Assert, Step
from hvo.world import entries, frames, hotplug, ordering, pools, struct_pages
from hvo.world.state import Handlers, World


def check_assertion(world: World, step: Assert) -> None:
    """What a protocol says that holds must hold; raises HvoError."""
    if not step.holds:
        raise HvoError(f"assertion failed: {step.says}")


HANDLERS: Handlers = (
    entries.HANDLERS
    | frames.HANDLERS
    | struct_pages.HANDLERS
    | ordering.HANDLERS
    | pools.HANDLERS
    | hotplug.HANDLERS
    | {Assert: check_assertion}
)


def perform(world: World, step: Step[object]) -> Any:
    """Do one step and give its result."""
    return HANDLERS[type(step)](world, step)


def can_perform(step: Step[object]) -> bool:
    """Whether a step is done as a whole (a composite that is not is taken apart)."""
    return type(step) in HANDLERS
