"""What the steps of memory hotplug do to a machine."""

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.buddy import AllocatorError
from hvo.kernel.zone_layout import zone_number
from hvo.memory.interface import Words
from hvo.steps.base import strided
from hvo.steps.entries import TableIsEmpty
from hvo.steps.frames import AllocateBlock, Counter, FreeBlock
from hvo.steps.hotplug import AddMemory, OfflinePages, OnlinePages, RemoveMemory
from hvo.steps.struct_pages import InitPage, InitPages
from hvo.world.state import World

Range = tuple[int, int]


class Hotplug:
    """Memory hotplug of `world`; teaches it the steps."""

    def __init__(self, world: World) -> None:
        self.world = world
        for step, handler in (
            (AddMemory, self._add),
            (RemoveMemory, self._remove),
            (OnlinePages, self._online),
            (OfflinePages, self._offline),
            (InitPage, self._init_page),
            (InitPages, self._init_pages),
            (AllocateBlock, self._allocate_block),
            (FreeBlock, self._free_block),
            (TableIsEmpty, self._is_empty),
        ):
            world.teach(step, handler)

    # -- RAM --

    def _add(self, step: AddMemory) -> None:
        memory = self.world.memory
        memory.set_ranges(joined([*memory.ranges, self._bytes(step.start, step.end)]))

    def _remove(self, step: RemoveMemory) -> None:
        memory = self.world.memory
        written = memory.written()
        memory.forget(written[(written >= step.start) & (written < step.end)])
        memory.set_ranges(without(memory.ranges, self._bytes(step.start, step.end)))

    def _bytes(self, start: int, end: int) -> Range:
        size = self.world.vmemmap.page_size
        return start * size, end * size

    # -- the page allocator --

    def _online(self, step: OnlinePages) -> None:
        self.world.zones.add(step.start, step.end, step.node, movable=True)
        if step.hosted:
            self.world.zones.reserve_range(step.start, step.start + step.hosted)

    def _offline(self, step: OfflinePages) -> bool:
        zones = self.world.zones
        if not zones.is_free(np.arange(step.start + step.hosted, step.end, dtype=np.int64)).all():
            return False
        hosted = np.arange(step.start, step.start + step.hosted, dtype=np.int64)
        zones.free_reserved(hosted[zones.is_reserved(hosted)])
        zones.remove(step.start, step.end)
        return True

    def _allocate_block(self, step: AllocateBlock) -> int | None:
        got = self.world.zones.allocate(step.order, 1, step.node)
        self.world.counters[Counter.MEMMAP] += got.size << step.order
        return int(got[0]) if got.size else None

    def _free_block(self, step: FreeBlock) -> None:
        pfns = np.arange(step.pfn, step.pfn + (1 << step.order), dtype=np.int64)
        if self.world.zones.is_reserved(pfns).any():
            self.world.give_frames(pfns, memmap=True)
            return
        self.world.memory.forget(pfns)
        self.world.zones.free(pfns[:1], step.order)
        self.world.counters[Counter.MEMMAP] -= pfns.size

    # -- struct pages and tables --

    def _row(self, node: int) -> Words:
        """The struct page of a free page in the movable zone of `node`, which may yet have to be
        made.
        """
        number = zone_number(self.world.vmemmap.format.arch, "Movable")
        return self.world.layout.free_row(node, number)

    def _init_page(self, step: InitPage) -> None:
        row = self._row(step.node)
        self.world.store(
            self.world.translate(
                strided(self.world.vmemmap.address(step.pfn), row.size, 8), write=True
            ),
            row,
        )

    def _init_pages(self, step: InitPages) -> None:
        v = self.world.vmemmap
        pages = (step.end - step.start) * v.struct_page_size // v.page_size
        frames: NDArray[np.int64] = self.world.frame_of(
            strided(v.address(step.start), pages, v.page_size)
        )
        self.world.memory.fill_rows(frames, self._row(step.node))

    def _is_empty(self, step: TableIsEmpty) -> bool:
        return not self.world.memory.read_words(strided(step.table, step.entries, 8)).any()


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
