"""The buddy system proper: the free blocks of each order, `free_area[]` of `struct zone`
(mm/page_alloc.c).

Blocks are naturally aligned. Two free buddies below the highest order never stand side by side,
because freeing coalesces them; so the blocks follow from which frames are free, whatever the order
of the calls that freed them, and working on arrays of blocks gives the same lists as working on one
block after another.

Where the kernel's lists are in the order of their last change, these are in order of address: an
allocation takes the lowest block of the smallest order that suffices and keeps the lower half at
each split (`expand`).

Frames are page frame numbers (pfn), int64. Nothing is checked here; `hvo.kernel.buddy` does that.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.block_set import BlockSet

Frames = NDArray[np.int64]


class Blocks(NamedTuple):
    """Blocks of one order; `pfns` are their first frames (int64, ascending)."""

    order: int
    pfns: Frames


def frames_of(blocks: Blocks, order: int = 0) -> Frames:
    """The frames (or, with `order`, the first frames of the smaller blocks) in `blocks`, in the
    order of `blocks`.
    """
    steps = np.arange(1 << (blocks.order - order), dtype=np.int64) << order
    return (blocks.pfns[:, None] + steps).reshape(-1)


def range_blocks(start: int, end: int, max_order: int) -> Iterator[Blocks]:
    """The largest naturally aligned blocks up to `max_order` that make up the frames `start` to
    `end`, ascending.
    """
    while start < end:
        order = min((end - start).bit_length() - 1, max_order)
        if start:
            order = min(order, (start & -start).bit_length() - 1)
        stop = end if order == max_order else start + (1 << order)
        stop -= stop & ((1 << order) - 1)
        yield Blocks(order, np.arange(start, stop, 1 << order, dtype=np.int64))
        start = stop


class FreeArea:
    """Free blocks of the frames `start` to `end` in orders 0 to `max_order`; empty at first."""

    def __init__(self, start: int, end: int, max_order: int) -> None:
        self.max_order = max_order
        start &= ~((1 << max_order) - 1)
        self._sets = [BlockSet(start, end, order) for order in range(max_order + 1)]
        self.frames = 0

    def insert(self, blocks: Blocks) -> None:
        """Free `blocks` (ascending, none of their frames free) and coalesce them with their
        buddies.
        """
        self.frames += len(blocks.pfns) << blocks.order
        pfns = blocks.pfns
        for order in range(blocks.order, self.max_order):
            pfns = self._coalesce(pfns, order)
            if not len(pfns):
                return
        self._sets[self.max_order].add(pfns)

    def _coalesce(self, pfns: Frames, order: int) -> Frames:
        """Put in the blocks whose buddy is not free; of the others, return the blocks of the next
        order (ascending).
        """
        size = 1 << order
        pair = np.zeros(len(pfns), np.bool_)  # the buddy is the next of the same array
        pair[:-1] = (pfns[:-1] ^ size) == pfns[1:]
        buddies = pfns ^ size
        free = self._sets[order].contains(buddies)
        alone = ~(free | pair)
        alone[1:] &= ~pair[:-1]
        self._sets[order].discard(buddies[free])
        self._sets[order].add(pfns[alone])
        return pfns[free | pair] & ~size

    def take(self, order: int, count: int) -> Frames:
        """Up to `count` blocks of `order`, as that many single allocations give them, in that
        sequence.
        """
        taken = [np.empty(0, np.int64)]
        for blocks in self._smallest_first(order, count << order):
            parts = frames_of(blocks, order)
            left = count - sum(map(len, taken))
            taken.append(parts[:left])
            if left < len(parts):
                self._put_range(int(parts[left]), int(blocks.pfns[-1]) + (1 << blocks.order))
        return np.concatenate(taken)

    def take_whole(self, frames: int) -> list[Blocks]:
        """Whole blocks, smallest order first and lowest first, until they hold `frames` frames or
        nothing is left.
        """
        return list(self._smallest_first(0, frames))

    def _smallest_first(self, order: int, frames: int) -> Iterator[Blocks]:
        for larger in range(order, self.max_order + 1):
            if frames <= 0:
                return
            pfns = self._sets[larger].lowest(-(-frames >> larger))
            if len(pfns):
                self._sets[larger].discard(pfns)
                self.frames -= len(pfns) << larger
                frames -= len(pfns) << larger
                yield Blocks(larger, pfns)

    def _put_range(self, start: int, end: int) -> None:
        for blocks in range_blocks(start, end, self.max_order):
            self.put_back(blocks)

    def put_back(self, blocks: Blocks) -> None:
        """Undo taking `blocks`: put them in as they are; none of their buddies may be free."""
        self._sets[blocks.order].add(blocks.pfns)
        self.frames += len(blocks.pfns) << blocks.order

    def carve(self, blocks: Blocks) -> None:
        """Take exactly `blocks` (ascending), which are wholly free, out of the free blocks that
        contain them.
        """
        levels = [blocks.pfns]
        for order in range(blocks.order + 1, self.max_order + 1):
            levels.append(_distinct(levels[-1] & -(1 << order)))
        for order in range(self.max_order, blocks.order, -1):
            self._split(levels.pop(), order)
        self._sets[blocks.order].discard(blocks.pfns)
        self.frames -= len(blocks.pfns) << blocks.order

    def _split(self, pfns: Frames, order: int) -> None:
        """Halve those of the blocks at `pfns` that are free blocks of `order`."""
        pfns = pfns[self._sets[order].contains(pfns)]
        self._sets[order].discard(pfns)
        self._sets[order - 1].add(pfns)
        self._sets[order - 1].add(pfns + (1 << (order - 1)))

    def holds(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Which of `blocks` are wholly free."""
        found = np.zeros(len(blocks.pfns), np.bool_)
        for free in self._sets[blocks.order :]:
            if len(free):
                found |= free.contains(blocks.pfns)
        return found

    def overlaps(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Which of `blocks` have at least one free frame."""
        found = self.holds(blocks)
        for free in self._sets[: blocks.order]:
            if len(free):
                found |= free.overlaps(blocks.pfns, blocks.order)
        return found

    def lowest_ranges(self, order: int, count: int) -> Frames:
        """First frames of the `count` lowest naturally aligned ranges above the highest order that
        are wholly free.
        """
        ranges, parts = np.unique(self._sets[self.max_order].members() >> order, return_counts=True)
        return ranges[parts == 1 << (order - self.max_order)][:count] << order

    def blocks(self) -> list[Blocks]:
        """Every free block, by order."""
        return [Blocks(free.order, free.members()) for free in self._sets]


def _distinct(ascending: Frames) -> Frames:
    """`ascending` with each value once."""
    first = np.ones(len(ascending), np.bool_)
    first[1:] = ascending[1:] != ascending[:-1]
    return ascending[first]
