"""The same protocol, mended: the frames go back after the flush."""

import numpy as np

from hvo.protocol import (
    Acquire,
    Count,
    Counter,
    Flush,
    FreeFrame,
    Lock,
    Pfns,
    ReadEntry,
    Release,
    Steps,
    StorePage,
    Value,
    Vmemmap,
    Words,
    WriteEntry,
    pte_of,
    shared_tail,
    split_vmemmap_huge_pmd,
)


def optimize(v: Vmemmap, order: int, head: int) -> Steps[None]:
    """Map the tails of the huge page at pfn `head` to the one frame that all tails share."""
    shared = yield from shared_tail(v, order, head)
    if shared is None:  # there is no memory for it
        return
    start = v.address(head)
    end = start + np.uint64(v.vmemmap_pages(order) * v.page_size)
    yield from Acquire(Lock.MMAP_READ)
    error = yield from split_vmemmap_huge_pmd(v, start, v.node_of(head), flush=True)
    if not error:
        frames = yield from _share(v, order, start, shared)
        yield from Flush(start, end)
        for frame in frames:
            yield from FreeFrame(frame, memmap=True)
        yield from StorePage(head, "vmemmap_optimized", 1)
        yield from Count(Counter.OPTIMIZED_KEY, 1)
    yield from Release(Lock.MMAP_READ)


def _share(v: Vmemmap, order: int, start: Words, shared: Value) -> Steps[list[Pfns]]:
    frames: list[Pfns] = []
    table = yield from pte_of(v, start)
    for page in range(1, v.vmemmap_pages(order)):
        location, address = table + np.uint64(8 * page), start + np.uint64(page * v.page_size)
        old = yield from ReadEntry(location, 0)
        yield from WriteEntry(location, v.leaf_entry(shared, writable=False), 0, address)
        frames.append(v.pfn(old.value))
    return frames
