"""Members of a running kernel's struct pages, read where VMCOREINFO says they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Pfns, Sections
from hvo.memory.interface import Words


@dataclass(frozen=True)
class Member:
    """A member `offset` bytes into a struct page (larger than one struct page: into those behind
    it), `size` bytes long.
    """

    offset: int
    size: int


@dataclass(frozen=True)
class PageMembers:
    """Where the kernel of `image` keeps what is read of a struct page, and reading it.

    `link` is compound_head up to 7.0 and compound_info from 7.1 on.
    """

    image: KernelImage
    sections: Sections
    flags: Member
    private: Member
    mapcount: Member
    refcount: Member
    link: Member
    lru: Member
    lru_prev: Member

    @classmethod
    def of(cls, image: KernelImage, sections: Sections) -> PageMembers:
        """Look the offsets up; raises `HvoError` for one that is missing."""
        offset = image.info.offset
        link = offset("page.compound_info", None)
        return cls(
            image,
            sections,
            flags=Member(offset("page.flags"), 8),
            private=Member(offset("page.private"), 8),
            mapcount=Member(offset("page._mapcount"), 4),
            refcount=Member(offset("page._refcount"), 4),
            link=Member(offset("page.compound_head") if link is None else link, 8),
            lru=Member(offset("page.lru") + offset("list_head.next"), 8),
            lru_prev=Member(offset("page.lru") + offset("list_head.prev"), 8),
        )

    def next_page(self, member: Member) -> Member:
        """The same member of the struct page behind."""
        return Member(member.offset + self.sections.struct_page_size, member.size)

    def read(self, pfns: Pfns, member: Member) -> Words:
        """The unsigned value of `member` for each frame of `pfns` (any shape).

        Raises `HvoError` for a struct page that is not mapped, `MemoryFault` for one whose frame is
        not there.
        """
        address = self.sections.struct_page_address(pfns) + np.uint64(member.offset)
        return _value(self.image.words(address & ~np.uint64(7)), address, member)

    def read_together(self, pfns: Pfns, members: Sequence[Member]) -> Words:
        """The values of several `members` (rows) for each frame of `pfns` (columns), as `read`
        gives them but with one walk.
        """
        offsets = np.array([member.offset for member in members], np.uint64)
        addresses = self.sections.struct_page_address(pfns)[:, None] + offsets
        words = self.image.words(addresses & ~np.uint64(7))
        return np.stack(
            [_value(words[:, i], addresses[:, i], member) for i, member in enumerate(members)]
        )

    def readable(self, pfns: Pfns) -> NDArray[np.bool_]:
        """Which frames (one dimension) have a struct page that can be read, and one behind it."""
        both = np.array([0, self.sections.struct_page_size], np.uint64)
        there = self.image.readable(self.sections.struct_page_address(pfns)[:, None] + both)
        return there[:, 0] & there[:, 1]


def _value(words: Words, addresses: Words, member: Member) -> Words:
    """The member at `addresses` within the words that contain it."""
    if member.size == 8:
        return words
    return (words >> ((addresses & np.uint64(7)) << np.uint64(3))) & np.uint64(
        (1 << 8 * member.size) - 1
    )
