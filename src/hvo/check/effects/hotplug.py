"""Memory that is added and removed."""

from hvo.check.effects.registry import Operation, Result, no_effect, ready
from hvo.check.model.footprint import FRAME, FREED
from hvo.check.model.state import OFFLINED, Model
from hvo.check.model.world import World
from hvo.steps.hotplug import AddMemory, RemoveMemory


@ready(RemoveMemory)
def _ready_remove(model: Model, step: RemoveMemory) -> Operation:
    return Operation(step, _remove, ())


def _remove(world: World, actor: int, phase: int) -> Result:
    """The block goes; where it hosts its own struct pages, their frames go with it."""
    if world.model.hosted:
        g = world.model.geometry
        world.changes(FREED)
        for frame in range(g.first_frame, g.first_frame + g.vmemmap_pages):
            world.changes(FRAME + frame)
            world.status[frame] = OFFLINED
            world.fill(frame, world.model.empty)
    return None


@ready(AddMemory)
def _ready_add(model: Model, step: AddMemory) -> Operation:
    return Operation(step, no_effect, ())
