"""What the steps on reference counts do to a machine."""

from hvo.steps.struct_pages import DropReference, LoadPage, StorePage
from hvo.world.state import World


def teach_references(world: World) -> None:
    """Teach `world` the steps on reference counts."""

    def drop(step: DropReference) -> int:
        left = int(world.perform(LoadPage(step.pfn, "refcount"))) - 1
        world.perform(StorePage(step.pfn, "refcount", left))
        return left

    world.teach(DropReference, drop)
