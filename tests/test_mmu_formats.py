"""Descriptor formats: laws that hold in each, and entries that were computed by hand or read in
real kernels' memory.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.errors import HvoError
from hvo.mmu.formats import FORMATS, format_for

ALL = list(FORMATS.values())
EXAMPLES = settings(derandomize=True, database=None, max_examples=15, deadline=None)
PHYSICAL_BITS = {"arm64": 48, "x86_64": 52, "riscv64": 56, "loongarch64": 48}

each_format = pytest.mark.parametrize("format", ALL, ids=lambda format: format.name)
words = st.integers(0, (1 << 64) - 1)


def physical_bits(format):
    """arm64 has 52 bits with 64K pages (LPA) and with LPA2."""
    return (
        52
        if format.arch == "arm64" and (format.page_shift == 16 or format.va_bits == 52)
        else PHYSICAL_BITS[format.arch]
    )


def leaves(format):
    """(level, aligned physical address, whether writable)."""
    return st.tuples(
        st.integers(0, min(format.max_leaf_level, format.top)),
        st.integers(0, (1 << physical_bits(format)) - 1),
        st.booleans(),
    ).map(lambda drawn: (drawn[0], drawn[1] & format.aligned(drawn[0]), drawn[2]))


def test_all_formats_of_the_issue_are_there():
    """arm64 4K 39/48/52, 16K 47/48/52, 64K 42/48/52, x86-64 with 4 and 5 levels, riscv64
    Sv39/48/57, loongarch64 16K, levels by hand.
    """
    levels = {(row.arch, row.page_size, row.va_bits): row.levels for row in ALL}
    assert levels == {
        ("arm64", 4096, 39): 3,
        ("arm64", 4096, 48): 4,
        ("arm64", 4096, 52): 5,
        ("arm64", 16384, 36): 2,
        ("arm64", 16384, 47): 3,
        ("arm64", 16384, 48): 4,
        ("arm64", 16384, 52): 4,
        ("arm64", 65536, 42): 2,
        ("arm64", 65536, 48): 3,
        ("arm64", 65536, 52): 3,
        ("x86_64", 4096, 48): 4,
        ("x86_64", 4096, 57): 5,
        ("riscv64", 4096, 39): 3,
        ("riscv64", 4096, 48): 4,
        ("riscv64", 4096, 57): 5,
        ("loongarch64", 16384, 47): 3,
    }


@each_format
def test_widths_add_up(format):
    """Offset and indices are the whole address, and a whole table fills a page."""
    assert format.shift(format.levels) == format.va_bits
    assert format.table_entries(0) * 8 == format.page_size
    assert format.span(1) == format.table_entries(0) * format.page_size


@each_format
@EXAMPLES
@given(data=st.data())
def test_a_made_leaf_says_what_it_was_made_of(format, data):
    """Address, level, permission, accessed, dirty, not contiguous: made, then asked."""
    level, address, writable = data.draw(leaves(format))
    entry = format.make_leaf(address, level, writable=writable)
    assert format.is_valid(entry)
    assert format.is_leaf(entry, level)
    assert not format.is_table(entry, level)
    assert not format.is_malformed(entry, level)
    assert format.output_address(entry, level) == address
    assert format.is_writable(entry) == (writable or not format.protects)
    assert format.is_accessed(entry)
    assert format.is_dirty(entry) or not writable
    assert not format.is_contiguous(entry)


@each_format
@EXAMPLES
@given(data=st.data())
def test_changes_change_one_thing(format, data):
    """Read-only, writable, old, invalid, another address: each changes its own answer and is undone
    by its opposite.
    """
    level, address, _ = data.draw(leaves(format))
    _, other, _ = data.draw(leaves(format))
    other &= format.aligned(level)
    entry = format.make_leaf(address, level)
    protected = format.read_only(entry)
    assert protected == format.make_leaf(address, level, writable=False)
    assert format.is_writable(protected) != format.protects
    assert format.writable(protected) == entry
    old = format.access_flag_cleared(entry)
    assert (format.is_accessed(old), format.is_valid(old), old | format.accessed) == (
        False,
        True,
        entry,
    )
    gone = format.invalid(entry)
    assert (format.is_valid(gone), format.is_leaf(gone, level)) == (False, False)
    assert gone | entry & format.valid == entry
    moved = format.with_output(protected, other, level)
    assert format.output_address(moved, level) == other
    assert format.with_output(moved, address, level) == protected


@each_format
@EXAMPLES
@given(data=st.data())
def test_a_table_entry_leads_to_its_table(format, data):
    """At every level but the last a table entry is a table and no leaf, and gives the whole address
    back.
    """
    address = data.draw(st.integers(0, (1 << physical_bits(format)) - 1)) & format.aligned(0)
    level = data.draw(st.integers(1, format.top))
    entry = format.make_table(address)
    assert format.is_table(entry, level)
    assert not format.is_leaf(entry, level)
    assert not format.is_malformed(entry, level)
    assert not format.is_write_protecting(entry)
    assert format.output_address(entry, level) == address
    assert not format.is_table(entry, 0)


QUESTIONS = (
    "is_valid",
    "is_writable",
    "is_accessed",
    "is_dirty",
    "is_contiguous",
    "is_write_protecting",
)
LEVEL_QUESTIONS = ("is_leaf", "is_table", "is_malformed", "output_address")
CHANGES = ("read_only", "writable", "access_flag_cleared", "invalid", "decode", "encode")


@each_format
@EXAMPLES
@given(entries=st.lists(words, min_size=1, max_size=6), address=words)
def test_arrays_answer_as_ints_do(format, entries, address):
    """Over any 64-bit words each method gives for an array what it gives for its elements, as
    uint64 or bool.
    """
    array = np.array(entries, np.uint64)

    def agree(found, one):
        assert found.dtype in (np.uint64, np.bool_)
        assert found.tolist() == [one(entry) for entry in entries]

    for name in QUESTIONS + CHANGES:
        method = getattr(format, name)
        agree(method(array), method)
    for level in range(format.levels):
        for name in LEVEL_QUESTIONS:
            method = getattr(format, name)
            agree(
                method(array, level), lambda entry, method=method, level=level: method(entry, level)
            )
        virtual = np.uint64(address)
        agree(
            format.translate(array, level, virtual),
            lambda entry, level=level: format.translate(entry, level, address),
        )
        agree(
            format.with_output(array, virtual, level),
            lambda e, level=level: format.with_output(e, address, level),
        )
        agree(format.index(array, level), lambda entry, level=level: format.index(entry, level))
        agree(
            format.make_leaf(array, level),
            lambda entry, level=level: format.make_leaf(entry, level),
        )
    for level in range(1, format.max_leaf_level + 1):
        agree(
            format.split_entry(array, level),
            lambda entry, level=level: format.split_entry(entry, level),
        )
    agree(format.canonical(array), format.canonical)
    agree(format.is_canonical(array), format.is_canonical)
    assert array.tolist() == entries


@each_format
@EXAMPLES
@given(data=st.data())
def test_split_maps_the_same_memory(format, data):
    """A leaf and the table that replaces it translate every address alike, with the same
    permission.
    """
    level, address, writable = data.draw(leaves(format).filter(lambda drawn: drawn[0] > 0))
    leaf = format.make_leaf(address, level, writable=writable)
    inside = data.draw(st.integers(0, format.span(level) - 1))
    first = format.split_entry(leaf, level)
    assert first == format.make_leaf(address, level - 1, writable=writable)
    number = format.index(inside, level - 1)
    child = format.with_output(first, address + number * format.span(level - 1), level - 1)
    assert (
        format.translate(child, level - 1, inside)
        == format.translate(leaf, level, inside)
        == address + inside
    )


@each_format
@EXAMPLES
@given(address=words)
def test_canonical_addresses(format, address):
    """`canonical` keeps the translated bits, is canonical, and changes a canonical kernel address
    no more.
    """
    made = format.canonical(address)
    assert format.is_canonical(made)
    assert made % (1 << format.va_bits) == address % (1 << format.va_bits)
    assert format.canonical(made) == made
    assert not format.is_canonical(made ^ 1 << 62)
    assert not format.is_canonical(made ^ 1 << format.va_bits)


# What is in the memory of kernels: the entry of each kind with its address bits cleared (mechanism,
# cores).
KERNEL_ENTRIES = [
    ("arm64", 4096, 39, 0xE8000000000703, 0xE0000000000783, 0x60000000000701),  # 6.1
    ("arm64", 65536, 42, 0xE8000000000703, 0xE0000000000783, None),  # 6.1
    ("arm64", 4096, 48, 0xE8000000000703, 0xE0000000000783, 0xE8000000000701),  # 7.3
    ("x86_64", 4096, 57, 0x8000000000000163, 0x8000000000000121, 0x80000000000001E3),  # 6.12, 7.3
]


@pytest.mark.parametrize(
    ("arch", "page", "bits", "page_kernel", "page_kernel_ro", "block"), KERNEL_ENTRIES
)
def test_entries_are_those_of_real_kernels(arch, page, bits, page_kernel, page_kernel_ro, block):
    """PAGE_KERNEL, PAGE_KERNEL_RO, and what a kernel's block is split into, bit for bit."""
    format = format_for(arch, page, bits)
    assert format.make_leaf(0, 0) == page_kernel
    assert format.make_leaf(0, 0, writable=False) == page_kernel_ro
    if block is not None:
        assert format.split_entry(block, 1) == page_kernel


def test_a_split_keeps_attributes_that_are_not_permissions():
    """arm64 with unmapped-at-EL0 kernels has nG in every leaf (the memory of 7.3 stock); device
    memory stays device memory.
    """
    format = format_for("arm64", 4096, 48)
    assert format.split_entry(0xE8000000000F01, 1) == 0xE8000000000F03
    assert format.split_entry(0x60000000000705, 1) & 0x1C == 0x4


def test_a_split_drops_the_contiguous_bit():
    """A group of blocks says nothing about the pages of one of them."""
    format = format_for("arm64", 4096, 48)
    assert format.split_entry(format.make_leaf(0, 1) | format.contiguous, 1) == format.make_leaf(
        0, 0
    )


def test_before_shadow_stacks_a_read_only_entry_was_dirty():
    """x86-64 6.1 has 0x161 where 6.12 has 0x121: one field of the data."""
    format = replace(format_for("x86_64", 4096, 57), read_only_clear=2)
    assert format.make_leaf(0, 0, writable=False) == 0x8000000000000161


# Arm ARM D8.3: with LPA2 the output address bits [51:50] are in descriptor bits [9:8]; with 64K
# pages [51:48] in [15:12].
HAND_COMPUTED = [
    ("arm64", 4096, 48, 0, 0x0000_2345_6789_A000, 0x00E8_2345_6789_A703),
    ("arm64", 4096, 52, 0, 0x000D_2345_6789_A000, 0x00E9_2345_6789_A703),
    ("arm64", 4096, 52, 1, 0x000D_2345_6780_0000, 0x00E9_2345_6780_0701),
    ("arm64", 4096, 52, 0, 0x0004_0000_0000_1000, 0x00E8_0000_0000_1503),
    ("arm64", 16384, 52, 0, 0x000A_2345_6789_8000, 0x00EA_2345_6789_8603),
    ("arm64", 65536, 48, 0, 0x000D_2345_6789_0000, 0x00E8_2345_6789_D703),
    ("arm64", 65536, 52, 0, 0x000D_2345_6789_0000, 0x00E8_2345_6789_D703),
    ("arm64", 65536, 52, 1, 0x000D_2345_6000_0000, 0x00E8_2345_6000_D701),
    ("x86_64", 4096, 48, 0, 0x000D_2345_6789_A000, 0x800D_2345_6789_A163),
    ("x86_64", 4096, 48, 1, 0x0000_0001_2340_0000, 0x8000_0001_2340_01E3),
    ("riscv64", 4096, 39, 1, 0x8020_0000, 0x2008_00E7),
    ("riscv64", 4096, 57, 0, 0x00FF_FFFF_FFFF_F000, 0x003F_FFFF_FFFF_FCE7),
]


@pytest.mark.parametrize(("arch", "page", "bits", "level", "address", "entry"), HAND_COMPUTED)
def test_hand_computed_descriptors(arch, page, bits, level, address, entry):
    """Entries worked out on paper from the manuals, in both directions."""
    format = format_for(arch, page, bits)
    assert hex(format.make_leaf(address, level)) == hex(entry)
    assert hex(format.output_address(entry, level)) == hex(address)


def test_lpa2_and_lpa_table_descriptors():
    """High bits of a table's address are in the same low places as those of a page."""
    assert (
        format_for("arm64", 4096, 52).output_address(0x1000_0000_0000_1303, 1) == 0xC_0000_0000_1000
    )
    assert (
        format_for("arm64", 65536, 52).output_address(0x1000_0000_0001_F003, 1)
        == 0xF_0000_0001_0000
    )


def test_x86_large_pages_have_their_attribute_bit_in_the_address():
    """PAT is bit 12 of a large page: no address bit, not malformed, and bit 7 of the pages that it
    is split into.
    """
    format = format_for("x86_64", 4096, 48)
    large = format.make_leaf(0x4000_0000, 2) | 1 << 12
    assert format.output_address(large, 2) == 0x4000_0000
    assert not format.is_malformed(large, 2)
    assert format.is_malformed(large | 1 << 13, 2)
    middle = format.split_entry(large, 2)
    assert middle == format.make_leaf(0x4000_0000, 1) | 1 << 12
    assert format.split_entry(middle, 1) == format.make_leaf(0x4000_0000, 0) | 1 << 7


def test_riscv_svnapot():
    """A 64K group holds its size in the low bits of its page number; each of its entries translates
    all of it.
    """
    format = format_for("riscv64", 4096, 48)
    entry = format.with_output(format.make_leaf(0, 0) | 1 << 63, 0x8021_0000, 0)
    assert hex(entry) == "0x80000000200860e7"
    assert format.output_address(entry, 0) == 0x8021_0000
    assert format.translate(entry, 0, 0x7000_1234_5678) == 0x8021_5678
    assert format.contiguous_span(0) == 65536
    assert not format.is_malformed(entry, 0)
    assert format.is_malformed(entry ^ 1 << 10, 0)
    assert format.is_malformed(entry, 1)


def test_what_architectures_reserve():
    """Blocks where there are none, W without R, superpages that are not aligned: valid, yet
    nothing.
    """
    for arch, page, bits, level, entry in (
        ("arm64", 4096, 48, 0, 0x701),
        ("arm64", 4096, 48, 3, 0x701),
        ("arm64", 16384, 47, 2, 0x701),
        ("x86_64", 4096, 57, 3, 0xE3),
        ("x86_64", 4096, 57, 1, 0x1E3 | 1 << 20),
        ("riscv64", 4096, 39, 0, 0xE5),
        ("riscv64", 4096, 39, 1, 0xE7 | 1 << 18),
        ("riscv64", 4096, 39, 0, 0x1),
    ):
        format = format_for(arch, page, bits)
        assert format.is_valid(entry)
        assert format.is_malformed(entry, level), (format.name, level, hex(entry))
        assert not format.is_table(entry, level)
    assert format_for("arm64", 4096, 52).is_leaf(0x401, 3)


def test_arm64_dirty_state():
    """Dirty by the software bit, or by DBM with write permission; DBM alone is clean
    (`pte_dirty()`).
    """
    format = format_for("arm64", 4096, 48)
    clean = format.make_leaf(0, 0) & ~(1 << 55)
    assert format.is_dirty(clean)
    assert not format.is_dirty(clean | 1 << 7)
    assert format.is_dirty(clean | 1 << 7 | 1 << 55)
    assert not format.is_dirty(clean & ~(1 << 51))


def test_contiguous_groups():
    """64K and 32M with 4K pages, 2M and 1G with 16K, 2M and 16G with 64K, as HugeTLB sizes name
    them.
    """
    sizes = {
        page: [format_for("arm64", page, 48).contiguous_span(level) for level in (0, 1)]
        for page in (4096, 16384, 65536)
    }
    assert sizes == {
        4096: [64 << 10, 32 << 20],
        16384: [2 << 20, 1 << 30],
        65536: [2 << 20, 16 << 30],
    }


@EXAMPLES
@given(
    address=st.integers(0, (1 << 47) - 1),
    other=st.integers(0, (1 << 47) - 1),
    level=st.integers(0, 2),
)
def test_memory_encryption(address, other, level):
    """The encryption bit is in every entry that is made, survives a change of address, and is in no
    address.
    """
    plain = format_for("x86_64", 4096, 48)
    format = replace(plain, sme_mask=1 << 51)
    address, other = address & format.aligned(level), other & format.aligned(level)
    entry = format.make_leaf(address, level)
    assert entry == plain.make_leaf(address, level) | 1 << 51
    assert format.output_address(entry, level) == address
    assert format.with_output(entry, other, level) == format.make_leaf(other, level)
    assert format.make_table(address) >> 51 & 1
    if level:
        assert format.split_entry(entry, level) == format.make_leaf(address, level - 1)


def test_unknown_format_lists_what_there_is():
    """The message has the three numbers and the formats of that architecture, or the
    architectures.
    """
    with pytest.raises(
        HvoError, match=r"arm64 with 4KiB pages and 42-bit.*arm64 4KiB 39-bit.*arm64 64KiB 52-bit"
    ):
        format_for("arm64", 4096, 42)
    with pytest.raises(HvoError, match="arm64, x86_64, riscv64"):
        format_for("mips", 4096, 48)


def test_riscv_protects_nothing():
    """PAGE_KERNEL_RO is PAGE_KERNEL there: an entry made "read-only" is the same entry."""
    assert all(form.protects for form in FORMATS.values() if form.arch in ("arm64", "x86_64"))
    assert not any(form.protects for form in FORMATS.values() if form.arch == "riscv64")
    form = format_for("riscv64", 4096, 48)
    assert form.make_leaf(0x8020_0000, 0, writable=False) == form.make_leaf(0x8020_0000, 0)
