"""What the frames behind the vmemmap are, as their own struct pages say: allocated as they should
be, free, or something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hvo.audit.heads import value
from hvo.audit.pages import HugePages
from hvo.audit.tables import Tables
from hvo.audit.vmemmap import VmemmapPages, read_struct_pages
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns

OWNED, FREE, COMPOUND, TYPED, UNKNOWN = range(5)
"""States: reserved or allocated, in a free block of the buddy allocator, part of a compound page,
of another use (a page table, user memory), not in the memory.
"""
_AT_A_TIME = 1 << 14
_NO_TYPE = 0xFFFF_FFFF
"""The map count of a page that no process maps and that has no type."""


@dataclass(frozen=True)
class Frames:
    """What is known of frames: their struct pages, the tables, and the HugeTLB pages in
    `groups`.
    """

    members: PageMembers
    vmemmap: VmemmapPages
    tables: Tables
    groups: tuple[HugePages, ...]

    def states(self, frames: Pfns) -> NDArray[np.uint8]:
        """The state of each of `frames` (in sections), see `OWNED` and the others."""
        pieces = [
            self._states(frames[first : first + _AT_A_TIME])
            for first in range(0, len(frames), _AT_A_TIME)
        ]
        return np.concatenate([np.zeros(0, np.uint8), *pieces])

    def _states(self, frames: Pfns) -> NDArray[np.uint8]:
        of = self.members
        words, there = read_struct_pages(self.vmemmap, frames)
        flags, mapcount = value(words, of.flags), value(words, of.mapcount)
        state = np.full(len(frames), OWNED, np.uint8)
        state[mapcount != np.uint64(_NO_TYPE)] = TYPED
        head = flags & np.uint64(of.image.info.number("PG_head_mask")) != 0
        state[head | (value(words, of.link) & np.uint64(1) != 0)] = COMPOUND
        state[flags & self._reserved != 0] = OWNED
        state[mapcount == np.uint64(self._buddy)] = FREE
        state[~there] = UNKNOWN
        unused = np.flatnonzero((state == OWNED) & (value(words, of.refcount) == 0))
        unused = unused[flags[unused] & self._reserved == 0]
        state[unused[self._in_free_block(frames[unused])]] = FREE
        return state

    def _in_free_block(self, frames: Pfns) -> NDArray[np.bool_]:
        """Which of `frames` lie in a block of the buddy allocator.

        Only the first struct page of a block is PageBuddy, with the order in `private`. No
        reference says nothing: all frames but the first of an allocation that is no compound page
        have none, such as the vmemmap of hot-added memory.
        """
        found = np.zeros(len(frames), np.bool_)
        for order in range(self._orders):
            left = np.flatnonzero(~found)
            if not len(left):
                break
            first = frames[left] >> order << order
            words, there = read_struct_pages(self.vmemmap, first)
            buddy = there & (value(words, self.members.mapcount) == np.uint64(self._buddy))
            found[left] = buddy & (value(words, self.members.private) >= np.uint64(order))
        return found

    @cached_property
    def _orders(self) -> int:
        return self.members.image.info.length("zone.free_area", 11)

    @cached_property
    def _reserved(self) -> np.uint64:
        # PG_reserved is not exported, but stands right before PG_private, which is, in every kernel
        # since 2.6.26 (enum pageflags).
        return np.uint64(1 << (self.members.image.info.number("PG_private") - 1))

    @cached_property
    def _buddy(self) -> int:
        return self.members.image.info.number("PAGE_BUDDY_MAPCOUNT_VALUE", -1) & 0xFFFF_FFFF

    def whose(self, frame: int, but: int) -> str:
        """What `frame` is, for people; that the vmemmap page `but` maps it is known."""
        if not self.vmemmap.contain(np.array([frame]))[0]:
            return "which no memory section has"
        others = np.flatnonzero(self.vmemmap.frame == frame)
        others = others[others != but]
        if np.isin(frame, self.tables.all):
            return "which is a page table"
        inside = self._huge_page(frame)
        if inside is not None:
            return f"which is a part of HugeTLB page {inside:#x}"
        if len(others):
            return (
                f"which holds the struct pages of frame {int(self.vmemmap.pfn(others[:1])[0]):#x}"
            )
        return _STATES[int(self.states(np.array([frame]))[0])]

    def _huge_page(self, frame: int) -> int | None:
        for pages in self.groups:
            at = int(np.searchsorted(pages.pfn, frame, side="right")) - 1
            if at >= 0 and frame < int(pages.pfn[at]) + (1 << pages.order):
                return int(pages.pfn[at])
        return None


_STATES = (
    "which is allocated, to an owner that cannot be told",
    "which is free in the page allocator",
    "which is a part of a compound page",
    "which is a page table or mapped by a process",
    "whose struct page is not in the memory",
)
