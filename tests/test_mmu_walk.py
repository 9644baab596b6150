"""The walker against a plain one that takes one address at a time, and holes, locations, and the
building of tables.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.memory.interface import MemoryFault
from hvo.mmu.access import PageFault, translate
from hvo.mmu.fault import FaultCode
from hvo.mmu.formats import FORMATS, format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.walk import NoTable, entry_locations, explain, path, walk

each_format = pytest.mark.parametrize(
    "format", list(FORMATS.values()), ids=lambda format: format.name
)
FRAMES = 5
# As high as physical addresses go, so that the high bits of table addresses count.
BASES = {
    "loongarch64": 0x9000_0000_0000,
    "arm64": 0x0000_F000_0000_0000,
    "x86_64": 0x000F_F000_0000_0000,
    "riscv64": 0x00F0_0000_0000_0000,
}


class FlatMemory:
    """Frames from `base` up; counts the words that were read."""

    def __init__(self, base, page_size, frames):
        self.base, self.page_size, self.frames = base, page_size, frames
        self.words = np.zeros(frames * page_size // 8, np.uint64)
        self.words_read = 0
        self.next = base + page_size

    def allocate(self, count):
        first, self.next = self.next, self.next + count * self.page_size
        return np.arange(first, self.next, self.page_size, dtype=np.uint64)

    def readable(self, addresses):
        end = self.base + self.frames * self.page_size
        return (addresses >= np.uint64(self.base)) & (addresses < np.uint64(end))

    def read_words(self, addresses):
        inside = self.readable(addresses)
        if not inside.all():
            raise MemoryFault("no memory there", addresses[~inside])
        self.words_read += addresses.size
        return self.words[(addresses - np.uint64(self.base)) >> np.uint64(3)]

    def write_words(self, addresses, values):
        assert self.readable(addresses).all()
        self.words[(addresses - np.uint64(self.base)) >> np.uint64(3)] = values


def base_of(format):
    wide = format.arch == "arm64" and (format.page_shift == 16 or format.va_bits == 52)
    return BASES[format.arch] | (0xD << 48 if wide else 0)


def random_memory(format, random):
    """Frames full of entries: tables (also of themselves), leaves, nothing, tables outside memory,
    and any words.
    """
    memory = FlatMemory(base_of(format), format.page_size, FRAMES)
    size = memory.words.size
    frames = np.uint64(memory.base) + random.integers(0, FRAMES, size).astype(
        np.uint64
    ) * np.uint64(format.page_size)
    junk = random.integers(0, 1 << 64, size, dtype=np.uint64)
    leaf_level = random.integers(0, format.levels, size)
    leaves = np.zeros(size, np.uint64)
    for level in range(format.levels):
        leaves[leaf_level == level] = format.make_leaf(junk & np.uint64((1 << 48) - 1), level)[
            leaf_level == level
        ]
    tables = format.make_table(frames) ^ np.where(
        random.random(size) < 0.1, np.uint64(format.table_write_bit), np.uint64(0)
    )
    kinds = (
        tables,
        leaves,
        format.read_only(leaves),
        format.make_table(frames ^ np.uint64(1 << 40)),
        junk,
        junk & np.uint64(3),
    )
    kind = random.choice(len(kinds), size, p=(0.6, 0.1, 0.1, 0.04, 0.12, 0.04))
    memory.words[:] = np.choose(kind, kinds)
    memory.words[:2] = format.make_table(
        frames[:2]
    )  # the whole root with 16K and 48 bits: not all of it may be a hole
    return memory


def random_addresses(format, random, count=600):
    """Canonical and not, spread over the address space and close together, in no order."""
    far = random.integers(0, 1 << 64, count, dtype=np.uint64)
    near = format.canonical(far) & np.uint64(format.aligned(2)) | far & np.uint64(
        format.span(1) - 1
    )
    low = far & np.uint64((1 << format.va_bits - 1) - 1)
    return np.concatenate((far, format.canonical(far), near, low, near[:5]))


def bits(word, high, low):
    return word >> low & (1 << high - low + 1) - 1


def reference_entry(format, word, level):
    """("table" | "leaf" | "not present" | "malformed", output address, writable, bits of offset),
    from the manuals' words.
    """
    shift = format.page_shift + level * (format.page_shift - 3)
    if format.arch == "arm64":
        return reference_arm64(format, word, level, shift)
    if format.arch == "x86_64":
        return reference_x86(word, level, shift)
    if format.arch == "loongarch64":
        return reference_loongarch(word, level)
    return reference_riscv(word, level, shift)


def reference_loongarch(word, level):
    """16K pages; the kernel's _PAGE_PRESENT is bit 7, and a table entry is an address at
    0x9000...
    """
    if not bits(word, 7, 7) and not bits(word, 60, 60):
        return "not present", 0, False, 0
    if level and not bits(word, 6, 6):
        return "table", bits(word, 47, 14) << 14, True, 0
    if level > 1 or (not level and not bits(word, 7, 7)):
        return "malformed", 0, False, 0
    shift = 14 + 11 * level
    return "leaf", bits(word, 47, shift) << shift, bool(bits(word, 8, 8)), shift


def reference_arm64(format, word, level, shift):
    if not word & 1:
        return "not present", 0, False, 0
    low = format.page_shift if word & 2 else shift
    address = bits(word, 47, low) << low
    if format.page_shift == 16:
        address |= bits(word, 15, 12) << 48
    elif format.va_bits == 52:
        address = bits(word, 49, low) << low | bits(word, 9, 8) << 50
    if word & 2:
        return (
            ("table", address, not word >> 62 & 1, 0)
            if level
            else ("leaf", address, not word >> 7 & 1, shift)
        )
    blocks = {12: (1, 2), 14: (1,), 16: (1,)}[format.page_shift] + (
        (3,) if format.va_bits == 52 and format.page_shift == 12 else ()
    )
    if format.va_bits == 52 and format.page_shift > 12:
        blocks += (2,)
    return (
        ("leaf", address, not word >> 7 & 1, shift)
        if level in blocks
        else ("malformed", 0, False, 0)
    )


def reference_x86(word, level, shift):
    if not word & 1:
        return "not present", 0, False, 0
    writable = bool(word & 2)
    if level and not word >> 7 & 1:
        return "table", bits(word, 51, 12) << 12, writable, 0
    if level > 2 or (level and bits(word, shift - 1, 13)):
        return "malformed", 0, False, 0
    return "leaf", bits(word, 51, shift) << shift, writable, shift


def reference_riscv(word, level, shift):
    if not word & 1:
        return "not present", 0, False, 0
    if not word & 0xE:
        return ("table", bits(word, 53, 10) << 12, True, 0) if level else ("malformed", 0, False, 0)
    group = word >> 63
    number = bits(word, 53, 10)
    if (
        word & 6 == 4
        or (level and number & (1 << 9 * level) - 1)
        or (group and (level or number & 15 != 8))
    ):
        return "malformed", 0, False, 0
    return (
        ("leaf", (number & ~15) << 12, bool(word & 4), 16)
        if group
        else ("leaf", number << 12, bool(word & 4), shift)
    )


def reference_walk(memory, format, table, address):
    """(level, entry, location, valid, address, writable, fault) for one address."""
    signed = format.arch in ("x86_64", "riscv64")  # the others have halves of `va_bits` each
    upper = address >> format.va_bits - signed
    if upper not in (0, (1 << 64 - format.va_bits + signed) - 1):
        return format.levels - 1, 0, 0, False, 0, False, FaultCode.NON_CANONICAL
    allowed = True
    for level in range(format.levels - 1, -1, -1):
        shift = format.page_shift + level * (format.page_shift - 3)
        top = format.va_bits if level == format.levels - 1 else shift + format.page_shift - 3
        location = table + 8 * bits(address, top - 1, shift)
        if not memory.base <= location < memory.base + FRAMES * format.page_size:
            return level, 0, location, False, 0, False, FaultCode.OUTSIDE_MEMORY
        word = int(memory.words[(location - memory.base) // 8])
        kind, output, writable, offset = reference_entry(format, word, level)
        allowed = allowed and writable
        if kind == "leaf":
            return (
                level,
                word,
                location,
                True,
                output | address & (1 << offset) - 1,
                allowed,
                FaultCode.NONE,
            )
        if kind != "table":
            code = FaultCode.MALFORMED if kind == "malformed" else FaultCode.NOT_PRESENT
            return level, word, location, False, 0, False, code
        table = output
    raise AssertionError("a table at the last level")


@each_format
@pytest.mark.parametrize("seed", [1, 2])
def test_walker_agrees_with_a_plain_one(format, seed):
    """Every answer for every address, over tables of anything: loops, holes, tables outside memory,
    reserved entries.
    """
    random = np.random.default_rng(seed)
    memory, addresses = random_memory(format, random), random_addresses(format, random)
    found = walk(memory, format, memory.base, addresses)
    names = ("level", "entry", "location", "valid", "address", "writable", "fault")
    rows = list(zip(*(getattr(found, name).tolist() for name in names), strict=True))
    expected = [
        reference_walk(memory, format, memory.base, address) for address in addresses.tolist()
    ]
    for address, row, wanted in zip(addresses.tolist(), rows, expected, strict=True):
        assert row == wanted, hex(address)
    assert {row[-1] for row in expected} == set(FaultCode)
    assert any(row[3] and row[5] for row in expected)
    assert any(row[3] and not row[5] for row in expected)


@each_format
def test_order_shape_and_duplicates_do_not_matter(format):
    """Sorted, shuffled, repeated, in two dimensions: the same answer for the same address; and none
    for no address.
    """
    random = np.random.default_rng(3)
    memory, addresses = random_memory(format, random), random_addresses(format, random, 100)
    order = np.argsort(addresses)
    found = walk(memory, format, memory.base, addresses)
    in_order = walk(memory, format, memory.base, addresses[order])
    square = walk(memory, format, memory.base, addresses[:400].reshape(20, 20))
    for name in ("level", "entry", "location", "valid", "address", "writable", "fault"):
        assert (getattr(in_order, name) == getattr(found, name)[order]).all()
        assert (getattr(square, name) == getattr(found, name)[:400].reshape(20, 20)).all()
    assert walk(memory, format, memory.base, addresses[:0]).entry.size == 0


@each_format
def test_holes_end_where_they_are_said_to_end(format):
    """The address before the end of a hole faults at the same entry (or table); the one at its end
    has another.
    """
    random = np.random.default_rng(4)
    memory = random_memory(format, random)
    addresses = random_addresses(format, random, 100)
    found = walk(memory, format, memory.base, addresses)
    checked = 0
    for i in np.flatnonzero(~found.valid).tolist():
        hole = explain(found, i)
        assert hole.address == int(addresses[i])
        assert str(hole).startswith(
            f"{hole.address:#x}: {hole.code.name.lower().replace('_', ' ')}"
        )
        end = hole.address + hole.skip
        last = walk(memory, format, memory.base, np.array([end - 1], np.uint64))
        assert not last.valid[0]
        assert last.fault[0] == hole.code
        if hole.code not in (FaultCode.OUTSIDE_MEMORY, FaultCode.NON_CANONICAL):
            assert last.location[0] == hole.location
        if end < 1 << 64:
            behind = walk(memory, format, memory.base, np.array([end], np.uint64))
            assert behind.location[0] != last.location[0]
            checked += 1
    assert checked > 50


@each_format
def test_stopping_at_a_level(format):
    """Entries at or above the level asked for, judged but not followed; a table there is no
    fault.
    """
    random = np.random.default_rng(5)
    memory, addresses = random_memory(format, random), random_addresses(format, random, 100)
    whole = walk(memory, format, memory.base, addresses)
    for level in range(1, format.levels):
        found = walk(memory, format, memory.base, addresses, stop_level=level)
        ended = whole.level >= level
        for name in ("level", "entry", "location", "valid", "address", "writable", "fault"):
            assert (getattr(found, name)[ended] == getattr(whole, name)[ended]).all()
        assert (found.level[~ended] == level).all()
        assert format.is_table(found.entry[~ended], level).all()
        assert not found.valid[~ended].any()
        assert not found.fault[~ended].any()


@each_format
def test_locations_and_paths(format):
    """`entry_locations` and `path` read their way to the same entry as the walk, or say that there
    is no table.
    """
    random = np.random.default_rng(6)
    memory, addresses = random_memory(format, random), random_addresses(format, random, 100)
    found = walk(memory, format, memory.base, addresses)
    deep = addresses[(found.level == 0)]
    assert (
        entry_locations(memory, format, memory.base, deep, 0) == found.location[found.level == 0]
    ).all()
    with pytest.raises(NoTable) as raised:
        entry_locations(memory, format, memory.base, addresses, 0)
    assert raised.value.addresses.tolist() == addresses[found.level > 0].tolist()
    for i in np.flatnonzero(found.fault < FaultCode.OUTSIDE_MEMORY).tolist():
        steps = path(memory, format, memory.base, int(addresses[i]))
        assert [step.level for step in steps] == list(range(format.top, found.level[i] - 1, -1))
        assert (steps[-1].entry, steps[-1].location) == (found.entry[i], found.location[i])


def fresh(format, frames=200):
    return FlatMemory(base_of(format), format.page_size, frames)


@each_format
def test_mapping_a_range_and_walking_it(format):
    """What is mapped is walked back, tables are counted, and neighbours of the range stay
    unmapped.
    """
    memory = fresh(format)
    start = format.canonical(3 * format.span(1) - 5 * format.page_size)
    size = 12 * format.page_size
    tables = map_range(
        memory,
        format,
        memory.base,
        start,
        7 * format.page_size,
        size,
        0,
        memory.allocate,
        writable=False,
    )
    assert tables.size == 2 + format.top - 1
    assert np.unique(tables).size == tables.size
    addresses = np.uint64(start) + np.arange(0, size, format.page_size // 2, dtype=np.uint64)
    found = walk(memory, format, memory.base, addresses)
    assert found.valid.all()
    assert (found.writable != format.protects).all()
    assert (found.address == 7 * format.page_size + (addresses - np.uint64(start))).all()
    around = np.array([start - 1, start + size], np.uint64)
    assert not walk(memory, format, memory.base, around).valid.any()
    again = map_range(memory, format, memory.base, start, 0, size, 0, memory.allocate)
    assert again.size == 0
    assert walk(memory, format, memory.base, addresses).writable.all()


@each_format
def test_blocks_are_mapped_and_stand_in_the_way(format):
    """A range of blocks; pages below one of them need a split first, so mapping them is refused and
    changes nothing.
    """
    memory = fresh(format)
    start, span = format.canonical(0), format.span(1)
    map_range(memory, format, memory.base, start, 2 * span, 3 * span, 1, memory.allocate)
    found = walk(memory, format, memory.base, np.array([start + span + 12345], np.uint64))
    assert (found.level[0], found.address[0]) == (1, 3 * span + 12345)
    before = memory.words.copy()
    with pytest.raises(NoTable):
        map_range(
            memory, format, memory.base, start + span, 0, format.page_size, 0, memory.allocate
        )
    assert (memory.words == before).all()
    for bad in (
        (start + 8, 0, span),
        (start, 8, span),
        (start, 0, span // 2),
        (start, np.zeros(2, np.uint64), span),
    ):
        with pytest.raises(ValueError, match="multiples"):
            map_range(memory, format, memory.base, *bad, 1, memory.allocate)


def test_scattered_memory_can_be_mapped():
    """One physical address for each leaf, in any order, as vmemmap_populate() gets it from the
    allocator.
    """
    format = format_for("arm64", 65536, 42)
    memory = fresh(format, 20)
    outputs = np.random.default_rng(0).permutation(1000).astype(np.uint64) << np.uint64(16)
    start = format.canonical(1 << 41)
    map_range(memory, format, memory.base, start, outputs, 1000 << 16, 0, memory.allocate)
    addresses = np.uint64(start) + (np.arange(1000, dtype=np.uint64) << np.uint64(16))
    assert (walk(memory, format, memory.base, addresses).address == outputs).all()


@pytest.mark.parametrize("shuffled", [False, True])
def test_upper_entries_are_read_once(shuffled):
    """Walking all pages of a range reads each leaf entry and, above, one entry for each table: not
    one for each page.
    """
    format = format_for("arm64", 4096, 48)
    memory = fresh(format)
    start, pages = format.canonical(0), 40 * 512
    map_range(memory, format, memory.base, start, 0, pages << 12, 0, memory.allocate)
    addresses = np.uint64(start) + (np.arange(pages, dtype=np.uint64) << np.uint64(12))
    if shuffled:
        np.random.default_rng(1).shuffle(addresses)
    memory.words_read = 0
    assert walk(memory, format, memory.base, addresses).valid.all()
    assert memory.words_read <= pages + 40 + 2
    memory.words_read = 0
    entry_locations(memory, format, memory.base, addresses, 0)
    assert memory.words_read <= 40 + 2


@settings(derandomize=True, database=None, max_examples=50, deadline=None)
@given(
    operations=st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(["ro", "old", "gone", "rw"])), max_size=12
    )
)
def test_accesses_and_their_faults(operations):
    """A load and a store of a page fault as its last change says: not present before old before
    read-only.
    """
    format = format_for("arm64", 4096, 39)
    memory = fresh(format, 10)
    start = format.canonical(0)
    map_range(memory, format, memory.base, start, 0x100000, 8 << 12, 0, memory.allocate)
    state = dict.fromkeys(range(8), "rw")
    for page, name in operations:
        change = {
            "ro": format.read_only,
            "old": format.access_flag_cleared,
            "gone": format.invalid,
            "rw": int,
        }[name]
        location = entry_locations(
            memory, format, memory.base, np.array([start + (page << 12)], np.uint64), 0
        )
        entry = format.make_leaf(0x100000 + (page << 12), 0)
        memory.write_words(location, np.array([change(entry)], np.uint64))
        state[page] = name
    for page, name in state.items():
        address = np.array([start + (page << 12) + 8], np.uint64)
        faults = {
            "ro": (None, "read-only"),
            "old": ("access-flag",) * 2,
            "gone": ("not-present",) * 2,
            "rw": (None, None),
        }
        for write, kind in zip((False, True), faults[name], strict=True):
            if kind is None:
                assert translate(memory, format, memory.base, address, write=write)[
                    0
                ] == 0x100008 + (page << 12)
            else:
                with pytest.raises(PageFault) as raised:
                    translate(memory, format, memory.base, address, write=write)
                assert (raised.value.kind, raised.value.address, raised.value.level) == (
                    kind,
                    int(address[0]),
                    0,
                )


def test_x86_sets_the_access_flag_itself():
    """The same clear flag that faults on arm64 is no fault there."""
    format = format_for("x86_64", 4096, 57)
    memory = fresh(format, 10)
    start = format.canonical(1 << 56)
    map_range(memory, format, memory.base, start, 0x100000, 4096, 0, memory.allocate)
    address = np.array([start], np.uint64)
    location = entry_locations(memory, format, memory.base, address, 0)
    memory.write_words(location, format.access_flag_cleared(memory.read_words(location)))
    assert translate(memory, format, memory.base, address)[0] == 0x100000
