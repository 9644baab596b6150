"""The page allocator of one zone (mm/page_alloc.c): what may be asked, what is refused, and what it
counts.

Single frames come out of a first-in-first-out queue in front of the buddy lists, in an order such
that N allocations of one frame give the same frames as one allocation of N (`hvo.kernel.free_lists`
says how and why); blocks come out of the buddy lists, lowest address of the smallest sufficient
order first (`hvo.kernel.free_area`).

Frames are page frame numbers (pfn), int64 arrays of one dimension.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.block_set import BlockSet, batches
from hvo.kernel.failure_injection import FailureInjection
from hvo.kernel.free_area import Blocks, frames_of, range_blocks
from hvo.kernel.free_lists import FreeLists, Mark
from hvo.kernel.pfn_ranges import PfnRanges

Frames = NDArray[np.int64]

_STRIDE = 1 << 20  # frames of a large range that are an array at a time


class AllocatorError(Exception):
    """A request that no allocator could serve (a double free, a misaligned block): a defect of the
    caller.
    """


class ZoneMark(NamedTuple):
    """A moment of a zone, for `Zone.rollback`."""

    lists: Mark
    remaining: int | None


class Zone:
    """Frames `start_pfn` to `end_pfn` of one node, all free at first, in blocks of up to
    `max_order`.

    `movable`: only for contents that can migrate (ZONE_MOVABLE). `max_order` as in kernels from 6.4
    on: the largest order there is (10 with 4 KiB pages, 11 with 16 KiB, 13 with 64 KiB).
    `managed_pages` counts the frames given to the allocator: free or allocated, not reserved at
    boot. `present` are the frames the zone has, `failures` may be shared with other zones.
    """

    def __init__(
        self,
        node: int,
        name: str,
        start_pfn: int,
        end_pfn: int,
        max_order: int = 10,
        movable: bool = False,
    ) -> None:
        self.node, self.name, self.movable, self.max_order = node, name, movable, max_order
        self.start_pfn, self.end_pfn = start_pfn, end_pfn
        self.present = PfnRanges()
        self.managed_pages = 0
        self.failures = FailureInjection()
        self._lists = FreeLists(self._base, end_pfn, max_order)
        self._reserved = BlockSet(self._base, end_pfn)
        self.add(start_pfn, end_pfn)

    def __repr__(self) -> str:
        return f"<Zone {self._where}: {self.free_pages} of {self.managed_pages} frames free>"

    @property
    def _where(self) -> str:
        return f"{self.name} of node {self.node}"

    @property
    def _base(self) -> int:
        return self.start_pfn & ~((1 << self.max_order) - 1)

    # --- what there is

    @property
    def queued(self) -> int:
        """Frames in the queue of single frames."""
        return self._lists.queued

    @property
    def free_pages(self) -> int:
        """Free frames, in the queue or in the buddy lists."""
        return self._lists.frames

    @property
    def present_pages(self) -> int:
        """Frames the zone has, reserved ones included."""
        return self.present.frames

    @property
    def reserved_pages(self) -> int:
        """Frames reserved at boot and never given to the allocator since."""
        return len(self._reserved)

    @property
    def fail_after(self) -> int | None:
        """How many further allocations succeed, each of one frame or one block; None: no failure is
        injected.
        """
        return self.failures.remaining

    @fail_after.setter
    def fail_after(self, count: int | None) -> None:
        self.failures.remaining = count

    def is_free(self, pfns: Frames) -> NDArray[np.bool_]:
        """Which of `pfns` are free, in the queue or in the buddy lists; frames outside the zone are
        not.
        """
        found = self.present.contain(pfns)
        found[found] = self._lists.is_free(pfns[found])
        return found

    def is_reserved(self, pfns: Frames) -> NDArray[np.bool_]:
        """Which of `pfns` are reserved since boot; frames outside the zone are not."""
        found = self.present.contain(pfns)
        found[found] = self._reserved.contains(pfns[found])
        return found

    def free_blocks(self) -> tuple[Frames, Frames]:
        """First frames of the blocks in the buddy lists, ascending, and their orders (both
        int64).
        """
        found = self._lists.blocks()
        pfns = np.concatenate([blocks.pfns for blocks in found])
        orders = np.repeat(np.arange(len(found)), [len(blocks.pfns) for blocks in found])
        by_address = np.argsort(pfns)
        return pfns[by_address], orders[by_address]

    def queued_frames(self) -> Frames:
        """The frames in the queue, the next to be allocated first."""
        return self._lists.queued_frames()

    # --- single frames

    def allowed(self, count: int) -> int:
        """How many of `count` single-frame allocations would succeed now."""
        return self.failures.allow(min(count, self.free_pages))

    def allocate_frames(self, count: int) -> Frames | None:
        """`count` single frames, or None (and nothing changed) where not all of them can be had."""
        return self.allocate_upto(count) if self.allowed(count) == count else None

    def allocate_upto(self, count: int) -> Frames:
        """The frames that `count` single-frame allocations give; fewer where the later ones
        fail.
        """
        count = self.allowed(count)
        self.failures.spend(count)
        return self._lists.pop(count)

    def free_frames(self, pfns: Frames) -> None:
        """Free single frames, in their order, to the tail of the queue.

        Raises `AllocatorError` for a frame that is free, reserved, twice in `pfns` or not of this
        zone.
        """
        self._check_allocated(Blocks(0, _ascending(pfns)))
        self._lists.push(pfns)

    def free_reserved(self, pfns: Frames) -> int:
        """Free frames some of which may be reserved (`free_vmemmap_page`); how many were, and are
        now managed.
        """
        ordered = _ascending(pfns)
        self._check_not_free(Blocks(0, ordered))
        reserved = ordered[self._reserved.contains(ordered)]
        self._reserved.discard(reserved)
        self.managed_pages += len(reserved)
        self._lists.push(pfns)
        return len(reserved)

    def drain(self) -> None:
        """Give every queued frame back to the buddy lists (`drain_all_pages`)."""
        self._lists.drain()

    # --- blocks

    def allocate(self, order: int, count: int) -> Frames:
        """First frames of up to `count` blocks of `order`; fewer where memory, or the injected
        limit, ends.
        """
        if order > self.max_order:
            raise AllocatorError(
                f"order {order} is above the highest of zone {self._where}, {self.max_order}"
            )
        if order == 0:
            return self.allocate_upto(count)
        taken = self._lists.take(order, self.failures.allow(count))
        self.failures.spend(len(taken))
        return taken

    def allocate_gigantic(self, order: int, count: int = 1) -> Frames:
        """First frames of up to `count` naturally aligned ranges of an `order` above `max_order`,
        lowest first.
        """
        if order <= self.max_order:
            raise AllocatorError(
                f"order {order} is not above the highest of zone {self._where}, {self.max_order}"
            )
        taken = self._lists.take_gigantic(order, self.failures.allow(count))
        self.failures.spend(len(taken))
        return taken

    def allocate_range(self, start: int, end: int) -> bool:
        """Take exactly the frames `start` to `end` if all are free (`alloc_contig_range`); whether
        it did.
        """
        if not self.failures.allow(1) or not self.present.contain_range(start, end):
            return False
        taken = self._lists.take_range(start, end)
        self.failures.spend(int(taken))
        return taken

    def free(self, pfns: Frames, order: int) -> None:
        """Free blocks of `order` (0: single frames, to the queue; gigantic ones too); they
        coalesce.

        Raises `AllocatorError` for a block that is misaligned, not wholly of this zone, or has a
        free or reserved frame.
        """
        if order == 0:
            self.free_frames(pfns)
            return
        blocks = Blocks(order, _ascending(pfns))
        self._check_aligned(blocks)
        if order > self.max_order:
            blocks = Blocks(self.max_order, frames_of(blocks, self.max_order))
        self._check_allocated(blocks)
        self._lists.insert(blocks)

    def free_range(self, start: int, end: int) -> None:
        """Free the frames `start` to `end` straight to the buddy lists (`free_contig_range`)."""
        pieces = list(range_blocks(start, end, self.max_order))
        for blocks in pieces:
            self._check_allocated(blocks)
        for blocks in pieces:
            self._lists.insert(blocks)

    # --- building a machine, hotplug

    def take(self, pfns: Frames) -> None:
        """Take exactly the free frames `pfns`, as when a machine is built in the state of
        another.
        """
        ordered = _ascending(pfns)
        held = self.is_free(ordered)
        if not held.all():
            raise AllocatorError(f"pfn {ordered[~held][0]:#x} is not free in zone {self._where}")
        self._lists.take_frames(ordered)

    def reserve(self, pfns: Frames) -> None:
        """Reserve the free frames `pfns` at boot: they are not managed until `free_reserved`."""
        self.take(pfns)
        self._reserved.add(pfns)
        self.managed_pages -= len(pfns)

    def reserve_range(self, start: int, end: int) -> None:
        """Reserve the free frames `start` to `end`, as `reserve` does, without an array of them
        all.
        """
        self._take_range(start, end, "reserve")
        for first in range(start, end, _STRIDE):
            self._reserved.add(np.arange(first, min(first + _STRIDE, end), dtype=np.int64))
        self.managed_pages -= end - start

    def add(self, start: int, end: int) -> None:
        """Add the frames `start` to `end`, free and managed; the zone grows to span them."""
        if self.present.overlap_range(start, end):
            raise AllocatorError(f"frames {start:#x}-{end:#x} overlap what zone {self._where} has")
        self._span(min(start, self.start_pfn), max(end, self.end_pfn))
        self.present.add(start, end)
        for blocks in range_blocks(start, end, self.max_order):
            self._lists.insert(blocks)
        self.managed_pages += end - start

    def remove(self, start: int, end: int) -> None:
        """Take the frames `start` to `end`, which must all be free, out of the zone."""
        self._take_range(start, end, "remove")
        self.present.remove(start, end)
        self.managed_pages -= end - start

    def _take_range(self, start: int, end: int, purpose: str) -> None:
        if not (self.present.contain_range(start, end) and self._lists.take_range(start, end)):
            raise AllocatorError(
                f"frames {start:#x}-{end:#x} of zone {self._where} are not all free: cannot"
                f" {purpose}"
            )

    def _span(self, start: int, end: int) -> None:
        if (start, end) == (self.start_pfn, self.end_pfn):
            return
        reserved = self._reserved.members()
        self.start_pfn, self.end_pfn = start, end
        self._lists.respan(self._base, end)
        self._reserved = BlockSet(self._base, end)
        self._reserved.add(reserved)

    # --- taking back

    def mark(self) -> ZoneMark:
        """This moment, for `rollback`; any call but a single-frame allocation makes it void."""
        return ZoneMark(self._lists.mark(), self.failures.remaining)

    def is_valid(self, mark: ZoneMark) -> bool:
        """Whether nothing but single-frame allocations happened since `mark`."""
        return self._lists.is_valid(mark.lists)

    def rollback(self, mark: ZoneMark) -> None:
        """Undo the single-frame allocations since `mark`, and restore the injected limit of that
        moment.
        """
        if not self.is_valid(mark):
            raise AllocatorError(
                f"rollback to a void mark: something else happened in zone {self._where} since"
            )
        self._lists.rollback(mark.lists)
        self.failures.remaining = mark.remaining

    # --- checks

    def _check_allocated(self, blocks: Blocks) -> None:
        self._check_not_free(blocks)
        reserved = self._reserved.overlaps(blocks.pfns, blocks.order)
        self._refuse(blocks, reserved, "is reserved, never given to the allocator")

    def _check_not_free(self, blocks: Blocks) -> None:
        for part in (Blocks(blocks.order, pfns) for pfns in batches(blocks.pfns)):
            self._refuse(
                part, ~self.present.contain(part.pfns, 1 << part.order), "is outside the zone"
            )
            self._refuse(part, self._lists.overlaps(part), "is free already (double free)")

    def _check_aligned(self, blocks: Blocks) -> None:
        self._refuse(
            blocks, blocks.pfns & ((1 << blocks.order) - 1) != 0, "is not aligned to its order"
        )

    def _refuse(self, blocks: Blocks, wrong: NDArray[np.bool_], why: str) -> None:
        if wrong.any():
            first = int(blocks.pfns[wrong][0])
            raise AllocatorError(
                f"block of order {blocks.order} at pfn {first:#x} {why}: zone {self._where}"
            )


def _ascending(pfns: Frames) -> Frames:
    """`pfns` sorted, not copied where they are; raises `AllocatorError` for one that is there
    twice.
    """
    if (pfns[1:] > pfns[:-1]).all():
        return pfns
    ordered = pfns[::-1] if (pfns[1:] < pfns[:-1]).all() else np.sort(pfns)
    twice = ordered[1:] == ordered[:-1]
    if twice.any():
        raise AllocatorError(f"pfn {int(ordered[1:][twice][0]):#x} is there twice in one call")
    return ordered
