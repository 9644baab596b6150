"""How a real kernel lays out its struct pages, and which era's mechanism it has: from the constants
it exports and the values in memory.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hvo.errors import HvoError
from hvo.kernel.page_members import Member, PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.struct_page import (
    COUNTS,
    ERA_LAYOUT,
    FLAGS,
    LINK,
    MAPPING,
    NOT_MAPPED,
    PRIVATE,
    STRUCT_PAGE_SIZE,
    Field,
    StructPageLayout,
)
from hvo.kernel.vmcore import Mark, hugetlb_mark, is_mask
from hvo.memory.interface import Words


def era_name(members: PageMembers, kept_pages: int | None) -> str:
    """The era of this kernel's mechanism; `kept_pages` of an optimised page keep a frame of their
    own (None: there is no such page).

    7.1 renamed compound_head; 6.3 moved the destructor into struct folio, and later kernels have
    other marks; 5.14 to 6.1 have the same members, and only the mapping tells whether two pages are
    kept (up to 5.17).
    """
    info = members.image.info
    if info.offset("page.compound_info", None) is not None:
        return "7.1"
    if (
        info.number("HUGETLB_PAGE_DTOR", None) is None
        or info.offset("folio._folio_dtor", None) is not None
    ):
        return "6.2"
    return "5.14" if kept_pages == 2 else "5.18"


def struct_page_layout(members: PageMembers, era: str, heads: Pfns) -> StructPageLayout:
    """The layout of this kernel: that of `era` with the flags and marks which it exports; `heads`
    are its HugeTLB pages.

    Raises `HvoError` for a kernel without HugeTLB pages, or whose struct pages have their members
    at other places.
    """
    _check(members)
    info, mark, born = members.image.info, hugetlb_mark(members), ERA_LAYOUT[era]
    if mark is None:
        raise HvoError(
            f"kernel {info.text('OSRELEASE')} exports no mark of HugeTLB pages, so it has none"
        )
    reserved = (
        info.number("PG_private") - 1
    )  # the two flags stand side by side in every kernel since 2.6.26, and PG_arch_1 before them
    return replace(
        born,
        name=info.text("OSRELEASE"),
        head_bit=info.number("PG_head_mask").bit_length() - 1,
        reserved_bit=reserved,
        dcache_bit=reserved - 1,
        hwpoison_bit=info.number("PG_hwpoison", born.hwpoison_bit),
        hugetlb=_mark_field(mark),
        order=_field(mark.order, mark.order.size * 8),
        link=link_form(members, heads),
        buddy=info.number("PAGE_BUDDY_MAPCOUNT_VALUE") & 0xFFFF_FFFF,
    )


def _check(members: PageMembers) -> None:
    size, wanted = members.sections.struct_page_size, STRUCT_PAGE_SIZE
    if size != wanted:
        raise HvoError(
            f"struct pages of {size} bytes: a machine can be made of a kernel with {wanted} bytes"
        )
    for member, word in (
        (members.flags, FLAGS),
        (members.link, LINK),
        (members.private, PRIVATE),
        (members.mapcount, COUNTS),
    ):
        if member.offset != word * 8:
            raise HvoError(
                f"a member of struct page at offset {member.offset}: expected it at {word * 8}"
            )
    if members.image.info.offset("page.mapping") != MAPPING * 8:
        raise HvoError(
            f"OFFSET(page.mapping)={members.image.info.offset('page.mapping')}: expected"
            f" {MAPPING * 8}"
        )


def _field(
    member: Member, bits: int, shift: int = 0, marks: tuple[int, int] | None = None
) -> Field:
    page, inside = divmod(member.offset, STRUCT_PAGE_SIZE)
    return Field(page, inside // 8, inside % 8 * 8 + shift, bits, marks)


def _mark_field(mark: Mark) -> Field:
    """Where the mark is, and what it holds when clear: no type for a page type, else 0."""
    if mark.mask.bit_count() == 1:
        return _field(mark.member, 1, mark.mask.bit_length() - 1)
    clear = NOT_MAPPED if mark.member.size == 4 else 0
    return _field(mark.member, mark.member.size * 8, marks=(clear, mark.value))


def link_form(members: PageMembers, heads: Pfns) -> str:
    """How tails find their heads, "pointer" or "mask", by the value that a tail holds (of a HugeTLB
    page, else of any compound page).
    """
    tails = _links(members, heads[:1] + 1) if len(heads) else _any_links(members)
    if not len(tails):
        return (
            "pointer" if members.image.info.offset("page.compound_info", None) is None else "mask"
        )
    return "mask" if is_mask(tails[:1] - np.uint64(1))[0] else "pointer"


def _any_links(members: PageMembers) -> Words:
    for pfns in members.sections.frames(online=True):
        found = _links(members, pfns)
        if len(found):
            return found
    return np.zeros(0, np.uint64)


def _links(members: PageMembers, pfns: Pfns) -> Words:
    """The links of those of `pfns` that are tails."""
    links = members.read(pfns, members.link)
    return links[links & np.uint64(1) != 0]
