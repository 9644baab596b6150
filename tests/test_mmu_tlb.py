"""The may-set of a TLB: what stays, what coexists, what an invalidation takes."""

import numpy as np
import pytest

from hvo.mmu.formats import format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.tlb import Tlb
from hvo.mmu.walk import PathEntry, path, walk

FORMAT = format_for("arm64", 4096, 39)
X86 = format_for("x86_64", 4096, 48)
START = FORMAT.canonical(0)


def page(frame, *, writable=True, level=0):
    """The path whose only entry is a leaf."""
    return (PathEntry(level, 0x1000, FORMAT.make_leaf(frame << 12, level, writable=writable)),)


def outputs(tlb, address, cpu=0):
    return sorted(one.translate(address) for one in tlb.may_use(cpu, address))


def test_old_and_new_coexist_until_the_invalidation():
    """Both translations of a changed entry may be used; filling one twice is one."""
    tlb = Tlb(FORMAT, cpus=1)
    for frame in (5, 9, 5):
        tlb.fill(0, START + 8, page(frame))
    assert outputs(tlb, START + 24) == [0x5018, 0x9018]
    tlb.invalidate(START, START + 4096)
    assert outputs(tlb, START + 24) == []


def test_cpus_are_apart():
    """A fill is one CPU's; an invalidation is one CPU's or everybody's."""
    tlb = Tlb(FORMAT, cpus=3)
    for cpu in range(3):
        tlb.fill(cpu, START, page(cpu + 1))
    tlb.invalidate(START, START + 1, cpu=1)
    assert [outputs(tlb, START, cpu) for cpu in range(3)] == [[0x1000], [], [0x3000]]
    tlb.invalidate_all(2)
    assert [outputs(tlb, START, cpu) for cpu in range(3)] == [[0x1000], [], []]
    tlb.fill(1, START, page(7))
    tlb.invalidate_all()
    assert [outputs(tlb, START, cpu) for cpu in range(3)] == [[], [], []]


def test_an_invalidation_takes_what_it_touches_and_no_more():
    """Any address inside a block is enough to forget it; a neighbour stays; ends are exclusive."""
    tlb = Tlb(FORMAT, cpus=1)
    tlb.fill(0, START, page(512, level=1))
    tlb.fill(0, START + (2 << 20), page(1024, level=1))
    tlb.invalidate(START + (2 << 20) - 4096, START + (2 << 20))
    assert outputs(tlb, START) == []
    assert outputs(tlb, START + (2 << 20) + 5) == [(1024 << 12) + 5]
    tlb.invalidate(START, START + (2 << 20))
    assert outputs(tlb, START + (2 << 20)) == [1024 << 12]


def test_an_invalidation_of_a_range_takes_all_within():
    """Pages at its start, in its middle, at its end."""
    tlb = Tlb(FORMAT, cpus=1)
    for number in range(8):
        tlb.fill(0, START + number * 4096, page(number + 1))
    tlb.invalidate(START + 4096 + 8, START + 6 * 4096)
    assert [number for number in range(8) if tlb.may_use(0, START + number * 4096)] == [0, 6, 7]


def test_a_block_and_a_page_coexist():
    """After a split a CPU may hold the block and the page: two levels, one address."""
    tlb = Tlb(FORMAT, cpus=1)
    tlb.fill(0, START, page(512, level=1))
    tlb.fill(0, START + 4096, page(3))
    assert {(one.level, one.translate(START + 4096)) for one in tlb.may_use(0, START + 4096)} == {
        (1, 513 << 12),
        (0, 3 << 12),
    }
    assert len(tlb.may_use(0, START)) == 1


def test_faults_are_never_cached():
    """Neither invalid nor malformed entries; old ones only where the walker would have set the
    flag.
    """
    leaf = FORMAT.make_leaf(0x5000, 0)
    for entry in (FORMAT.invalid(leaf), FORMAT.access_flag_cleared(leaf), leaf ^ 2):
        tlb = Tlb(FORMAT, cpus=1)
        tlb.fill(0, START, (PathEntry(0, 0, entry),))
        assert tlb.may_use(0, START) == ()
    tlb = Tlb(X86, cpus=1)
    tlb.fill(0, 0x1000, (PathEntry(0, 0, X86.access_flag_cleared(X86.make_leaf(0x5000, 0))),))
    assert outputs(tlb, 0x1000) == [0x5000]


@pytest.mark.parametrize("number", [0, 5, 15])
def test_a_contiguous_group_is_one_translation(number):
    """Any entry of the group translates all of it, and an invalidation of any page forgets all of
    it.
    """
    tlb = Tlb(FORMAT, cpus=1)
    entry = FORMAT.make_leaf(0x50000 + number * 4096, 0) | FORMAT.contiguous
    tlb.fill(0, START + number * 4096 + 8, (PathEntry(0, 0, entry),))
    assert outputs(tlb, START + 15 * 4096 + 3) == [0x5F003]
    assert outputs(tlb, START + 16 * 4096) == []
    tlb.invalidate(START + 7 * 4096, START + 8 * 4096)
    assert outputs(tlb, START) == []


def table_path(table=0x7000, frame=5):
    return (PathEntry(1, 0x2000, FORMAT.make_table(table)), *page(frame))


def test_pointers_to_tables_are_held_as_well():
    """They cover what the table maps, survive a last-level invalidation, and not a full one."""
    tlb = Tlb(FORMAT, cpus=1)
    tlb.fill(0, START, table_path())
    (pointer,) = tlb.may_walk_from(0, START + (2 << 20) - 1)
    assert (pointer.level, pointer.table, pointer.start, pointer.size) == (
        0,
        0x7000,
        START,
        2 << 20,
    )
    assert tlb.may_walk_from(0, START + (2 << 20)) == ()
    tlb.invalidate(START, START + 4096, last_level=True)
    assert outputs(tlb, START) == []
    assert tlb.may_walk_from(0, START) == (pointer,)
    tlb.invalidate(START + 8192, START + 12288)
    assert tlb.may_walk_from(0, START) == ()


def test_permission_is_that_of_the_whole_path():
    """A table entry that protects makes the leaf read-only, also when the walk began at the cached
    pointer.
    """
    tlb = Tlb(X86, cpus=1)
    leaf = PathEntry(0, 0, X86.make_leaf(0x5000, 0))
    tlb.fill(0, 0, (PathEntry(1, 0, X86.make_table(0x7000) & ~2), leaf))
    (first,) = tlb.may_use(0, 0)
    assert not first.writable
    (pointer,) = tlb.may_walk_from(0, 0)
    tlb.fill(0, 0, (leaf,), origin=pointer)
    assert tlb.may_use(0, 0) == (first,)
    tlb.fill(0, 0, (leaf,))
    assert sorted(one.writable for one in tlb.may_use(0, 0)) == [False, True]


def test_it_takes_what_the_walker_read():
    """Filled from `path` over real tables, the may-set answers as the walk does."""
    words = np.zeros(1 << 13, np.uint64)
    frames = iter(range(0x1000, 0x10000, 0x1000))

    class Frames:
        page_size = 4096

        def read_words(self, addresses):
            return words[addresses >> np.uint64(3)]

        def write_words(self, addresses, values):
            words[addresses >> np.uint64(3)] = values

    memory = Frames()
    map_range(
        memory,
        FORMAT,
        0,
        START,
        0x90000,
        3 << 12,
        0,
        lambda n: np.array([next(frames) for _ in range(n)], np.uint64),
    )
    tlb = Tlb(FORMAT, cpus=1)
    tlb.fill(0, START + 8200, path(memory, FORMAT, 0, START + 8200))
    found = walk(memory, FORMAT, 0, np.array([START + 8200], np.uint64))
    (held,) = tlb.may_use(0, START + 8200)
    assert (held.translate(START + 8200), held.entry, held.location) == (
        found.address[0],
        found.entry[0],
        found.location[0],
    )
    assert [
        pointer.level for pointer in sorted(tlb.may_walk_from(0, START), key=lambda one: one.level)
    ] == [0, 1]
