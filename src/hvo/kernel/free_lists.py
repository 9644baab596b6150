"""Free memory of a zone as the allocator sees it: a queue of single frames in front of the buddy
lists.

The discipline of the queue, which stands for the kernel's per-CPU lists (mm/page_alloc.c):

* freeing single frames appends them to the tail, allocating single frames pops them from the head;
* when it has too few, whole blocks come in from the buddy lists, one at a time, smallest order
  first, lowest address
  first, each block's frames ascending;
* frames leave it for the buddy lists (and coalesce) only by `drain`, which happens when an
  allocation of an order above
  0, or of a range, finds no block.

Why so: N single-frame allocations then give the same frames as one allocation of N, also when
single frames are freed in between, as long as the queue held enough. The machine relies on this to
run the kernel's page-by-page loops as array operations. The kernel's lists are last in, first out
and give back in batches, which no counter shows.

Frames are page frame numbers (pfn), int64 arrays of one dimension. Nothing is checked here;
`hvo.kernel.buddy` does that.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.block_set import BlockSet
from hvo.kernel.frame_queue import FrameQueue
from hvo.kernel.free_area import Blocks, FreeArea, frames_of, range_blocks

Frames = NDArray[np.int64]


class Mark(NamedTuple):
    """A moment to which single-frame allocations can be rolled back."""

    serial: int
    head: int
    tail: int
    refills: int


class FreeLists:
    """The free frames between `start` and `end`, none at first, in orders 0 to `max_order`."""

    def __init__(self, start: int, end: int, max_order: int) -> None:
        self.max_order = max_order
        self._queue = FrameQueue()
        self._serial = 0
        self._marks: list[Mark] = []
        self._refills: list[Blocks] = []
        self._make_sets(start, end)

    def _make_sets(self, start: int, end: int) -> None:
        self._area = FreeArea(start, end, self.max_order)
        self._queued = BlockSet(start, end)

    def respan(self, start: int, end: int) -> None:
        """Make room for the frames `start` to `end`, which contain the old span."""
        found = self._area.blocks()
        self._make_sets(start, end)
        for blocks in found:
            self._area.put_back(blocks)
        self._queued.add(self.queued_frames())

    @property
    def queued(self) -> int:
        """Frames in the queue."""
        return len(self._queue)

    @property
    def frames(self) -> int:
        """Free frames, in the queue or in the buddy lists."""
        return self._area.frames + self.queued

    def queued_frames(self) -> Frames:
        """The frames in the queue, the next to be allocated first."""
        return self._queue.read(self._queue.head, self._queue.tail)

    def blocks(self) -> list[Blocks]:
        """The blocks in the buddy lists, by order."""
        return self._area.blocks()

    def is_free(self, pfns: Frames) -> NDArray[np.bool_]:
        """Which of `pfns` are free."""
        return self._area.holds(Blocks(0, pfns)) | self._queued.contains(pfns)

    def overlaps(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Which of `blocks` have a free frame."""
        return self._queued.overlaps(blocks.pfns, blocks.order) | self._area.overlaps(blocks)

    # --- single frames

    def pop(self, count: int) -> Frames:
        """The next `count` single frames; as many must be free."""
        self._refill(count - self.queued)
        frames = self._queue.pop(count)
        self._queued.discard(frames)
        return frames

    def _refill(self, missing: int) -> None:
        for blocks in self._area.take_whole(missing):
            frames = frames_of(blocks)
            self._queue.append(frames)
            self._queued.add(frames)
            if self._marks:
                self._refills.append(blocks)

    def push(self, pfns: Frames) -> None:
        """Free single frames, in their order."""
        self._forget_marks()
        self._queue.append(pfns)
        self._queued.add(pfns)

    def drain(self) -> None:
        """Give every queued frame back to the buddy lists (`drain_all_pages`)."""
        if not self.queued:
            return
        self._forget_marks()
        frames = np.sort(self._queue.pop(self.queued), kind="stable")  # runs: merged in one pass
        self._queued.discard(frames)
        self._area.insert(Blocks(0, frames))

    # --- blocks and ranges

    def insert(self, blocks: Blocks) -> None:
        """Free `blocks` (ascending); they coalesce."""
        self._forget_marks()
        self._area.insert(blocks)

    def take(self, order: int, count: int) -> Frames:
        """First frames of up to `count` blocks of `order`, in the sequence in which single
        allocations give them.
        """
        self._forget_marks()
        taken = self._area.take(order, count)
        if len(taken) == count or not self.queued:
            return taken
        self.drain()
        return np.concatenate((taken, self._area.take(order, count - len(taken))))

    def take_gigantic(self, order: int, count: int) -> Frames:
        """First frames of up to `count` naturally aligned ranges of `order`, above the highest
        order, lowest first.
        """
        self._forget_marks()
        taken = self._carve_lowest(order, count)
        if len(taken) == count or not self.queued:
            return taken
        self.drain()
        return np.concatenate((taken, self._carve_lowest(order, count - len(taken))))

    def _carve_lowest(self, order: int, count: int) -> Frames:
        starts = self._area.lowest_ranges(order, count)
        self._area.carve(Blocks(self.max_order, frames_of(Blocks(order, starts), self.max_order)))
        return starts

    def take_range(self, start: int, end: int) -> bool:
        """Take exactly the frames `start` to `end` if all are free, if need be after a drain;
        whether it did.
        """
        self._forget_marks()
        if not self._holds(start, end):
            self.drain()
        if not self._holds(start, end):
            return False
        for blocks in range_blocks(start, end, self.max_order):
            self._area.carve(blocks)
        return True

    def _holds(self, start: int, end: int) -> bool:
        return all(
            self._area.holds(blocks).all() for blocks in range_blocks(start, end, self.max_order)
        )

    def take_frames(self, pfns: Frames) -> None:
        """Take exactly the free frames `pfns` (ascending)."""
        self._forget_marks()
        if self._queued.contains(pfns).any():
            self.drain()
        self._area.carve(Blocks(0, pfns))

    # --- taking back

    def mark(self) -> Mark:
        """This moment, for `rollback`."""
        self._queue.keep()
        self._serial += 1
        mark = Mark(self._serial, self._queue.head, self._queue.tail, len(self._refills))
        self._marks.append(mark)
        return mark

    def is_valid(self, mark: Mark) -> bool:
        """Whether nothing but single-frame allocations happened since `mark`."""
        return mark in self._marks

    def rollback(self, mark: Mark) -> None:
        """Undo the single-frame allocations since `mark`, which must be valid and stays so."""
        del self._marks[self._marks.index(mark) + 1 :]
        head, tail = self._queue.head, self._queue.tail
        self._queued.discard(self._queue.read(max(head, mark.tail), tail))
        self._queued.add(self._queue.read(mark.head, min(head, mark.tail)))
        self._queue.rewind(mark.head, mark.tail)
        for blocks in self._refills[mark.refills :]:
            self._area.put_back(blocks)
        del self._refills[mark.refills :]

    def _forget_marks(self) -> None:
        if self._marks:
            self._marks.clear()
            self._refills.clear()
            self._queue.forget()
