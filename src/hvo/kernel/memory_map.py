"""What a kernel's struct pages say about its memory: which frames are reserved, and which are free
in the page allocator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hvo.kernel.image import KernelImage
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns, Sections


@dataclass(frozen=True)
class MemoryMap:
    """The frames of all online sections; every array is int64 and ascending.

    `reserved_start`, `reserved_end`: ranges of frames that never came to the page allocator
    (PG_reserved). `free_pfn`, `free_order`: the free blocks in its buddy lists (the frames that
    CPUs keep at hand in lists of their own are in neither).
    """

    present_pages: int
    reserved_start: Pfns
    reserved_end: Pfns
    free_pfn: Pfns
    free_order: Pfns

    @property
    def reserved_pages(self) -> int:
        """How many frames are reserved."""
        return int((self.reserved_end - self.reserved_start).sum())

    @property
    def managed_pages(self) -> int:
        """How many frames the page allocator was given: what the kernel prints as MemTotal, in
        pages.
        """
        return self.present_pages - self.reserved_pages

    @property
    def free_pages(self) -> int:
        """How many frames are in the buddy lists."""
        return int((np.int64(1) << self.free_order).sum())


def memory_map(image: KernelImage, sections: Sections) -> MemoryMap:
    """Read every struct page of the online sections.

    Raises `HvoError` for a struct page that is not mapped, `MemoryFault` for one whose frame is not
    in the memory.
    """
    members = PageMembers.of(image, sections)
    # PG_reserved is not exported, but stands right before PG_private, which is, in every kernel
    # since 2.6.26 (enum pageflags).
    reserved = np.uint64(1 << (image.info.number("PG_private") - 1))
    buddy = np.uint64(image.info.number("PAGE_BUDDY_MAPCOUNT_VALUE") & 0xFFFF_FFFF)
    present, kept, free = 0, [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for pfns in sections.frames(online=True):
        present += len(pfns)
        kept.append(pfns[members.read(pfns, members.flags) & reserved != 0])
        free.append(pfns[members.read(pfns, members.mapcount) == buddy])
    start, end = _ranges(np.concatenate(kept))
    blocks = np.concatenate(free)
    return MemoryMap(
        present, start, end, blocks, members.read(blocks, members.private).astype(np.int64)
    )


def _ranges(pfns: Pfns) -> tuple[Pfns, Pfns]:
    """First and one behind the last of each run of consecutive `pfns` (ascending)."""
    gaps = np.flatnonzero(np.diff(pfns) != 1)
    starts = np.concatenate((pfns[:1], pfns[gaps + 1]))
    ends = np.concatenate((pfns[gaps], pfns[-1:])) + 1
    return starts, ends
