"""What steps of memory hotplug do to a machine's RAM and its page allocator."""

import numpy as np

from hvo.kernel.buddy import AllocatorError
from hvo.steps.hotplug import AddMemory, OfflinePages, OnlinePages, RemoveMemory
from hvo.world.state import Handlers, World

Range = tuple[int, int]


def add_memory(world: World, step: AddMemory) -> None:
    """More RAM."""
    memory = world.memory
    memory.set_ranges(joined([*memory.ranges, _bytes(world, step.start, step.end)]))


def remove_memory(world: World, step: RemoveMemory) -> None:
    """Less RAM; what it held is gone."""
    memory = world.memory
    written = memory.written()
    memory.forget(written[(written >= step.start) & (written < step.end)])
    memory.set_ranges(without(memory.ranges, _bytes(world, step.start, step.end)))


def _bytes(world: World, start: int, end: int) -> Range:
    size = world.vmemmap.page_size
    return start * size, end * size


def online_pages(world: World, step: OnlinePages) -> None:
    """Free all but those that hold the struct pages."""
    world.zones.add(step.start, step.end, step.node, movable=True)
    if step.hosted:
        world.zones.reserve_range(step.start, step.start + step.hosted)


def offline_pages(world: World, step: OfflinePages) -> bool:
    """Take them, if all are free."""
    zones = world.zones
    if not zones.is_free(np.arange(step.start + step.hosted, step.end, dtype=np.int64)).all():
        return False
    hosted = np.arange(step.start, step.start + step.hosted, dtype=np.int64)
    zones.free_reserved(hosted[zones.is_reserved(hosted)])
    zones.remove(step.start, step.end)
    return True


def joined(ranges: list[Range]) -> list[Range]:
    """Disjoint `ranges`, ascending, those that touch made one; raises `AllocatorError` for some
    that overlap.
    """
    out: list[Range] = []
    for start, end in sorted(ranges):
        if out and start < out[-1][1]:
            raise AllocatorError(f"physical addresses {start:#x}-{end:#x} are RAM already")
        out.append((out.pop()[0], end) if out and out[-1][1] == start else (start, end))
    return out


def without(ranges: list[Range], gone: Range) -> list[Range]:
    """`ranges` less what lies in `gone`."""
    pieces = [
        piece
        for start, end in ranges
        for piece in ((start, min(end, gone[0])), (max(start, gone[1]), end))
    ]
    return [(start, end) for start, end in pieces if start < end]


HANDLERS: Handlers = {
    AddMemory: add_memory,
    RemoveMemory: remove_memory,
    OnlinePages: online_pages,
    OfflinePages: offline_pages,
}
