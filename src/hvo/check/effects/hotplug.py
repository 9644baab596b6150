"""Memory that is added and removed."""

from hvo.check.effects.registry import Operation, Result, no_effect, ready
from hvo.check.model.footprint import FRAME
from hvo.check.model.geometry import FIRST_FRAME
from hvo.check.model.state import EMPTY, OFFLINED, Model
from hvo.check.model.world import World
from hvo.steps.hotplug import AddMemory, RemoveMemory


@ready(RemoveMemory)
def _ready_remove(model: Model, step: RemoveMemory) -> Operation:
    return Operation(step, _remove, ())


def _remove(world: World, actor: int, phase: int) -> Result:
    """The block goes; where it hosts its own struct pages, their frames go with it."""
    if world.model.hosted:
        for frame in range(FIRST_FRAME, FIRST_FRAME + world.model.geometry.vmemmap_pages):
            world.touched.append((FRAME, frame, 1))
            world.status[frame] = OFFLINED
            world.fill(frame, EMPTY)
    return None


@ready(AddMemory)
def _ready_add(model: Model, step: AddMemory) -> Operation:
    return Operation(step, no_effect, ())
