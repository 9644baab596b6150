"""A page-table format as data, masks and polarities, and the questions one asks of an entry.

Entries and addresses are Python ints or uint64 arrays of any shape; the answer has the shape of the
question. A new granule or architecture is a new row in `hvo.mmu.formats`, not a new function.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, overload

from hvo.mmu.shape import WORD, Bits, Flags, Shape, Words


class AddressField(NamedTuple):
    """Bits of an entry that hold bits of a physical address: `(entry & mask) << shift`, right where
    it is negative.
    """

    mask: int
    shift: int


@dataclass(frozen=True, kw_only=True)
class Format(Shape):
    """One page-table format: masks of 64-bit entries, 0 where the architecture has no such bit."""

    address_fields: tuple[AddressField, ...]
    valid: int
    page_bits: int
    """At level 0 an entry is a leaf when `entry & page_bits` is not 0 ..."""
    block_bits: int
    """... and above when `entry & block_bits` is not 0, or is 0 where `block_when_clear`; else it
    points at a table.
    """
    block_when_clear: bool
    max_leaf_level: int
    write_bit: int
    read_only_when_set: bool
    """Polarity of `write_bit`: arm64's AP[2] forbids to write, the others' bit allows it."""
    table_write_bit: int
    """Bit of a table entry that can make everything below it read-only, with the polarity of
    `write_bit`.
    """
    accessed: int
    access_flag_faults: bool
    """Whether an access through a leaf with the access flag clear faults (else the walker sets the
    flag).
    """
    dirty: int
    dirty_modifier: int
    """arm64's DBM: a leaf that has it and is writable is dirty."""
    contiguous: int
    contiguous_entries: tuple[int, ...]
    """Neighbours that make one contiguous group at each level; 1 where there is no such group."""
    page_attributes: int
    """Everything but the address of a writable page of kernel data (PAGE_KERNEL)."""
    block_toggle: int
    """Bits in which a block differs from a page with the same attributes."""
    table_attributes: int
    read_only_set: int
    read_only_clear: int
    writable_set: int
    writable_clear: int
    large_attribute_shift: int = 0
    """x86 PAT: how far it moves from a page (where `block_toggle` is) to a large page."""
    strict: bool = False
    """Whether address bits below a large leaf's alignment must be 0 (arm64 ignores them)."""
    write_needs: int = 0
    """Bits that a writable leaf must have as well, or it is malformed (riscv reserves W without R).
    """
    napot: bool = False
    """Whether a contiguous leaf says the size of its group in the lowest bits of its address (riscv
    Svnapot).
    """
    sme_mask: int = 0
    """AMD memory encryption: cleared from entries when an address is taken, set in those that are
    made.
    """

    @overload
    def is_valid(self, entry: int) -> bool: ...
    @overload
    def is_valid(self, entry: Words) -> Flags: ...
    def is_valid(self, entry: int | Words) -> bool | Flags:
        """Whether the hardware looks at the entry at all."""
        return (entry & self.valid) != 0

    @overload
    def is_leaf(self, entry: int, level: int) -> bool: ...
    @overload
    def is_leaf(self, entry: Words, level: int) -> Flags: ...
    def is_leaf(self, entry: int | Words, level: int) -> bool | Flags:
        """Whether the entry maps memory: a page at level 0, above it a block as far up as the
        format has them.
        """
        valid = (entry & self.valid) != 0
        if level == 0:
            return valid & ((entry & self.page_bits) != 0)
        return (
            valid
            & (((entry & self.block_bits) == 0) == self.block_when_clear)
            & (level <= self.max_leaf_level)
        )

    @overload
    def is_table(self, entry: int, level: int) -> bool: ...
    @overload
    def is_table(self, entry: Words, level: int) -> Flags: ...
    def is_table(self, entry: int | Words, level: int) -> bool | Flags:
        """Whether the entry points at a table of `level - 1`."""
        return (
            ((entry & self.valid) != 0)
            & (((entry & self.block_bits) == 0) != self.block_when_clear)
            & (level > 0)
        )

    @overload
    def is_malformed(self, entry: int, level: int) -> bool: ...
    @overload
    def is_malformed(self, entry: Words, level: int) -> Flags: ...
    def is_malformed(self, entry: int | Words, level: int) -> bool | Flags:
        """Whether the entry is valid but says what the architecture reserves, so that a walk faults
        there.
        """
        leaf = self.is_leaf(entry, level)
        malformed = self.is_valid(entry) & (leaf == 0) & (self.is_table(entry, level) == 0)
        if self.strict and level:
            low = self.encode(self.aligned(0) ^ self.aligned(level)) & (
                WORD ^ self._large_attribute
            )
            malformed = malformed | (leaf & ((entry & low) != 0))
        if self.write_needs:
            malformed = malformed | (
                leaf & self.is_writable(entry) & ((entry & self.write_needs) == 0)
            )
        if self.napot:
            wrong = (entry & self._napot_field) != self._napot_size
            malformed = malformed | (leaf & self.is_contiguous(entry) & (wrong | (level > 0)))
        return malformed

    @overload
    def is_writable(self, entry: int) -> bool: ...
    @overload
    def is_writable(self, entry: Words) -> Flags: ...
    def is_writable(self, entry: int | Words) -> bool | Flags:
        """Whether the leaf lets the kernel write (arm64: with no hardware management of the dirty
        state).
        """
        return ((entry & self.write_bit) == 0) == self.read_only_when_set

    @overload
    def is_write_protecting(self, entry: int) -> bool: ...
    @overload
    def is_write_protecting(self, entry: Words) -> Flags: ...
    def is_write_protecting(self, entry: int | Words) -> bool | Flags:
        """Whether the table entry makes everything below it read-only (x86 RW clear, arm64
        APTable[1] set).
        """
        return (((entry & self.table_write_bit) == 0) != self.read_only_when_set) & (
            self.table_write_bit > 0
        )

    @overload
    def is_accessed(self, entry: int) -> bool: ...
    @overload
    def is_accessed(self, entry: Words) -> Flags: ...
    def is_accessed(self, entry: int | Words) -> bool | Flags:
        """Whether the access flag of the leaf is set."""
        return (entry & self.accessed) != 0

    @overload
    def is_dirty(self, entry: int) -> bool: ...
    @overload
    def is_dirty(self, entry: Words) -> Flags: ...
    def is_dirty(self, entry: int | Words) -> bool | Flags:
        """Whether the leaf is dirty: its dirty bit, or (arm64) DBM on a writable one, as the
        kernel's `pte_dirty()`.
        """
        return ((entry & self.dirty) != 0) | (
            ((entry & self.dirty_modifier) != 0) & self.is_writable(entry)
        )

    @overload
    def is_contiguous(self, entry: int) -> bool: ...
    @overload
    def is_contiguous(self, entry: Words) -> Flags: ...
    def is_contiguous(self, entry: int | Words) -> bool | Flags:
        """Whether the leaf is one of a contiguous group (arm64 contiguous bit, riscv Svnapot)."""
        return (entry & self.contiguous) != 0

    def contiguous_span(self, level: int) -> int:
        """Bytes that a contiguous group of leaves at `level` maps; `span(level)` where there is no
        such group.
        """
        return self.span(level) * self.contiguous_entries[level]

    def checks_leaves(self, level: int) -> bool:
        """Whether a leaf at `level` can be malformed at all."""
        return (self.strict and level > 0) or bool(self.write_needs) or self.napot

    def output_address(self, entry: Bits, level: int) -> Bits:
        """Physical address that the valid `entry` at `level` leads to: of what a leaf maps, or of
        the next table.

        For Svnapot it is the address of the whole group.
        """
        address: Any = self.decode(entry)
        if level:
            return address - (address & (self.aligned(0) ^ self.aligned(level))) * self.is_leaf(
                entry, level
            )
        return address & (WORD ^ self._group_offset(entry)) if self.napot else address

    def translate(self, entry: Bits, level: int, address: Bits) -> Bits:
        """Physical address that the virtual `address` has through the leaf `entry` at `level`."""
        virtual: Any = address
        offset: Any = self.span(level) - 1
        if self.napot and level == 0:
            offset = self._group_offset(entry) | offset
        return self.output_address(entry, level) | (virtual & offset)

    def make_leaf(self, address: Bits, level: int, *, writable: bool = True) -> Bits:
        """A leaf at `level` that maps kernel data at the physical `address`: PAGE_KERNEL, or
        PAGE_KERNEL_RO.
        """
        attributes = self.page_attributes ^ (self.block_toggle if level else 0)
        bits: Any = address
        encoded: Any = self.encode(bits & self.aligned(level))
        return encoded | (attributes if writable else self.read_only(attributes)) | self.sme_mask

    def make_table(self, address: Bits) -> Bits:
        """An entry that points at the table at the physical `address`, as the kernel writes it for
        its own tables.
        """
        encoded: Any = self.encode(address)
        return encoded | self.table_attributes | self.sme_mask

    def with_output(self, entry: Bits, address: Bits, level: int) -> Bits:
        """The leaf `entry` at `level` with all its attributes, mapping the physical `address`
        instead.
        """
        bits: Any = entry
        new: Any = address
        aligned = self.aligned(level)
        encoded: Any = self.encode(new & aligned)
        changed = (bits & (WORD ^ self.encode(aligned) | self.sme_mask)) | encoded
        if self.napot and level == 0:
            group: Any = _one(entry, self.contiguous)
            changed = (changed & (WORD ^ (group * self._napot_field))) | (group * self._napot_size)
        return changed

    def split_entry(self, entry: Bits, level: int) -> Bits:
        """What the first entry of a table that replaces the leaf `entry` at `level` is: a leaf at
        `level - 1`.

        The kernel fills the table with PAGE_KERNEL (`__split_vmemmap_huge_pmd()`), whatever the
        leaf had: so a writable leaf's pages have all that `writable` sets; other attributes are the
        leaf's, and no group survives.
        """
        bits: Any = entry
        toggle = self.block_toggle if level == 1 else 0
        same: Any = (bits & (WORD ^ self.contiguous)) ^ toggle
        child: Any = self.with_output(same, self.output_address(entry, level), level - 1)
        if level == 1 and self.large_attribute_shift:
            child = child | ((bits & self._large_attribute) >> self.large_attribute_shift)
        return child | (_one(bits, self.write_bit) ^ self.read_only_when_set) * self.writable_set

    @property
    def protects(self) -> bool:
        """Whether PAGE_KERNEL_RO forbids to write: it is PAGE_KERNEL where an architecture defines
        none.
        """
        return bool(self.read_only_set | self.read_only_clear)

    def read_only(self, entry: Bits) -> Bits:
        """The leaf made read-only, as PAGE_KERNEL_RO is PAGE_KERNEL made read-only: unchanged where
        the format `protects` nothing.
        """
        bits: Any = entry
        return (bits | self.read_only_set) & (WORD ^ self.read_only_clear)

    def writable(self, entry: Bits) -> Bits:
        """The leaf made writable and dirty, as PAGE_KERNEL is."""
        bits: Any = entry
        return (bits | self.writable_set) & (WORD ^ self.writable_clear)

    def access_flag_cleared(self, entry: Bits) -> Bits:
        """The leaf with its access flag clear."""
        bits: Any = entry
        return bits & (WORD ^ self.accessed)

    def invalid(self, entry: Bits) -> Bits:
        """The entry with its valid bit clear and all else kept."""
        bits: Any = entry
        return bits & (WORD ^ self.valid)

    def decode(self, entry: Bits) -> Bits:
        """Every address bit that the entry holds, in its place in the physical address."""
        bits: Any = entry
        clear = WORD ^ self.sme_mask
        parts: list[Any] = [
            _shifted(bits & (field.mask & clear), field.shift) for field in self.address_fields
        ]
        return parts[0] if len(parts) == 1 else parts[0] | parts[1]

    def encode(self, address: Bits) -> Bits:
        """The bits of the physical `address` where an entry holds them."""
        parts: list[Any] = [
            _shifted(address, -field.shift) & field.mask for field in self.address_fields
        ]
        return parts[0] if len(parts) == 1 else parts[0] | parts[1]

    @property
    def _large_attribute(self) -> int:
        return self.block_toggle << self.large_attribute_shift if self.large_attribute_shift else 0

    @property
    def _napot_field(self) -> int:
        return self.encode(self.contiguous_span(0) - self.page_size)

    @property
    def _napot_size(self) -> int:
        return self.encode(self.contiguous_span(0) >> 1)

    def _group_offset(self, entry: Bits) -> Bits:
        return _one(entry, self.contiguous) * (self.contiguous_span(0) - 1)


def _one(entry: Bits, bit: int) -> Bits:
    """1 where `entry` has `bit`, else 0, as words: to be multiplied with a mask."""
    bits: Any = entry
    return (bits >> (bit.bit_length() - 1)) & 1


def _shifted(entry: Bits, shift: int) -> Bits:
    bits: Any = entry
    if shift == 0:
        return bits
    return bits << shift if shift > 0 else bits >> -shift
