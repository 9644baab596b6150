"""The vmemmap of all memory sections as the page tables map it: one element a vmemmap page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.audit.tables import Tables
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Pfns, Sections
from hvo.memory.interface import Words
from hvo.mmu.fault import FaultCode
from hvo.mmu.walk import Walk, walk

Bits = NDArray[np.uint8]

VALID, WRITABLE, PAGE, BEYOND, BROKEN, MISSING = (1 << n for n in range(6))
"""Bits of an element: it is mapped, to a frame that exists; it may be written; by a last-level entry; to a frame beyond RAM; through a table
that is not to be trusted; through a table that the memory lacks."""
_AT_A_TIME = 1 << 18  # vmemmap pages walked at once


@dataclass(frozen=True)
class VmemmapPages:
    """Every vmemmap page of `sections`, in their order, `per_section` each.

    `frame`: int64, the page frame number that it maps, -1 where none; `bits`: uint8, see `VALID` and the others.
    """

    image: KernelImage
    sections: Sections
    frame: Pfns
    bits: Bits

    @classmethod
    def read(cls, image: KernelImage, sections: Sections, tables: Tables) -> VmemmapPages:
        """Walk every page; entries under the broken ones of `tables` are marked, and not looked at."""
        per = sections.pages * sections.struct_page_size // image.page_size
        frame = np.empty(len(sections.numbers) * per, np.int64)
        bits = np.empty(len(frame), np.uint8)
        offsets = np.arange(per, dtype=np.uint64) * np.uint64(image.page_size)
        step = max(1, _AT_A_TIME // per)
        for first in range(0, len(sections.numbers), step):
            virtual = (sections.memmap[first : first + step, None] + offsets).reshape(-1)
            part = slice(first * per, first * per + len(virtual))
            frame[part], bits[part] = _judge(image, sections, walk(image.memory, image.format, image.root, virtual), tables)
        return cls(image, sections, frame, bits)

    @property
    def per_section(self) -> int:
        """Vmemmap pages of a section."""
        return self.sections.pages * self.sections.struct_page_size // self.image.page_size

    @property
    def structs(self) -> int:
        """Struct pages in a vmemmap page; where their size is no power of two, the last one straddles two."""
        return self.image.page_size // self.sections.struct_page_size

    def index_of(self, pfns: Pfns) -> NDArray[np.intp]:
        """Index of the vmemmap page that has the struct page of each of `pfns`, which lie in sections."""
        which = np.searchsorted(self.sections.numbers, pfns // self.sections.pages)
        inside = (pfns - self.sections.start_pfn[which]) * self.sections.struct_page_size // self.image.page_size
        return which * self.per_section + inside

    def address(self, index: NDArray[np.intp]) -> Words:
        """Virtual addresses of the vmemmap pages `index`."""
        which, inside = np.divmod(index, self.per_section)
        return self.sections.memmap[which] + inside.astype(np.uint64) * np.uint64(self.image.page_size)

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


def _judge(image: KernelImage, sections: Sections, found: Walk, tables: Tables) -> tuple[Pfns, Bits]:
    frame = (found.address // np.uint64(image.page_size)).astype(np.int64)
    exists = sections.contain(frame) & found.valid
    bits = exists * np.uint8(VALID) | found.writable * np.uint8(WRITABLE) | (found.level == 0) * np.uint8(PAGE)
    bits |= (found.valid & ~exists) * np.uint8(BEYOND) | (found.fault == FaultCode.OUTSIDE_MEMORY) * np.uint8(MISSING)
    broken = tables.broken(found.virtual)
    if broken.any():
        bits[broken] = BROKEN
    frame[~exists] = -1
    frame[broken] = -1
    return frame, bits
