"""Page tables and the machine's own translation of addresses, against the emulated MMU of Unicorn.

The emulator and `World.translate`, by which every step of a simulated machine reaches a struct
page, share the same physical memory. Proved for arm64 4K, 16K and 64K up to 48 bits, x86-64 with 4
levels and riscv64 with Sv39 and Sv48: the same physical address (a word that names its own place is
found there), the same fault of loads and of stores, and for arm64 also the level and kind of fault
in PAR_EL1; over random tables, and over the tables of machines whose pools are optimised.

Unicorn accepts arm64 blocks at levels that have none (4K: 512G, 16K: 64G, 64K: 4T without 52-bit
addresses), where our walker faults as the manual says: those are not drawn; other reserved entries
are. It sets access flags of riscv64 by itself: old entries are not drawn there.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulated_mmu import DATA, MEMORY_SIZE, ROOT, STORED, TAG, PhysicalMemory, cpu_on
from hvo.kernel.struct_page import ERA_LAYOUT
from hvo.machine.machine import Machine
from hvo.mmu.access import PageFault
from hvo.mmu.formats import format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.walk import NoTable, entry_locations, walk
from hvo.vmemmap.context import Vmemmap
from hvo.vmemmap.era import era
from hvo.world.state import World

FORMATS = [
    *(
        format_for("arm64", page, bits)
        for page, bits in ((4096, 39), (4096, 48), (16384, 47), (16384, 48))
    ),
    *(format_for("arm64", 65536, bits) for bits in (42, 48)),
    format_for("x86_64", 4096, 48),
    format_for("riscv64", 4096, 39),
    format_for("riscv64", 4096, 48),
]
each_format = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
EXAMPLES = settings(
    derandomize=True,
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)


MEMORY = PhysicalMemory()


@dataclass(frozen=True)
class Mapping:
    """One leaf, or one contiguous group of them, somewhere in the address space."""

    indices: tuple[int, ...]
    level: int
    frame: int
    writable: bool
    contiguous: bool
    spoil: str
    protect: int
    offset: int


def mappings(format):
    """Mappings that share tables often: few indices per level."""
    return st.builds(
        Mapping,
        indices=st.tuples(*(st.sampled_from((0, 1, 16, -1)) for _ in range(format.levels))),
        level=st.integers(0, min(format.max_leaf_level, format.top, 2)),  # 2: 1 GiB at most
        frame=st.integers(0, 1000),
        writable=st.booleans(),
        contiguous=st.booleans() if format.arch == "arm64" else st.just(False),
        spoil=st.sampled_from(("", "", "", "invalid", "old", "dbm", "reserved")),
        protect=st.sampled_from((0, 0, 0, 1, 2, 3)),
        offset=st.integers(0, 1 << 39).map(lambda offset: offset & ~7),
    )


def place_of(format, mapping):
    """(virtual start, physical start, size) of a mapping; a group is one if it fits into the
    memory.
    """
    level = mapping.level
    address = sum(
        (index % format.table_entries(number)) << format.shift(number)
        for number, index in enumerate(mapping.indices)
        if number >= level
    )
    contiguous = mapping.contiguous and DATA + 2 * format.contiguous_span(level) <= MEMORY_SIZE
    size = format.contiguous_span(level) if contiguous else format.span(level)
    first = -(-DATA // size)
    physical = (first + mapping.frame % (MEMORY_SIZE // size - first)) * size
    return format.canonical(address // size * size), physical, size


def write_mapping(format, mapping):
    """Write it into the tables; False when a larger leaf is in the way."""
    address, physical, size = place_of(format, mapping)
    level = mapping.level
    try:
        map_range(
            MEMORY,
            format,
            ROOT,
            address,
            physical,
            size,
            level,
            MEMORY.allocate,
            writable=mapping.writable,
        )
    except NoTable:
        return False
    addresses = np.uint64(address) + np.arange(0, size, format.span(level), dtype=np.uint64)
    leaves = entry_locations(MEMORY, format, ROOT, addresses, level)
    entries = MEMORY.read_words(leaves)
    if size > format.span(level):
        entries = entries | np.uint64(format.contiguous)
    MEMORY.write_words(leaves, spoiled(format, entries, level, mapping.spoil))
    if mapping.protect and level + mapping.protect <= format.top:
        above = entry_locations(MEMORY, format, ROOT, addresses[:1], level + mapping.protect)
        MEMORY.write_words(above, MEMORY.read_words(above) ^ np.uint64(format.table_write_bit))
    return True


def spoiled(format, entries, level, how):
    """The entries made invalid, old, or (arm64) with DBM set whether writable or not; or one that
    is reserved.
    """
    if how == "invalid":
        return format.invalid(entries)
    if how == "old":
        return entries if format.arch == "riscv64" else format.access_flag_cleared(entries)
    if how == "reserved" and format.arch == "arm64":
        return entries ^ np.uint64(2) if level == 0 else entries  # a block at level 0
    if how == "reserved" and level:  # a large page that is not aligned
        return entries | np.uint64(1 << (13 if format.arch == "x86_64" else 10))
    if how == "reserved" and format.arch == "riscv64":  # writable and not readable
        return entries & ~np.uint64(2) if format.is_writable(entries).all() else entries
    return entries | np.uint64(format.dirty_modifier) if how == "dbm" else entries


def probes(format, drawn):
    """Addresses in, at the ends of, and behind each mapping."""
    found = []
    for mapping in drawn:
        address, _, size = place_of(format, mapping)
        found += [
            address,
            address + size - 8,
            address + mapping.offset % size,
            format.canonical(address + size),
        ]
    return np.array(found, np.uint64) & ~np.uint64(7)


def world_on(format, memory=MEMORY, root=ROOT):
    """A machine that has these tables; nothing else of it is asked for."""
    vmemmap = Vmemmap(format, format.page_size, 0, 64, era("7.1"), zero, zero, zero)
    return World(memory, root, vmemmap, None, ERA_LAYOUT["7.1"])


def zero(*_):
    return 0


def expected(world, address, write):
    """(physical address, None) or (None, the fault) as steps of the machine would find it."""
    try:
        return int(world.translate(np.array([address], np.uint64), write=write)[0]), None
    except PageFault as fault:
        return None, fault


def check_access(cpu, world, address, write):
    """One access in the emulator is what the machine would do."""
    physical, fault = expected(world, address, write)
    if not write:
        assert cpu.load(address) == (None if fault else physical | TAG), (
            f"load of {address:#x}: {fault or hex(physical)}"
        )
        return
    assert cpu.store(address) == (fault is None), f"store to {address:#x}: {fault or hex(physical)}"
    if not fault:
        assert MEMORY.words[physical // 8] == STORED
        MEMORY.words[physical // 8] = physical | TAG  # and the next one reads it


def check_answer(cpu, world, address, write):
    """PAR_EL1 has the physical page, or the kind and level of the fault (Arm ARM, ISS encoding of
    data aborts).
    """
    physical, fault = expected(world, address, write)
    page, status = cpu.ask(address, write)
    if fault is None:
        assert (page, status) == (physical & ~0xFFF, None)
    else:
        kind = {"not-present": 4, "access-flag": 8, "read-only": 12}[fault.kind]
        assert (page, status) == (None, kind + 3 - fault.level), str(fault)


@each_format
@EXAMPLES
@given(data=st.data())
def test_same_address_and_same_fault(format, data):
    """Over random tables: loads and stores reach the same physical address or fault, as the machine
    says.
    """
    MEMORY.reset(format.page_size)
    cpu, world = cpu_on(format, MEMORY), world_on(format)
    drawn = [
        one
        for one in data.draw(st.lists(mappings(format), min_size=1, max_size=8))
        if write_mapping(format, one)
    ]
    addresses = probes(format, drawn)
    if format.arch == "riscv64":
        addresses = addresses[addresses // np.uint64(4096) != np.uint64(cpu.code // 4096)]
    found = walk(MEMORY, format, ROOT, addresses)
    MEMORY.tag(found.address[found.valid])
    for address in addresses.tolist():
        check_access(cpu, world, address, write=False)
        check_access(cpu, world, address, write=True)
        if format.arch == "arm64":
            check_answer(cpu, world, address, write=False)
            check_answer(cpu, world, address, write=True)


# -- the tables of whole machines --

MACHINES = [
    ("arm64", "4KiB", "2MiB", "128MiB"),
    ("arm64", "16KiB", "32MiB", "128MiB"),
    ("arm64", "64KiB", "512MiB", "1GiB"),
    ("x86_64", "4KiB", "2MiB", "128MiB"),
    ("riscv64", "4KiB", "2MiB", "128MiB"),
]
COPY = PhysicalMemory(code=0x70000000, tables=0x71000000)


def copy_table(world, table, level):
    """The machine's tables, put where the emulator finds them."""
    format = world.vmemmap.format
    places = np.arange(table, table + 8 * format.table_entries(level), 8, dtype=np.uint64)
    entries = world.memory.read_words(places)
    COPY.write_words(places, entries)
    for entry in entries[np.asarray(format.is_table(entries, level))].tolist() if level else ():
        copy_table(world, int(format.output_address(entry, level)), level - 1)


def vmemmap_pages(machine, size):
    """The address of the second word of the vmemmap pages of a pool, and of some others."""
    v = machine.world.vmemmap
    count = v.vmemmap_pages(machine.hstate(size).order)
    first = [int(v.address(head)) for head in machine.pool(size).heads()]
    node = machine.plan.nodes[0]
    first += [int(v.address(node.own[0])), int(v.address(node.memory[0]))]
    pages = [np.arange(start, start + count * v.page_size, v.page_size) for start in first]
    return np.unique(np.concatenate(pages).astype(np.uint64)) + np.uint64(8)


def check_machine(machine, size):
    """Vmemmap pages are loaded and stored to by an emulated CPU with the machine's tables -> how
    many stores faulted.
    """
    world, pages = machine.world, vmemmap_pages(machine, size)
    COPY.root = world.root
    copy_table(world, world.root, world.vmemmap.format.top)
    where = world.translate(pages)
    COPY.write_words(where, where | np.uint64(TAG))
    cpu = cpu_on(world.vmemmap.format, COPY)
    refused = 0
    for address, physical in zip(pages.tolist(), where.tolist(), strict=True):
        assert cpu.load(address) == physical | TAG
        fault = expected(world, address, write=True)[1]
        assert cpu.store(address) == (fault is None)
        COPY.words[physical // 8] = physical | TAG
        refused += fault is not None
    return refused


@pytest.mark.parametrize(("arch", "page_size", "size", "memory"), MACHINES)
@pytest.mark.parametrize("name", ["5.14", "7.1"])
def test_machines_are_translated_alike(arch, page_size, size, memory, name):
    """Before a pool is optimised, while it is, and when it is restored: every page of struct pages
    leads an emulated CPU where the machine's steps go, and exactly shared tails refuse stores,
    where the architecture can protect them.
    """
    machine = Machine.build(arch, page_size, memory, era=name, gate=False)
    machine.resize(size, 2)
    assert check_machine(machine, size) == 0
    assert machine.optimize(size).tolist() == [0, 0]
    kept = machine.world.vmemmap.era.layout.kept_pages
    shared = machine.world.vmemmap.vmemmap_pages(machine.hstate(size).order) - kept
    protects = machine.world.vmemmap.format.protects  # riscv64 has no read-only kernel mapping
    assert check_machine(machine, size) == (2 * shared if protects else 0)
    machine.restore(size)
    assert check_machine(machine, size) == 0
