"""Steps made ready for the checker: each kind has a function on a `World`, and its arguments as
plain numbers.

What a function returns is the step's result as a number, a tuple or None; `WAIT` says that the
actor cannot go on yet, and `Again` that the step is not finished: a locked operation reads first
and then compares and swaps, a wait has a beginning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hvo.check.model.geometry import BASE, PAGE
from hvo.check.model.state import Model
from hvo.check.model.world import World
from hvo.errors import HvoError
from hvo.steps.base import Step

Outcome: TypeAlias = int | tuple[int, ...] | None


class Again(NamedTuple):
    """The step goes on: `phase` is what it has to remember."""

    phase: int


class Wait:
    """The type of `WAIT`."""


WAIT = Wait()
Result: TypeAlias = Outcome | Again | Wait
Perform: TypeAlias = Callable[..., Result]


def _as_is(outcome: Outcome) -> Any:
    return outcome


def as_word(outcome: Outcome) -> np.uint64:
    """A word of memory as the protocols expect it."""
    assert isinstance(outcome, int)
    return np.uint64(outcome)


@dataclass(slots=True)
class Operation:
    """A step made ready: what it does for `actor` in a world, what the generator is sent for its
    outcome, and how it reads.
    """

    step: Step[object]
    perform: Perform
    arguments: tuple[Any, ...]
    sent: Callable[[Outcome], Any] = _as_is

    def run(self, world: World, actor: int, phase: int) -> Result:
        """Do it, or its next part."""
        return self.perform(world, actor, phase, *self.arguments)


Ready: TypeAlias = Callable[[Model, Any], Operation]
READY: dict[type, Ready] = {}
"""How each kind of step is made ready; filled by the modules that know them."""


def ready(*kinds: type) -> Callable[[Ready], Ready]:
    """Register the decorated function for steps of `kinds`."""

    def register(function: Ready) -> Ready:
        for kind in kinds:
            READY[kind] = function
        return function

    return register


def operation(model: Model, step: Step[object]) -> Operation:
    """`step` made ready; raises HvoError for a kind of step that the checker does not know."""
    make = READY.get(type(step))
    if make is None:
        known = ", ".join(sorted(kind.__name__ for kind in READY))
        raise HvoError(
            f"the checker does not know the step {type(step).__name__}: known are {known}"
        )
    return make(model, step)


class Place(NamedTuple):
    """A word of a struct page: the vmemmap page it is in, and its place in there."""

    page: int
    at: int


def place_of(model: Model, pfn: int, word: int) -> Place:
    """Where `word` of the struct page of `pfn` is."""
    return Place(*model.geometry.place(pfn, word))


def page_range(model: Model, start: int, end: int) -> tuple[int, int]:
    """The first and the last vmemmap page of the addresses [`start`, `end`), as far as the machine
    has them.
    """
    last = model.geometry.vmemmap_pages - 1
    return max((start - BASE) // PAGE, 0), min(max((end - 1 - BASE) // PAGE, 0), last)


def no_effect(world: World, actor: int, phase: int) -> Result:
    """Nothing that anybody here could see."""
    return None
