"""The small machine that the checker explores: a handful of vmemmap pages under real descriptors.

Formats are data, so a leaf that maps 8 pages and struct pages of 1 KiB are only other numbers;
everything else is as on a real machine. A huge page takes an aligned group of vmemmap pages, a
power of two of them, and the first `used` of these are what the protocols see: the others would be
like the last one.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hvo.kernel.struct_page import (
    COUNTS,
    ERA_LAYOUT,
    LINK,
    MAPPING,
    NOT_MAPPED,
    TAIL_MAPPING,
    WORDS,
    Field,
    StructPageLayout,
)
from hvo.memory.interface import Pfns, Words
from hvo.mmu.format import Format
from hvo.mmu.formats import format_for
from hvo.mmu.shape import WORD
from hvo.steps.base import Value
from hvo.vmemmap.context import Vmemmap
from hvo.vmemmap.era import Era

BASE = 1 << 40
"""Address of the first struct page; any multiple of what the top table maps would do."""
PAGE = 4096
STRUCTS = 4
"""Struct pages in a vmemmap page: the head, the first tail (which has fields of its own), and two
that are like all others.
"""
ROW = STRUCTS * WORDS
"""Words of a vmemmap page."""
KERNEL_FRAME, PMD_FRAME, PUD_FRAME = 1, 2, 3
FIRST_FRAME = 16
"""The first frame that holds struct pages, where leaves are no larger than that."""


@dataclass(frozen=True)
class Geometry:
    """How big the machine is: `pages` huge pages of `used` vmemmap pages each, in groups of
    `group`, under leaves of `leaf` pages.

    `reserve` is how many frames each actor can get from the page allocator. A struct page is
    `struct_words` long; an odd length straddles. Huge pages are in `zones` zones, in turn.
    """

    pages: int = 2
    used: int = 3
    group: int = 4
    leaf: int = 8
    reserve: int = 12
    struct_words: int = 8
    zones: int = 1

    @property
    def order(self) -> int:
        """Order of a huge page, in base pages."""
        return (self.group * STRUCTS).bit_length() - 1

    @property
    def vmemmap_pages(self) -> int:
        """Vmemmap pages that are mapped: whole leaves."""
        return -(-self.pages * self.group // self.leaf) * self.leaf

    @property
    def first_frame(self) -> int:
        """The first frame that holds struct pages, aligned as a leaf must be."""
        return max(FIRST_FRAME, self.leaf)

    @property
    def words(self) -> int:
        """Words that are kept of a frame: a vmemmap page's, or the entries of a table."""
        return max(ROW, self.leaf)

    @property
    def leaves(self) -> int:
        """Leaves that map them."""
        return self.vmemmap_pages // self.leaf

    @property
    def struct_size(self) -> int:
        """Bytes of a struct page: a word stands for 128 bytes, so that 8 of them are a quarter of a
        page.
        """
        return self.struct_words * PAGE // ROW

    def place(self, pfn: int, word: int) -> tuple[int, int]:
        """The vmemmap page that holds `word` of the struct page of `pfn`, and the place in
        there.
        """
        return divmod(pfn * self.struct_words + word, ROW)

    def head(self, page: int) -> int:
        """The pfn of the head of huge page number `page`."""
        return page * self.group * STRUCTS

    def first_reserved(self, actor: int) -> int:
        """The first frame of what `actor` can get."""
        return self.first_frame + self.vmemmap_pages + actor * self.reserve

    def frames(self, actors: int) -> int:
        """Frames there are, with `actors` actors."""
        return self.first_reserved(actors)

    def __str__(self) -> str:
        return f"{self.pages} huge pages of {self.used} vmemmap pages, {self.leaf} to a leaf"


@dataclass(frozen=True)
class SmallVmemmap(Vmemmap):
    """The vmemmap of such a machine: only the first `used` pages of a huge page's group are worked
    on.
    """

    used: int = 3

    def vmemmap_pages(self, order: int) -> int:
        """Vmemmap pages that the protocols see of one huge page."""
        return self.used


def small_format(arch: str, leaf: int) -> Format:
    """The descriptors of `arch` with 4 KiB pages, and tables that index few bits: three levels,
    `leaf` entries in the last.
    """
    index_bits = (leaf.bit_length() - 1, 3, 3)
    return replace(format_for(arch, PAGE, 48), index_bits=index_bits, va_bits=12 + sum(index_bits))


def small_vmemmap(arch: str, era: Era, geometry: Geometry) -> SmallVmemmap:
    """What the protocols know about the small machine."""
    return SmallVmemmap(
        format=small_format(arch, geometry.leaf),
        page_size=PAGE,
        base=BASE,
        struct_page_size=geometry.struct_size,
        era=era,
        node_of=_zero,
        zone_of=partial(_zone_of, geometry),
        tail_slot=_tail_slot,
        used=geometry.used,
    )


def _zero(pfn: Value) -> Pfns:
    return np.zeros(np.shape(pfn), np.int64)


def _zone_of(geometry: Geometry, pfn: Value) -> Pfns:
    return np.asarray(pfn, np.int64) // (geometry.group * STRUCTS) % geometry.zones


def _tail_slot(zone: Value, order: int) -> Words:
    return np.uint64(KERNEL_FRAME * PAGE) + np.asarray(zone, np.uint64) * np.uint64(8)


@dataclass(frozen=True)
class StructPages:
    """Where the small machine's struct pages keep what; offsets in words of a vmemmap page, 8 words
    a struct page.
    """

    layout: StructPageLayout
    order: int
    struct_size: int

    def field(self, name: str) -> Field:
        """The field called `name` (KeyError: the kernel has none)."""
        return self.layout.fields[name]

    def link(self, head: int) -> int:
        """What word 1 of the tails of the huge page at `head` holds."""
        if self.layout.link == "pointer" or self.struct_size & (
            self.struct_size - 1
        ):  # a mask works for powers of two only
            return BASE + head * self.struct_size + 1
        return (-(self.struct_size << self.order) & WORD) + 1

    def tail(self, head: int) -> tuple[int, ...]:
        """The words of a clean tail of `head`."""
        row = [0] * WORDS
        row[LINK], row[MAPPING], row[COUNTS] = self.link(head), TAIL_MAPPING, NOT_MAPPED
        return tuple(row)

    def ordinary(self, refcount: int = 0) -> tuple[int, ...]:
        """The words of a page by itself that is referenced `refcount` times."""
        row = [0] * WORDS
        row[COUNTS] = NOT_MAPPED | refcount << 32
        return tuple(row)

    def compound(self, head: int, *, mark: bool) -> list[tuple[int, ...]]:
        """The words of each struct page of the compound page `head`, with the HugeTLB mark or
        without.
        """
        rows = [list(self.tail(head)) for _ in range(1 << self.order)]
        rows[0] = list(self.ordinary())
        for name, value in (("head", 1), ("order", self.order), ("hugetlb", int(mark))):
            put_field(rows, self.field(name), value)
        return [tuple(row) for row in rows]


def put_field(rows: list[list[int]], field: Field, value: int) -> None:
    """Set `field` of the first of `rows` to `value`."""
    raw = value if field.marks is None else field.marks[1 if value else 0]
    word = rows[field.page][field.word]
    rows[field.page][field.word] = word & (field.mask ^ WORD) | raw << field.shift


def struct_pages(era: Era, geometry: Geometry) -> StructPages:
    """The struct pages of the kernels of `era`."""
    return StructPages(ERA_LAYOUT[era.name], geometry.order, geometry.struct_size)
