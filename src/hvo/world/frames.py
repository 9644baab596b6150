"""What steps on frames do to a machine's page allocator, its counters and the actor's list."""

import numpy as np

from hvo.memory.interface import Pfns
from hvo.steps.base import Value
from hvo.steps.frames import (
    AllocateBlock,
    AllocateFrame,
    AllocateFrames,
    Count,
    Counter,
    FreeBlock,
    FreeFrame,
    FreeVmemmapPageList,
    ListAdd,
    ListEmpty,
    ListPop,
    ReadCounter,
    TakeFreed,
    WriteData,
)
from hvo.world.state import Handlers, World

_DATA = 0x5555_5555_5555_5555
"""What whoever takes a freed frame writes into it: no valid entry, and no struct page."""


def allocate_frame(world: World, step: AllocateFrame) -> Value | None:
    """One frame."""
    got = take_frames(world, 1, int(step.node), step.this_node_only, step.memmap)
    return None if got is None else int(got[0])


def allocate_frames(world: World, step: AllocateFrames) -> Pfns | None:
    """All of them, or none."""
    return take_frames(world, step.count, int(step.node), step.this_node_only, step.memmap)


def take_frames(
    world: World, count: int, node: int, this_node_only: bool, memmap: bool
) -> Pfns | None:
    """`count` frames, or None; a refusal leaves what trying one by one would leave: those had
    before go to the end of the queue.
    """
    allowed = world.zones.allowed(count, node, this_node_only=this_node_only)
    frames = world.zones.allocate_upto(allowed, node, this_node_only=this_node_only)
    if allowed < count:
        world.zones.free_frames(frames)
        return None
    if memmap:
        world.counters[Counter.MEMMAP] += count
    return frames


def free_frame(world: World, step: FreeFrame) -> None:
    """One frame."""
    give_frames(world, np.array([step.pfn], np.int64), memmap=step.memmap)


def give_frames(world: World, pfns: Pfns, *, memmap: bool) -> None:
    """Free `pfns` in that order, with the counters' due; what they hold is gone."""
    world.memory.forget(pfns)
    world.frames_freed += pfns.size
    world.freed = pfns
    reserved = world.zones.free_reserved(pfns)
    if memmap:
        world.counters[Counter.MEMMAP_BOOT] -= reserved
        world.counters[Counter.MEMMAP] -= pfns.size - reserved


def count(world: World, step: Count) -> None:
    """Add."""
    world.counters[step.counter] += step.delta


def take_freed(world: World, step: TakeFreed) -> int | None:
    """The frame that was freed last, of those that are still free."""
    freed = world.freed[world.zones.is_free(world.freed)]
    if not freed.size:
        return None
    world.zones.take(freed[-1:])
    return int(freed[-1])


def write_data(world: World, step: WriteData) -> None:
    """Fill the frame."""
    world.memory.write_frames(np.array([step.pfn], np.int64), _DATA)


# -- blocks --


def allocate_block(world: World, step: AllocateBlock) -> int | None:
    """One block, counted as struct pages."""
    got = world.zones.allocate(step.order, 1, step.node)
    world.counters[Counter.MEMMAP] += got.size << step.order
    return int(got[0]) if got.size else None


def free_block(world: World, step: FreeBlock) -> None:
    """As a block, or frame by frame where it is reserved since boot."""
    pfns = np.arange(step.pfn, step.pfn + (1 << step.order), dtype=np.int64)
    if world.zones.is_reserved(pfns).any():
        give_frames(world, pfns, memmap=True)
        return
    world.memory.forget(pfns)
    world.zones.free(pfns[:1], step.order)
    world.counters[Counter.MEMMAP] -= pfns.size


# -- the actor's list --


def list_add(world: World, step: ListAdd) -> None:
    """Push."""
    world.vmemmap_page_list.push(np.atleast_1d(np.asarray(step.pfns, np.int64)))


def list_empty(world: World, step: ListEmpty) -> bool:
    """Look."""
    return len(world.vmemmap_page_list) == 0


def list_pop(world: World, step: ListPop) -> Pfns:
    """Pop."""
    return world.vmemmap_page_list.take(step.count)


def free_vmemmap_page_list(world: World, step: FreeVmemmapPageList) -> None:
    """Free everything, piece by piece."""
    while len(world.vmemmap_page_list):
        give_frames(world, world.vmemmap_page_list.take_part(), memmap=True)


def read_counter(world: World, step: ReadCounter) -> int:
    """Read it."""
    return world.counters[step.counter]


HANDLERS: Handlers = {
    AllocateFrame: allocate_frame,
    AllocateFrames: allocate_frames,
    FreeFrame: free_frame,
    Count: count,
    ReadCounter: read_counter,
    AllocateBlock: allocate_block,
    FreeBlock: free_block,
    ListAdd: list_add,
    ListEmpty: list_empty,
    TakeFreed: take_freed,
    WriteData: write_data,
    ListPop: list_pop,
    FreeVmemmapPageList: free_vmemmap_page_list,
}
