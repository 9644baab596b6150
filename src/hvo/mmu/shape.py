"""The shape of a virtual address space: how many levels, and which bits of an address index the
table of each.

Levels are numbered as Linux names them, from the last one upward, on every architecture: 0 PTE, 1
PMD, 2 PUD, 3 P4D, 4 PGD. Addresses are Python ints or uint64 arrays of any shape; the answer has
the shape of the question.
"""

from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Bits = TypeVar("Bits", int, Words)

WORD = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Levels and widths of one virtual address space."""

    name: str
    arch: str
    page_shift: int
    va_bits: int
    index_bits: tuple[int, ...]
    """Bits of the address that index the table of each level, from level 0 upward."""
    sign_extended: bool
    """Whether the bits above `va_bits` copy the highest one below; else all are ones (kernel) or
    zeros (user).
    """

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.index_bits)

    @property
    def top(self) -> int:
        """The level of the root table."""
        return len(self.index_bits) - 1

    @property
    def page_size(self) -> int:
        """Size of a base page in bytes."""
        return 1 << self.page_shift

    def shift(self, level: int) -> int:
        """Bits of an address that an entry at `level` leaves to the levels below and the offset."""
        return self.page_shift + sum(self.index_bits[:level])

    def span(self, level: int) -> int:
        """Bytes that one entry at `level` maps."""
        return 1 << self.shift(level)

    def aligned(self, level: int) -> int:
        """Mask of the address bits that an entry at `level` decides."""
        return WORD >> self.shift(level) << self.shift(level)

    def table_entries(self, level: int) -> int:
        """Entries that a table of `level` has."""
        return 1 << self.index_bits[level]

    def index(self, address: Bits, level: int) -> Bits:
        """Index of the entry at `level` that maps the virtual `address`."""
        bits: Any = address
        return (bits >> self.shift(level)) & (self.table_entries(level) - 1)

    def prefix(self, address: Bits, level: int) -> Bits:
        """What virtual addresses have in common that the same entry at `level` maps: the bits above
        its span.
        """
        bits: Any = address
        return bits >> self.shift(level)

    def entry_location(self, table: Bits, address: Bits, level: int) -> Bits:
        """Physical address of the entry for the virtual `address` in the table of `level` at the
        physical `table`.
        """
        first: Any = table
        index: Any = self.index(address, level)
        return first + (index << 3)

    def canonical(self, address: Bits) -> Bits:
        """`address` with the bits above `va_bits` as the kernel's half of the address space has
        them.
        """
        bits: Any = address
        upper = WORD >> self.va_bits << self.va_bits
        low = bits & (WORD ^ upper)
        return low | ((low >> (self.va_bits - 1)) * upper if self.sign_extended else upper)

    @overload
    def is_canonical(self, address: int) -> bool: ...
    @overload
    def is_canonical(self, address: Words) -> Flags: ...
    def is_canonical(self, address: int | Words) -> bool | Flags:
        """Whether the hardware would walk for the virtual `address` at all; on arm64 in either
        half.
        """
        shift = self.va_bits - self.sign_extended
        upper = address >> shift
        return (upper == 0) | (upper == WORD >> shift)
