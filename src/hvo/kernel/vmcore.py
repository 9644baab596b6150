"""HugeTLB pages in a kernel's memory, found by the marks in their struct pages.

A HugeTLB page is a compound page with a mark that changed place over the years (`PageHuge()` in
`mm/hugetlb.c`, later in `include/linux/page-flags.h`); which one a kernel has is told by the
constants it exports. From 5.18 to 7.0 optimised pages have *fake heads*: their tails' vmemmap is
the head's frame once more, so every first struct page of it looks like the head
(`page_fixed_fake_head()`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.image import KernelImage
from hvo.kernel.linked_lists import list_places
from hvo.kernel.page_members import Member, PageMembers
from hvo.kernel.sections import Pfns, Sections
from hvo.layout.geometry import geometry
from hvo.memory.interface import Words

HPG_FREED = 3
HPG_VMEMMAP_OPTIMIZED = 4
"""Bits of a head's `private` (enum hugetlb_page_flags in `include/linux/hugetlb.h`)."""

_MASK_LIMIT = 1 << 31
"""A link that is a mask clears fewer low bits than this; the largest HugeTLB page (16 GiB) has 16
MiB of struct pages.
"""


class HeadFlags:
    """What the kernel notes in word `private` of heads (uint64, one each): enum hugetlb_page_flags,
    include/linux/hugetlb.h.
    """

    private: Words

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Which the kernel believes to be optimised (HPG_vmemmap_optimized)."""
        return (self.private >> np.uint64(HPG_VMEMMAP_OPTIMIZED)) & np.uint64(1) != 0

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which are on a free list (HPG_freed)."""
        return (self.private >> np.uint64(HPG_FREED)) & np.uint64(1) != 0


@dataclass(frozen=True)
class HugetlbHeads(HeadFlags):
    """The heads of a kernel's HugeTLB pages, ascending; every array has one element a head.

    `pfn`, `order` (log2 of base pages), `refcount`: int64. `private`: uint64, the kernel's HugeTLB
    flags. `list_head`: uint64, virtual address of the list the page is on (one for each free list
    of a size and node, one for the pages in use of a size), 0 on none that can be followed;
    `place`: int64, its position on that list from the front, -1 on none. `unreadable`: int64,
    frames that could be heads but whose struct pages are not mapped or not in the memory; one
    element each.
    """

    pfn: Pfns
    order: Pfns
    refcount: Pfns
    private: Words
    list_head: Words
    place: Pfns
    unreadable: Pfns

    def free_list(self, order: int) -> list[Pfns]:
        """The free pages of `order`, front first (the next to be allocated): one array for each
        free list, so for each node.
        """
        mine = np.flatnonzero((self.order == order) & self.free & (self.place >= 0))
        lists = np.unique(self.list_head[mine])
        return [_in_place(self, mine[self.list_head[mine] == head]) for head in lists]


def _in_place(heads: HugetlbHeads, which: NDArray[np.intp]) -> Pfns:
    return heads.pfn[which][np.argsort(heads.place[which])]


@dataclass(frozen=True)
class Mark:
    """How this kernel marks a HugeTLB page: `member` of the head, under `mask`, has `value`;
    `order` is where its order is.
    """

    member: Member
    mask: int
    value: int
    order: Member


def hugetlb_mark(members: PageMembers) -> Mark | None:
    """The mark of this kernel, newest first; None when it exports none, because it has no HugeTLB
    pages.
    """
    info = members.image.info
    order = Member(
        members.next_page(members.flags).offset, 1
    )  # 6.6: low byte of the next page's flags
    page_type = info.number("PAGE_HUGETLB_MAPCOUNT_VALUE", None)
    if (
        page_type is not None
    ):  # 6.9. The whole word: up to 6.10 the value is a bit mask that others share.
        return Mark(members.mapcount, 0xFFFF_FFFF, page_type & 0xFFFF_FFFF, order)
    flag = info.number("PG_hugetlb", None)
    if flag is not None:  # 6.6
        return Mark(members.next_page(members.flags), 1 << flag, 1 << flag, order)
    destructor = info.number("HUGETLB_PAGE_DTOR", None)
    return (
        None
        if destructor is None
        else Mark(*_destructor(members), destructor, _destructor_order(members))
    )


def _destructor(members: PageMembers) -> tuple[Member, int]:
    """The byte that says how to free a compound page, up to 6.5; 6.3 moved it into struct folio,
    whose offsets count from the head.
    """
    folio = members.image.info.offset("folio._folio_dtor", None)
    return _second(members, folio, "page.compound_dtor"), 0xFF


def _destructor_order(members: PageMembers) -> Member:
    return _second(
        members, members.image.info.offset("folio._folio_order", None), "page.compound_order"
    )


def _second(members: PageMembers, folio: int | None, name: str) -> Member:
    if folio is not None:
        return Member(folio, 1)
    return members.next_page(Member(members.image.info.offset(name), 1))


class _Rows(NamedTuple):
    """Heads, and what is read of them, shape (5, heads): order, private, reference count, next and
    previous in the list.
    """

    pfn: Pfns
    values: Words


def hugetlb_heads(image: KernelImage, sections: Sections) -> HugetlbHeads:
    """Find every HugeTLB page.

    Only frames that are naturally aligned for a size this architecture has can be heads. Sizes
    whose struct pages fill no vmemmap page (64 KiB on arm64) have many such frames, and are looked
    for outside the larger pages only.
    """
    members = PageMembers.of(image, sections)
    mark = hugetlb_mark(members)
    if mark is None:
        return _collect(members, [], [])
    sizes = [
        page.size // image.page_size for page in geometry(image.arch, image.page_size).hugepages
    ]
    whole = image.page_size // sections.struct_page_size
    large = min(size for size in sizes if size >= whole)
    search = _Search(members, mark, max(sizes).bit_length() - 1, [], [])
    for pfns in sections.frames(large):
        search.among(pfns)
    if min(sizes) < large:
        for pfns in _beside(search.rows, sections, large, min(sizes)):
            search.among(pfns)
    return _collect(members, search.rows, search.unreadable)


def _beside(found: list[_Rows], sections: Sections, large: int, small: int) -> Iterator[Pfns]:
    """The multiples of `small` that lie in none of the pages `found` of `large` frames or more."""
    heads = np.concatenate([rows.pfn for rows in found])
    sizes = np.int64(1) << np.concatenate([rows.values[0] for rows in found]).astype(np.int64)
    heads, sizes = heads[sizes >= large], sizes[sizes >= large]
    inside = np.arange(0, large, small, dtype=np.int64)
    for blocks in sections.frames(large, at_a_time=(1 << 20) // len(inside)):
        yield (blocks[~_inside(blocks, heads, heads + sizes)][:, None] + inside).reshape(-1)


@dataclass(frozen=True)
class _Search:
    """Looks for heads of up to `largest` order among frames, and collects them and the frames whose
    struct pages cannot be read.
    """

    members: PageMembers
    mark: Mark
    largest: int
    rows: list[_Rows]
    unreadable: list[Pfns]

    def among(self, pfns: Pfns) -> None:
        """Look among `pfns` (ascending)."""
        there = self.members.readable(pfns)
        self.unreadable.append(pfns[~there])
        head = np.uint64(self.members.image.info.number("PG_head_mask"))
        pfns = pfns[there]
        self.rows.append(self._heads(pfns[self.members.read(pfns, self.members.flags) & head != 0]))

    def _heads(self, pfns: Pfns) -> _Rows:
        """Which of the compound pages `pfns` are HugeTLB's."""
        of = self.members
        columns = (self.mark.order, of.private, of.refcount, of.lru, of.lru_prev)
        wanted = (self.mark.member, of.next_page(of.link), *columns)
        values = of.read_together(pfns, wanted)
        mark, link, orders = values[0], values[1], values[2].astype(np.int64)
        marked = mark & np.uint64(self.mark.mask) == np.uint64(self.mark.value)
        aligned = pfns & ((np.int64(1) << np.minimum(orders, self.largest)) - 1) == 0
        real = marked & aligned & (orders <= self.largest) & ~_fake(of, pfns, link)
        return _Rows(pfns[real], values[2:, real])


def _fake(members: PageMembers, pfns: Pfns, links: Words) -> NDArray[np.bool_]:
    """Which page-aligned struct pages that look like heads are another's head once more.

    Then the next one, whose link `links` holds, is a tail, and of that other.
    """
    pages = members.sections.struct_page_address(pfns)
    aligned = pages % np.uint64(members.image.page_size) == 0
    tail = links & np.uint64(1) != 0
    return (
        aligned
        & tail
        & (compound_head(pages + np.uint64(members.sections.struct_page_size), links) != pages)
    )


def compound_head(pages: Words, links: Words) -> Words:
    """Addresses of the heads of tails at the addresses `pages` whose links are `links` (bit 0 set).

    From 7.1 on a link is a mask for the tail's own address where sizeof(struct page) is a power of
    two, before that a pointer: the value tells which, for as a pointer a mask would lie in the last
    2 GiB of the address space, where no vmemmap is.
    """
    value = links - np.uint64(1)
    return np.where(is_mask(value), pages & value, value)


def is_mask(values: Words) -> NDArray[np.bool_]:
    """Which links (less bit 0) are masks."""
    span = ~values + np.uint64(1)
    return (span & (span - np.uint64(1)) == 0) & (span < _MASK_LIMIT)


def _inside(pfns: Pfns, starts: Pfns, ends: Pfns) -> NDArray[np.bool_]:
    """Which `pfns` lie in one of the ascending, disjoint ranges."""
    if not len(starts):
        return np.zeros(len(pfns), np.bool_)
    at = np.maximum(np.searchsorted(starts, pfns, side="right") - 1, 0)
    return (pfns >= starts[at]) & (pfns < ends[at])


def _collect(members: PageMembers, found: list[_Rows], unreadable: list[Pfns]) -> HugetlbHeads:
    """Everything found, by frame number; what was found in both searches once."""
    pfns, first = np.unique(
        np.concatenate([np.empty(0, np.int64), *(rows.pfn for rows in found)]), return_index=True
    )
    values = np.concatenate(
        [np.empty((5, 0), np.uint64), *(rows.values for rows in found)], axis=1
    )[:, first]
    order, private, refcount, following, preceding = values
    nodes = members.sections.struct_page_address(pfns) + np.uint64(members.lru.offset)
    places = list_places(nodes, following, preceding)
    return HugetlbHeads(
        pfn=pfns,
        order=order.astype(np.int64),
        refcount=refcount.astype(np.uint32).view(np.int32).astype(np.int64),
        private=private,
        list_head=places.list_head,
        place=places.place,
        unreadable=np.unique(np.concatenate([np.empty(0, np.int64), *unreadable])),
    )
