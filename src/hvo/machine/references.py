"""What the steps on reference counts do to a machine."""

from hvo.machine.world import World
from hvo.steps.references import DropReference
from hvo.steps.vocabulary import LoadPage, StorePage


def teach_references(world: World) -> None:
    """Teach `world` the steps on reference counts."""

    def drop(step: DropReference) -> int:
        left = int(world.perform(LoadPage(step.pfn, "refcount"))) - 1
        world.perform(StorePage(step.pfn, "refcount", left))
        return left

    world.teach(DropReference, drop)
