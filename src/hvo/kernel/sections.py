"""Memory sections: which memory exists and where its struct pages are (SPARSEMEM; `mm/sparse.c`,
`include/linux/mmzone.h`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.memory.interface import Words

Pfns = NDArray[np.int64]

_HAS_MEM_MAP = np.uint64(1 << 1)
_IS_ONLINE = np.uint64(1 << 2)
_FLAGS = np.uint64(0x3F)
"""section_mem_map is a pointer encoded with flags; section sizes leave at least 6 low bits for
them.
"""


@dataclass(frozen=True)
class Sections:
    """The sections that have struct pages, ascending; every array has one element a section.

    `numbers`, `start_pfn`: int64; `memmap`: uint64, virtual address of the struct page of
    `start_pfn`; `online`: bool, whether the page allocator has the section; `pages`: frames in a
    section; `struct_page_size` in bytes.
    """

    numbers: Pfns
    start_pfn: Pfns
    memmap: Words
    online: NDArray[np.bool_]
    pages: int
    struct_page_size: int

    @classmethod
    def of(cls, image: KernelImage) -> Sections:
        """Read mem_section[]; raises `HvoError` when it is not mapped, not in the core, or its
        constants are missing.
        """
        info = image.info
        pages = (1 << info.number("SECTION_SIZE_BITS")) // image.page_size
        numbers, encoded = _mem_sections(image)
        here = (encoded & _HAS_MEM_MAP) != 0
        numbers, encoded = numbers[here], encoded[here]
        start = numbers * pages
        size = info.size("page")
        memmap = (encoded & ~_FLAGS) + start.astype(np.uint64) * np.uint64(size)
        return cls(numbers, start, memmap, (encoded & _IS_ONLINE) != 0, pages, size)

    @property
    def vmemmap_base(self) -> int | None:
        """Virtual address that the struct page of frame 0 would have; None unless all sections
        agree on it.
        """
        bases = self.memmap - self.start_pfn.astype(np.uint64) * np.uint64(self.struct_page_size)
        return int(bases[0]) if len(bases) and (bases == bases[0]).all() else None

    def contain(self, pfns: Pfns) -> NDArray[np.bool_]:
        """Which frames (any shape) have a struct page."""
        if not len(self.numbers):
            return np.zeros(pfns.shape, np.bool_)
        return self.numbers[self._index(pfns)] == pfns // self.pages

    def struct_page_address(self, pfns: Pfns) -> Words:
        """Virtual addresses of the struct pages of `pfns` (any shape); raises `HvoError` for a
        frame in no section.
        """
        known = self.contain(pfns)
        if not known.all():
            raise HvoError(
                f"frame {int(pfns[~known].flat[0]):#x} lies in no section of this kernel's memory"
            )
        which = self._index(pfns)
        return self.memmap[which] + (pfns - self.start_pfn[which]).astype(np.uint64) * np.uint64(
            self.struct_page_size
        )

    def _index(self, pfns: Pfns) -> NDArray[np.intp]:
        return np.minimum(np.searchsorted(self.numbers, pfns // self.pages), len(self.numbers) - 1)

    def frames(
        self, step: int = 1, *, at_a_time: int = 1 << 20, online: bool = False
    ) -> Iterator[Pfns]:
        """Every frame that is a multiple of `step` (a power of two), ascending, in arrays of whole
        sections of about `at_a_time` frames.

        With `online`, only those of sections that the page allocator has.
        """
        starts = self.start_pfn[self.online] if online else self.start_pfn
        inside = np.arange(0, self.pages, step, dtype=np.int64)
        sections = max(1, at_a_time // len(inside))
        for first in range(0, len(starts), sections):
            pfns = (starts[first : first + sections, None] + inside).reshape(-1)
            yield pfns[pfns % step == 0]


def _mem_sections(image: KernelImage) -> tuple[Pfns, Words]:
    """Number and section_mem_map of every entry of mem_section[].

    With SPARSEMEM_EXTREME it is an array of pointers to page-sized arrays (0: none), allocated at
    boot; VMCOREINFO_SYMBOL_ARRAY then exports the pointer's value, so SYMBOL(mem_section) is the
    array's address in either case.
    """
    info = image.info
    length, size = info.length("mem_section"), info.size("mem_section")
    address, member = info.symbol("mem_section"), info.offset("mem_section.section_mem_map")
    count = 1 << (info.number("MAX_PHYSMEM_BITS") - info.number("SECTION_SIZE_BITS"))
    if length == count:
        return _read_entries(
            image, np.array([address], np.uint64), np.zeros(1, np.int64), length, size, member
        )
    roots = image.array(address, length)
    used = np.flatnonzero(roots)
    return _read_entries(image, roots[used], used, image.page_size // size, size, member)


def _read_entries(
    image: KernelImage, roots: Words, root_numbers: Pfns, each: int, size: int, member: int
) -> tuple[Pfns, Words]:
    inside = np.arange(each, dtype=np.int64)
    addresses = roots[:, None] + inside.astype(np.uint64) * np.uint64(size) + np.uint64(member)
    numbers = root_numbers[:, None] * each + inside
    return numbers.reshape(-1), image.words(addresses).reshape(-1)
