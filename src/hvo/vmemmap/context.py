"""What a protocol knows without reading memory: formats, sizes, and where things are."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hvo.memory.interface import Pfns, Words
from hvo.mmu.formats import Format
from hvo.steps.base import Value
from hvo.vmemmap.era import Era

ENOMEM = -12
"""An allocation was refused; nothing is optimised (or restored), nothing is lost."""
EOPNOTSUPP = -95
"""The page must not be optimised (EOPNOTSUPP)."""


@dataclass(frozen=True)
class Vmemmap:
    """The vmemmap of one machine as a protocol sees it.

    `base` is the address of the struct page of pfn 0; `node_of` and `zone_of` give the NUMA node
    and zone index of pfns, `tail_slot` the location of the variable that holds the shared tail of a
    zone (7.1), for one or many.
    """

    format: Format
    page_size: int
    base: int
    struct_page_size: int
    era: Era
    node_of: Callable[[Value], Pfns]
    zone_of: Callable[[Value], Pfns]
    tail_slot: Callable[[Value, int], Words]

    @property
    def structs_per_page(self) -> int:
        """Struct pages in one vmemmap page."""
        return self.page_size // self.struct_page_size

    @property
    def leaf(self) -> int:
        """Bytes that one leaf above the last level, or one last-level table, maps."""
        return self.format.span(1)

    def vmemmap_pages(self, order: int) -> int:
        """Vmemmap pages that hold the struct pages of one huge page of `order` (0 when they fill
        less than one).
        """
        return (self.struct_page_size << order) // self.page_size

    def address(self, pfn: Value) -> Words:
        """Address of the struct page of `pfn` (uint64, wrapping like the kernel's arithmetic)."""
        pfns = np.asarray(pfn, np.int64).astype(np.uint64)
        return pfns * np.uint64(self.struct_page_size) + np.uint64(self.base)

    def pte_location(self, pmd_entry: Value, address: Value) -> Words:
        """Where the PTE of `address` lies in the table that `pmd_entry` points to
        (`pte_offset_kernel`).
        """
        table = self.format.output_address(np.asarray(pmd_entry, np.uint64), 1)
        return table + self.format.index(np.asarray(address, np.uint64), 0) * np.uint64(8)

    def pfn(self, entry: Value, level: int = 0) -> Pfns:
        """Frame number that `entry` of `level` maps."""
        shift = np.uint64(self.page_size.bit_length() - 1)
        physical = self.format.output_address(np.asarray(entry, np.uint64), level)
        return (physical >> shift).astype(np.int64)

    def leaf_entry(self, pfn: Value, *, writable: bool) -> Words:
        """A PTE that maps the frame `pfn` (`mk_pte` with PAGE_KERNEL or PAGE_KERNEL_RO)."""
        physical = np.asarray(pfn, np.int64).astype(np.uint64) * np.uint64(self.page_size)
        return self.format.make_leaf(physical, 0, writable=writable)

    def table_entry(self, pfn: Value) -> Words:
        """A PMD entry that points to the table in the frame `pfn`."""
        return self.format.make_table(
            np.asarray(pfn, np.int64).astype(np.uint64) * np.uint64(self.page_size)
        )

    def pieces(self, order: int, first: int) -> list[tuple[int, int]]:
        """The vmemmap pages `first`... of a huge page of `order`, cut where leaves end: (first
        page, pages) of each piece.

        Huge pages are naturally aligned, so their struct pages either lie inside one leaf or are
        whole leaves.
        """
        total, per_leaf = self.vmemmap_pages(order), self.leaf // self.page_size
        cuts = [first, *range(per_leaf, total, per_leaf), total]
        return [(a, b - a) for a, b in pairwise(cuts) if b > a]
