"""The HugeTLB pages of one size with the vmemmap pages that they own, as matrices: a row a HugeTLB
page, a column a vmemmap page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hvo.audit.heads import Heads
from hvo.audit.vmemmap import VALID, WRITABLE, Bits, VmemmapPages
from hvo.kernel.sections import Pfns
from hvo.memory.interface import Words

Matrix = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)


_FEW = 64


def row_any(matrix: Matrix) -> NDArray[np.bool_]:
    """Which rows of `matrix` have any true element; where rows are short it goes by columns, which
    is ten times faster.
    """
    if matrix.shape[1] > _FEW:
        return np.asarray(matrix.any(axis=1))
    if matrix.shape[1] == 8 and matrix.flags.c_contiguous:
        return matrix.view(np.uint64)[:, 0] != 0
    out = np.zeros(len(matrix), np.bool_)
    for column in range(matrix.shape[1]):
        out |= matrix[:, column]
    return out


def row_count(matrix: Matrix) -> NDArray[np.int64]:
    """How many elements of each row of `matrix` are true."""
    if matrix.shape[1] > _FEW:
        return np.count_nonzero(matrix, axis=1)
    out = np.zeros(len(matrix), np.int64)
    for column in range(matrix.shape[1]):
        out += matrix[:, column]
    return out


def rows_of(array: NDArray[Scalar], index: NDArray[np.intp], count: int) -> NDArray[Scalar]:
    """`count` elements of `array` from each of `index` on, as rows; whole rows are copied where
    they lie side by side.
    """
    if count and not len(array) % count and not (index % count).any():
        return array.reshape(-1, count)[index // count]
    return array[index[:, None] + np.arange(count, dtype=np.intp)]


def set_rows(array: NDArray[Scalar], index: NDArray[np.intp], rows: NDArray[Scalar]) -> None:
    """Put `rows` into `array`, each from its `index` on: the reverse of `rows_of`."""
    count = rows.shape[1]
    if count and not len(array) % count and not (index % count).any():
        array.reshape(-1, count)[index // count] = rows
    else:
        array[index[:, None] + np.arange(count, dtype=np.intp)] = rows


@dataclass(frozen=True)
class HugePages:
    """HugeTLB pages of 2**`order` base pages, ascending.

    `pfn`: int64; `flagged`: bool, the kernel's HPG_vmemmap_optimized; `free`: bool, on a free list;
    `flags`: uint64, of the head's struct page; `index`: of its first vmemmap page. `frame`: int64
    and `bits`: uint8, shape (pages, vmemmap pages of one), see `VmemmapPages`; no columns where the
    struct pages fill no whole vmemmap page.
    """

    order: int
    size: int
    pfn: Pfns
    flagged: NDArray[np.bool_]
    free: NDArray[np.bool_]
    flags: Words
    index: NDArray[np.intp]
    frame: Pfns
    bits: Bits

    @property
    def vmemmap_pages(self) -> int:
        """Vmemmap pages of each."""
        return self.frame.shape[1]

    @cached_property
    def valid(self) -> Matrix:
        """Which vmemmap pages are mapped to frames that exist."""
        return self.bits & np.uint8(VALID) != 0

    @cached_property
    def writable(self) -> Matrix:
        """Which may be written."""
        return self.bits & np.uint8(WRITABLE) != 0


def huge_pages(vmemmap: VmemmapPages, heads: Heads) -> Iterator[HugePages]:
    """One `HugePages` for each size, small ones first; `heads` have their struct pages within
    sections and in sound tables.
    """
    image = vmemmap.image
    for order in np.flatnonzero(np.bincount(heads.order)).tolist():
        mine = heads.order == order
        pfn = heads.pfn[mine]
        count = (vmemmap.sections.struct_page_size << order) // image.page_size
        index = vmemmap.index_of(pfn)
        yield HugePages(
            order,
            image.page_size << order,
            pfn,
            heads.flagged[mine],
            heads.free[mine],
            heads.flags[mine],
            index,
            rows_of(vmemmap.frame, index, count),
            rows_of(vmemmap.bits, index, count),
        )


def within_memory(vmemmap: VmemmapPages, heads: Heads) -> NDArray[np.bool_]:
    """Which HugeTLB pages have all their struct pages: none where a section that they reach into is
    missing.
    """
    last = heads.pfn + (np.int64(1) << heads.order) - 1
    inside = vmemmap.contain(last)
    last = np.where(inside, last, heads.pfn)
    numbers = np.stack((heads.pfn, last)) // vmemmap.sections.pages
    several = np.flatnonzero(numbers[0] != numbers[1])
    first, behind = np.searchsorted(vmemmap.sections.numbers, numbers[:, several])
    inside[several] &= behind - first == numbers[1, several] - numbers[0, several]
    return inside
