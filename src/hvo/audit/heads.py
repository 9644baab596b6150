"""The HugeTLB pages in a kernel's memory, found through the vmemmap that was already walked.

What marks a HugeTLB page is `hvo.kernel.vmcore`'s knowledge, and so is what a fake head is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.audit.vmemmap import BROKEN, VmemmapPages, read_struct_pages
from hvo.kernel.page_members import Member, PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.vmcore import HeadFlags, Mark, compound_head, hugetlb_heads, hugetlb_mark
from hvo.layout.geometry import geometry
from hvo.memory.interface import Words

_AT_A_TIME = 1 << 14
"""Frames looked at together: 2 MiB of struct pages, which stay in cache."""


@dataclass(frozen=True)
class Heads(HeadFlags):
    """Heads of HugeTLB pages, ascending: `pfn`, `order` (int64), `flags` and `private` (uint64) of
    their struct pages.

    `unreadable`: frames (int64) that could be heads, but whose struct pages cannot be read.
    """

    pfn: Pfns
    order: Pfns
    flags: Words
    private: Words
    unreadable: Pfns

    def select(self, which: NDArray[np.bool_]) -> Heads:
        """Only the heads `which`."""
        return Heads(
            self.pfn[which],
            self.order[which],
            self.flags[which],
            self.private[which],
            self.unreadable,
        )


def find_heads(vmemmap: VmemmapPages, members: PageMembers) -> Heads:
    """Every HugeTLB page whose head's struct page is mapped through sound tables."""
    if vmemmap.image.page_size % vmemmap.sections.struct_page_size:
        found = hugetlb_heads(
            vmemmap.image, vmemmap.sections
        )  # struct pages straddle: none is optimised, and it may take its time
        return Heads(
            found.pfn,
            found.order,
            members.read(found.pfn, members.flags),
            found.private,
            found.unreadable,
        )
    mark = hugetlb_mark(members)
    sizes = [
        page.size // vmemmap.image.page_size
        for page in geometry(vmemmap.image.arch, vmemmap.image.page_size).hugepages
    ]
    large = min(size for size in sizes if size >= vmemmap.structs)
    if mark is None:
        return _joined([])
    broken = bool((vmemmap.bits & np.uint8(BROKEN) != 0).any())
    search = _Search(vmemmap, members, mark, max(sizes).bit_length() - 1, broken)
    found = [search.among(pfns) for pfns in vmemmap.sections.frames(large, at_a_time=_AT_A_TIME)]
    if min(sizes) < large:
        inside = np.arange(0, large, min(sizes), dtype=np.int64)
        found += [
            search.among((part[:, None] + inside).reshape(-1))
            for part in _beside(vmemmap, found, large, len(inside))
        ]
    return _joined(found)


def _beside(vmemmap: VmemmapPages, found: list[Heads], large: int, each: int) -> Iterator[Pfns]:
    """The multiples of `large` that lie in none of the HugeTLB pages `found` of as many frames or
    more.
    """
    heads = np.concatenate([part.pfn for part in found])
    orders = np.concatenate([part.order for part in found])
    heads, ends = (
        array[(1 << orders) >= large] for array in (heads, heads + (np.int64(1) << orders))
    )
    for blocks in vmemmap.sections.frames(large, at_a_time=_AT_A_TIME // each):
        if len(heads):
            at = np.maximum(np.searchsorted(heads, blocks, side="right") - 1, 0)
            blocks = blocks[(blocks < heads[at]) | (blocks >= ends[at])]
        yield blocks


def _joined(found: list[Heads]) -> Heads:
    """All of `found` by frame number, what was found twice once."""
    pfn = np.concatenate([np.zeros(0, np.int64), *(part.pfn for part in found)])
    first: NDArray[np.intp] | slice = slice(None)
    if not (pfn[1:] > pfn[:-1]).all():
        pfn, first = np.unique(pfn, return_index=True)
    order = np.concatenate([np.zeros(0, np.int64), *(part.order for part in found)])[first]
    flags = np.concatenate([np.zeros(0, np.uint64), *(part.flags for part in found)])[first]
    private = np.concatenate([np.zeros(0, np.uint64), *(part.private for part in found)])[first]
    return Heads(
        pfn,
        order,
        flags,
        private,
        np.unique(np.concatenate([np.zeros(0, np.int64), *(part.unreadable for part in found)])),
    )


@dataclass(frozen=True)
class _Search:
    """Looks for heads of up to `largest` order."""

    vmemmap: VmemmapPages
    members: PageMembers
    mark: Mark
    largest: int
    broken: bool

    def among(self, pfns: Pfns) -> Heads:
        """Those among `pfns`, whose struct pages have the next one in the same vmemmap page."""
        words, there = read_struct_pages(self.vmemmap, pfns, 2)
        if self.broken:
            there &= ~self.vmemmap.has(self.vmemmap.index_of(pfns), BROKEN)
        of = self.members
        flags, order = value(words, of.flags), value(words, self.mark.order).astype(np.int64)
        head = flags & np.uint64(of.image.info.number("PG_head_mask")) != 0
        marked = value(words, self.mark.member) & np.uint64(self.mark.mask) == np.uint64(
            self.mark.value
        )
        aligned = pfns & ((np.int64(1) << np.minimum(order, self.largest)) - 1) == 0
        rows = np.flatnonzero(
            there & head & marked & aligned & (order <= self.largest) & (order > 0)
        )
        rows = rows[~self._fake(pfns[rows], value(words[rows], of.next_page(of.link)))]
        return Heads(
            pfns[rows], order[rows], flags[rows], value(words[rows], of.private), pfns[~there]
        )

    def _fake(self, pfns: Pfns, links: Words) -> NDArray[np.bool_]:
        """Which are another head once more: the tail behind them is that one's, and both are in one
        frame.

        The fake heads of optimised pages, 5.18 to 7.0 (`page_fixed_fake_head()`), are not aligned
        as their order wants; these are, and come of a wrong entry. A wrong link in a frame of its
        own makes no fake head.
        """
        first = self.vmemmap.struct_address(pfns)
        head = compound_head(first + np.uint64(self.vmemmap.sections.struct_page_size), links)
        if (head == first).all():
            return np.zeros(len(pfns), np.bool_)
        other = self.vmemmap.pfn_at(head)
        elsewhere = (links & np.uint64(1) != 0) & (other >= 0) & (other != pfns)
        other = np.where(elsewhere, other, pfns)
        same = (
            self.vmemmap.frame[self.vmemmap.index_of(other)]
            == self.vmemmap.frame[self.vmemmap.index_of(pfns)]
        )
        return elsewhere & same


def value(words: Words, member: Member) -> Words:
    """The unsigned value of `member` in struct pages whose `words` are given, shape (pages,
    words).
    """
    word = words[:, member.offset // 8]
    if member.size == 8:
        return word
    return (word >> np.uint64(member.offset % 8 * 8)) & np.uint64((1 << 8 * member.size) - 1)
