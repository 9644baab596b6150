"""The vmemmap of all memory sections as the page tables map it: one element a vmemmap page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.audit.section_table import SectionTable
from hvo.audit.tables import Tables
from hvo.audit.whole_tables import last_level_tables, usual_entries
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Pfns, Sections
from hvo.memory.interface import Words
from hvo.memory.strided import read_what_is_there
from hvo.mmu.fault import FaultCode
from hvo.mmu.walk import Walk, walk

Bits = NDArray[np.uint8]

VALID, WRITABLE, PAGE, BEYOND, BROKEN, MISSING = (1 << n for n in range(6))
"""Bits of an element: it is mapped, to a frame that exists; it may be written; by a last-level
entry; to a frame beyond RAM; through a table that is not to be trusted; through a table that the
memory lacks."""
_AT_A_TIME = 1 << 18  # vmemmap pages walked at once


@dataclass(frozen=True)
class VmemmapPages:
    """Every vmemmap page of `sections`, in their order, `per_section` each.

    `frame`: int64, the page frame number that it maps, -1 where none; `bits`: uint8, see `VALID`
    and the others.
    """

    image: KernelImage
    sections: Sections
    frame: Pfns
    bits: Bits

    @classmethod
    def read(cls, image: KernelImage, sections: Sections, tables: Tables) -> VmemmapPages:
        """Walk every page; entries under the broken ones of `tables` are marked, and not looked
        at.
        """
        per = sections.pages * sections.struct_page_size // image.page_size
        frame = np.empty(len(sections.numbers) * per, np.int64)
        bits = np.empty(len(frame), np.uint8)
        offsets = np.arange(per, dtype=np.uint64) * np.uint64(image.page_size)
        step, table = max(1, _AT_A_TIME // per), SectionTable(sections)
        entries = image.format.table_entries(0)
        last_level = np.zeros(0, np.uint64)
        if per % entries == 0 and not tables.faults:
            starts = (sections.memmap[:, None] + offsets[::entries]).reshape(-1)
            last_level = last_level_tables(image, starts)
        for first in range(0, len(sections.numbers), step):
            memmap = sections.memmap[first : first + step]
            part = slice(first * per, (first + len(memmap)) * per)
            mine = last_level[part.start // entries : part.stop // entries]
            if len(mine) and mine.all():
                found = usual_entries(image, table, mine)
                if found is not None:
                    frame[part], bits[part] = _usual(image, found.reshape(-1))
                    continue
            virtual = (memmap[:, None] + offsets).reshape(-1)
            frame[part], bits[part] = _judge(
                image, table, walk(image.memory, image.format, image.root, virtual), tables
            )
        return cls(image, sections, frame, bits)

    @property
    def per_section(self) -> int:
        """Vmemmap pages of a section."""
        return self.sections.pages * self.sections.struct_page_size // self.image.page_size

    @property
    def structs(self) -> int:
        """Struct pages in a vmemmap page; where their size is no power of two, the last one
        straddles two.
        """
        return self.image.page_size // self.sections.struct_page_size

    def index_of(self, pfns: Pfns) -> NDArray[np.intp]:
        """Index of the vmemmap page that has the struct page of each of `pfns`, which lie in
        sections.
        """
        which = self._table.of(pfns)
        inside = (
            pfns - self.sections.start_pfn[which]
        ) * self.sections.struct_page_size >> self.image.format.page_shift
        return which * self.per_section + inside

    @cached_property
    def _table(self) -> SectionTable:
        return SectionTable(self.sections)

    def contain(self, pfns: Pfns) -> NDArray[np.bool_]:
        """Which frames (any shape) lie in sections."""
        return self._table.of(pfns) >= 0

    def address(self, index: NDArray[np.intp]) -> Words:
        """Virtual addresses of the vmemmap pages `index`."""
        which, inside = np.divmod(index, self.per_section)
        return self.sections.memmap[which] + inside.astype(np.uint64) * np.uint64(
            self.image.page_size
        )

    def struct_address(self, pfns: Pfns) -> Words:
        """Virtual addresses of the struct pages of `pfns`, which lie in sections."""
        which = self._table.of(pfns)
        return self.sections.memmap[which] + (
            (pfns - self.sections.start_pfn[which]) * self.sections.struct_page_size
        ).view(np.uint64)

    def struct_place(self, pfns: Pfns) -> tuple[Words, NDArray[np.bool_]]:
        """Physical addresses of the struct pages of `pfns`, and which are mapped (bool)."""
        which = self._table.of(pfns)
        inside = (pfns - self.sections.start_pfn[which]) * self.sections.struct_page_size
        shift = self.image.format.page_shift
        frame = self.frame[which * self.per_section + (inside >> shift)]
        place = (frame << shift) + (inside & (self.image.page_size - 1))
        return place.view(np.uint64), (which >= 0) & (frame >= 0)

    def pfn_at(self, addresses: Words) -> Pfns:
        """The frames whose struct pages are at the virtual `addresses`, -1 where none is."""
        order = np.argsort(self.sections.memmap)
        at = order[
            np.maximum(np.searchsorted(self.sections.memmap[order], addresses, side="right") - 1, 0)
        ]
        inside = (addresses - self.sections.memmap[at]) // np.uint64(self.sections.struct_page_size)
        known = (addresses >= self.sections.memmap[at]) & (inside < np.uint64(self.sections.pages))
        return np.where(known, self.sections.start_pfn[at] + inside.view(np.int64), -1)

    def pfn(self, index: NDArray[np.intp]) -> Pfns:
        """The frame whose struct page is the first in each of the vmemmap pages `index`."""
        which, inside = np.divmod(index, self.per_section)
        return self.sections.start_pfn[which] + inside * self.structs

    def has(self, index: NDArray[np.intp], bit: int) -> NDArray[np.bool_]:
        """Which of the vmemmap pages `index` (any shape) have `bit`."""
        return self.bits[index] & np.uint8(bit) != 0

    def entries(self, index: NDArray[np.intp]) -> Walk:
        """The walks of the vmemmap pages `index`, with their entries."""
        return walk(self.image.memory, self.image.format, self.image.root, self.address(index))


class StructPages(NamedTuple):
    """`words` of struct pages, shape (pages, words), zeros where they are not `there` (bool): not
    mapped, or not in the memory.
    """

    words: Words
    there: NDArray[np.bool_]


def read_struct_pages(vmemmap: VmemmapPages, pfns: Pfns, count: int = 1) -> StructPages:
    """The struct page of each of `pfns`, and of the `count` - 1 frames behind it; they lie in one
    vmemmap page unless struct pages straddle two.
    """
    size = vmemmap.sections.struct_page_size
    if vmemmap.image.page_size % size:
        return _read_straddling(vmemmap, pfns, size * count // 8)
    start, mapped = vmemmap.struct_place(pfns)
    if mapped.all():
        return StructPages(*read_what_is_there(vmemmap.image.memory, start, size * count // 8, 8))
    words = np.zeros((len(pfns), size * count // 8), np.uint64)
    there = mapped.copy()
    found, readable = read_what_is_there(vmemmap.image.memory, start[mapped], words.shape[1], 8)
    words[there] = found
    there[there] = readable
    return StructPages(words, there)


def _read_straddling(vmemmap: VmemmapPages, pfns: Pfns, count: int) -> StructPages:
    """`count` words of each struct page, every one translated by itself."""
    words = np.zeros((len(pfns), count), np.uint64)
    there = vmemmap.contain(pfns)
    inside = np.arange(count, dtype=np.uint64) * np.uint64(8)
    found = vmemmap.image.translate(vmemmap.struct_address(pfns[there])[:, None] + inside)
    readable = (found.valid & vmemmap.image.memory.readable(found.addresses)).all(axis=1)
    there[there] = readable
    words[there] = vmemmap.image.memory.read_words(found.addresses[readable])
    return StructPages(words, there)


def _usual(image: KernelImage, entries: Words) -> tuple[Pfns, Bits]:
    """Last-level entries that lead to frames which exist."""
    form = image.format
    frame = (np.asarray(form.decode(entries)) >> np.uint64(form.page_shift)).view(np.int64)
    writable = form.is_writable(entries).view(np.uint8)
    return frame, writable * np.uint8(WRITABLE) | np.uint8(VALID | PAGE)


def _judge(
    image: KernelImage, table: SectionTable, found: Walk, tables: Tables
) -> tuple[Pfns, Bits]:
    frame = (found.address >> np.uint64(image.format.page_shift)).view(np.int64)
    exists = (table.of(frame) >= 0) & found.valid
    bits = (
        exists * np.uint8(VALID)
        | found.writable * np.uint8(WRITABLE)
        | (found.level == 0) * np.uint8(PAGE)
    )
    bits |= (found.valid & ~exists) * np.uint8(BEYOND) | (
        found.fault == FaultCode.OUTSIDE_MEMORY
    ) * np.uint8(MISSING)
    broken = tables.broken(found.virtual)
    if broken.any():
        bits[broken] = BROKEN
    frame[~exists | broken] = -1
    return frame, bits
