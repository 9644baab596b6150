"""Sizes, eras and geometry: each row of the table of facts, and the headline figures that follow
from it.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.errors import HvoError
from hvo.layout import ERA_LAYOUTS, GEOMETRIES, era_layout, format_size, geometry, parse_size

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

# (architecture, base page, {HugeTLB size: (vmemmap pages, freed since 5.18)}, leaf of the vmemmap,
# section)
FACTS = [
    ("x86_64", 4 * KIB, {2 * MIB: (8, 7), GIB: (4096, 4095)}, 2 * MIB, 128 * MIB),
    (
        "arm64",
        4 * KIB,
        {64 * KIB: (0, 0), 2 * MIB: (8, 7), 32 * MIB: (128, 127), GIB: (4096, 4095)},
        2 * MIB,
        128 * MIB,
    ),
    ("arm64", 16 * KIB, {2 * MIB: (0, 0), 32 * MIB: (8, 7), GIB: (256, 255)}, None, 128 * MIB),
    (
        "arm64",
        64 * KIB,
        {2 * MIB: (0, 0), 512 * MIB: (8, 7), 16 * GIB: (256, 255)},
        None,
        512 * MIB,
    ),
    (
        "riscv64",
        4 * KIB,
        {64 * KIB: (0, 0), 2 * MIB: (8, 7), GIB: (4096, 4095)},
        2 * MIB,
        128 * MIB,
    ),
    ("loongarch64", 16 * KIB, {32 * MIB: (8, 7)}, 32 * MIB, 512 * MIB),
]


@pytest.mark.parametrize(
    ("arch", "page", "sizes", "leaf", "section"), FACTS, ids=lambda value: str(value)[:12]
)
def test_every_row_of_the_facts(arch, page, sizes, leaf, section):
    """Sizes, vmemmap pages, freed pages, leaf and section are those of the table of facts, row by
    row.
    """
    row = geometry(arch, page)
    assert {
        huge.size: (row.vmemmap_pages(huge.size), row.freed_pages(huge.size, "6.2"))
        for huge in row.hugepages
    } == sizes
    assert (row.vmemmap_leaf, row.section_size) == (leaf, section)


def test_the_facts_name_every_geometry():
    """No row of the data is unchecked."""
    assert set(GEOMETRIES) == {(arch, page) for arch, page, *_ in FACTS}


def test_headline_figures():
    """1 TiB of 2 MiB pages gives back 14 GiB, of 1 GiB pages 16 GiB less 4 MiB; before 5.18 it was
    12 GiB.
    """
    arm = geometry("arm64", 4 * KIB)
    assert TIB // (2 * MIB) * arm.saved_bytes(2 * MIB, "7.1") == 14 * GIB
    assert TIB // GIB * arm.saved_bytes(GIB, "7.1") == 16 * GIB - 4 * MIB
    assert TIB // (2 * MIB) * arm.saved_bytes(2 * MIB, "5.14") == 12 * GIB
    assert arm.freed_pages(GIB, "5.14") == 4094
    assert arm.cost_bytes(TIB) == 16 * GIB


def test_split_leaves_cost_tables():
    """8192 tables (32 MiB) per TiB where 2 MiB leaves map the vmemmap, one for a part of a leaf,
    none with base pages.
    """
    assert geometry("arm64", 4 * KIB).leaf_tables(TIB) == 8192
    assert geometry("x86_64", 4 * KIB).leaf_tables(4 * KIB) == 1
    assert geometry("arm64", 64 * KIB).leaf_tables(TIB) == 0


def test_eras():
    """What each era keeps, moves and shares; the names are the kernels that began them."""
    assert {
        name: (era.kept_pages, era.moves_head, era.shares) for name, era in ERA_LAYOUTS.items()
    } == {
        "5.14": (2, False, "second"),
        "5.18": (1, False, "head"),
        "6.2": (1, True, "head"),
        "7.1": (1, True, "zone-tail"),
    }


@pytest.mark.parametrize("struct_page_size", [56, 72, 80, 96])
def test_a_struct_page_that_is_no_power_of_two_is_refused(struct_page_size):
    """Such a struct page straddles vmemmap pages: nothing is optimisable, whatever it would
    save.
    """
    row = replace(geometry("x86_64", 4 * KIB), struct_page_size=struct_page_size)
    assert row.vmemmap_pages(2 * MIB) > 2
    assert not row.optimizable(2 * MIB, "6.2")
    assert row.freed_pages(GIB, "7.1") == row.saved_bytes(GIB, "7.1") == 0


def test_larger_struct_pages_can_be_optimised():
    """128 bytes is a power of two: twice the vmemmap pages, all but one of them freed."""
    assert (
        replace(geometry("x86_64", 4 * KIB), struct_page_size=128).freed_pages(2 * MIB, "6.2") == 15
    )


def test_optimisable_needs_more_than_is_kept():
    """Exactly as many vmemmap pages as the era keeps saves nothing."""
    row = replace(geometry("arm64", 4 * KIB), struct_page_size=16)
    assert row.vmemmap_pages(2 * MIB) == 2
    assert row.optimizable(2 * MIB, "5.18")
    assert not row.optimizable(2 * MIB, "5.14")


@pytest.mark.parametrize(
    ("call", "accepted"),
    [
        (lambda: geometry("sparc", 8192), ("sparc", "x86_64", "arm64", "riscv64", "loongarch64")),
        (lambda: geometry("arm64", 8192), ("8KiB", "4KiB", "16KiB", "64KiB")),
        (
            lambda: geometry("arm64", 16 * KIB).vmemmap_pages(GIB * 16),
            ("16GiB", "2MiB", "32MiB", "1GiB"),
        ),
        (
            lambda: geometry("x86_64", 4096).optimizable(2 * MIB, "6.1"),
            ("6.1", "5.14", "5.18", "6.2", "7.1"),
        ),
        (lambda: geometry("x86_64", 4096).cost_bytes(4097), ("4097", "4KiB")),
        (lambda: era_layout("new"), ("new", "5.14", "7.1")),
        (lambda: parse_size("2 mebi"), ("2 mebi", "2MiB")),
    ],
)
def test_errors_name_what_was_given_and_what_is_accepted(call, accepted):
    """One line that has the bad value and the good ones."""
    with pytest.raises(HvoError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    assert all(word in message for word in accepted), message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("2MiB", 2 * MIB),
        ("2M", 2 * MIB),
        ("2m", 2 * MIB),
        ("2048kB", 2 * MIB),
        ("1GiB", GIB),
        ("1g", GIB),
        ("1TiB", TIB),
        ("64K", 64 * KIB),
        (" 3 GiB ", 3 * GIB),
        ("512B", 512),
        ("0", 0),
        ("1PiB", 1 << 50),
    ],
)
def test_sizes_that_people_write(text, size):
    """Every unit is a power of 1024, the kernel's kB too."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1.5GiB", "2MiBs", "0x10", "1e3", "2i", "٣MiB", "1_000", "2 M i B"]
)
def test_sizes_that_are_refused(text):
    """Anything else is an error, not a guess."""
    with pytest.raises(HvoError):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (4096, "4KiB"),
        (2 * MIB, "2MiB"),
        (14 * GIB, "14GiB"),
        (TIB, "1TiB"),
        (-2 * MIB, "-2MiB"),
        (16 * GIB - 4 * MIB, "16380MiB"),
        (4000004 * KIB, "3.81GiB"),
        (GIB + 1, "1.00GiB"),
    ],
)
def test_sizes_for_people(size, text):
    """Exact in the largest unit that divides it, rounded only where that would take more than five
    digits.
    """
    assert format_size(size) == text


@settings(derandomize=True, database=None)
@given(st.integers(0, 99_999), st.integers(0, 5))
def test_exact_sizes_come_back(count, power):
    """What is printed exactly is read as the same size."""
    assert parse_size(format_size(count << 10 * power)) == count << 10 * power
