"""The tables that we write and the walker that reads them, against the emulated MMU of Unicorn
(QEMU's page walker).

The emulator and our walker share the same physical memory. Proved for arm64 4K, 16K and 64K up to
48 bits, and x86-64 with 4 levels: the same physical address (a word that names its own place is
found there), the same fault of loads and of stores, and for arm64 also the level and kind of fault
in PAR_EL1; and that a load sees what our may-set TLB allows, and nothing else.

What this emulator cannot show: it knows no LPA2; it walks anew for a store after a load, so that
old translations are proved for loads only; and it does not tell the syndrome of an exception that
no guest code handles, which is why arm64 faults are asked for with AT instructions. It accepts
arm64 blocks at levels that have none (4K: 512G, 16K: 64G, 64K: 4T without 52-bit addresses), where
our walker faults as the manual says: those are not drawn; other reserved entries are.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unicorn import (
    UC_ARCH_ARM64,
    UC_ARCH_X86,
    UC_HOOK_INTR,
    UC_MODE_64,
    UC_MODE_ARM,
    UC_PROT_ALL,
    UC_TLB_CPU,
    Uc,
)
from unicorn import arm64_const as arm64
from unicorn import x86_const as x86

from hvo.mmu.access import PageFault, translate
from hvo.mmu.format import Format
from hvo.mmu.formats import format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.tlb import Tlb
from hvo.mmu.walk import NoTable, entry_locations, path, walk

MEMORY_SIZE = 2 << 30
CODE, CODE_ROOT, ROOT, TABLES, DATA = 0x10000, 0x100000, 0x200000, 0x300000, 32 << 20
CODE_ADDRESS = 5 << 39 | CODE
TAG = 0x5A << 56
STORED = 0x123456789

FORMATS = [
    *(
        format_for("arm64", page, bits)
        for page, bits in ((4096, 39), (4096, 48), (16384, 47), (16384, 48))
    ),
    *(format_for("arm64", 65536, bits) for bits in (42, 48)),
    format_for("x86_64", 4096, 48),
]
each_format = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
EXAMPLES = settings(
    derandomize=True,
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)


class PhysicalMemory:
    """2 GiB that the emulator and the walker share; untouched pages cost nothing."""

    def __init__(self):
        self.words = np.zeros(MEMORY_SIZE // 8, np.uint64)
        self.next = TABLES
        self.tagged = np.zeros(0, np.uint64)
        self.page_size = 65536

    def readable(self, addresses):
        return addresses < np.uint64(MEMORY_SIZE)

    def read_words(self, addresses):
        return self.words[addresses >> np.uint64(3)]

    def write_words(self, addresses, values):
        self.words[addresses >> np.uint64(3)] = values

    def allocate(self, count):
        first, self.next = self.next, self.next + count * self.page_size
        assert self.next <= DATA
        return np.arange(first, self.next, self.page_size, dtype=np.uint64)

    def reset(self, page_size):
        self.words[ROOT // 8 : self.next // 8] = 0
        self.words[self.tagged >> np.uint64(3)] = 0
        self.next, self.page_size, self.tagged = TABLES, page_size, np.zeros(0, np.uint64)

    def tag(self, addresses):
        """Let the words at these physical addresses say where they are."""
        self.tagged = np.concatenate((self.tagged, addresses))
        self.write_words(addresses, addresses | np.uint64(TAG))


MEMORY = PhysicalMemory()


ARM64_CODE = {
    "load": (0xF9400001,),  # ldr x1, [x0]
    "store": (0xF9000001,),  # str x1, [x0]
    "ask_load": (0xD5087800, 0xD5033FDF, 0xD5387401),  # at s1e1r, x0; isb; mrs x1, par_el1
    "ask_store": (0xD5087820, 0xD5033FDF, 0xD5387401),  # at s1e1w, x0; isb; mrs x1, par_el1
    "invalidate": (0xD5088720, 0xD5033F9F, 0xD5033FDF),  # tlbi vae1, x0; dsb sy; isb
    "invalidate_all": (0xD508871F, 0xD5033F9F, 0xD5033FDF),  # tlbi vmalle1; dsb sy; isb
}
X86_CODE = {
    "load": "488b18",  # mov rbx, [rax]
    "store": "488918",  # mov [rax], rbx
    "invalidate": "0f0138",  # invlpg [rax]
    "invalidate_all": "0f22d8",  # mov cr3, rax
}


class Arm64:
    """EL1 with our tables behind TTBR1 and the code behind TTBR0."""

    def __init__(self, format: Format):
        self.format = format
        self.faulted = False
        self.uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm64.UC_CPU_ARM64_MAX)
        self.uc.ctl_set_tlb_mode(UC_TLB_CPU)
        self.uc.mem_map_ptr(0, MEMORY.words.nbytes, UC_PROT_ALL, MEMORY.words.ctypes.data)
        self.uc.hook_add(UC_HOOK_INTR, self._interrupted)
        self._write_code()
        self._switch_on()

    def _interrupted(self, uc, _number, _data):
        self.faulted = True
        uc.emu_stop()

    def _write_code(self):
        self.entry_points = {}
        place = CODE
        for name, words in ARM64_CODE.items():
            self.entry_points[name] = (place, place + 4 * len(words), len(words))
            self.uc.mem_write(place, b"".join(word.to_bytes(4, "little") for word in words))
            place += 4 * len(words)
        MEMORY.page_size = self.format.page_size
        MEMORY.words[CODE_ROOT // 8 : ROOT // 8] = 0
        frames = iter(range(CODE_ROOT + 0x10000, ROOT, 0x10000))
        self.code = CODE_ADDRESS % (1 << self.format.va_bits)

        def allocate(count):
            return np.array([next(frames) for _ in range(count)], np.uint64)

        map_range(
            MEMORY, self.format, CODE_ROOT, self.code, CODE, self.format.page_size, 0, allocate
        )
        leaf = entry_locations(MEMORY, self.format, CODE_ROOT, np.array([self.code], np.uint64), 0)
        MEMORY.write_words(leaf, MEMORY.read_words(leaf) & ~np.uint64(1 << 53))  # executable at EL1

    def _system(self, register, value):
        self.uc.reg_write(arm64.UC_ARM64_REG_CP_REG, (*register, value))

    def _switch_on(self):
        # Without RW in both, EL1 is AArch32 to the walker, which then reads short descriptors.
        self._system((1, 1, 3, 6, 0), 1 << 10 | 1)  # SCR_EL3.RW, NS
        self._system((1, 1, 3, 4, 0), 1 << 31)  # HCR_EL2.RW
        size = 64 - self.format.va_bits
        granule0 = {12: 0, 14: 2, 16: 1}[self.format.page_shift]
        granule1 = {12: 2, 14: 1, 16: 3}[self.format.page_shift]
        self._system(
            (2, 0, 3, 0, 2), size | size << 16 | granule0 << 14 | granule1 << 30 | 5 << 32
        )  # TCR_EL1
        self._system((2, 0, 3, 0, 0), CODE_ROOT)  # TTBR0_EL1
        self._system((2, 0, 3, 0, 1), ROOT)  # TTBR1_EL1
        self._system((10, 2, 3, 0, 0), 0xFF)  # MAIR_EL1: index 0 is normal memory
        self._system(
            (1, 0, 3, 0, 0), self.uc.reg_read(arm64.UC_ARM64_REG_CP_REG, (1, 0, 3, 0, 0)) | 1
        )  # SCTLR_EL1.M

    def _run(self, name, x0=0, x1=0):
        begin, end, count = self.entry_points[name]
        offset = self.code - CODE
        self.faulted = False
        self.uc.reg_write(arm64.UC_ARM64_REG_X0, x0)
        self.uc.reg_write(arm64.UC_ARM64_REG_X1, x1)
        self.uc.emu_start(begin + offset, end + offset, count=count)
        return None if self.faulted else self.uc.reg_read(arm64.UC_ARM64_REG_X1)

    def load(self, address):
        """The word there, or None after a fault."""
        return self._run("load", address)

    def store(self, address):
        """Whether the word could be stored."""
        return self._run("store", address, STORED) is not None

    def ask(self, address, write):
        """PAR_EL1 for a load or a store: (physical page, None) or (None, fault status code)."""
        par = self._run("ask_store" if write else "ask_load", address)
        if par & 1:
            return None, par >> 1 & 0x3F
        return par & 0x000FFFFFFFFFF000, None

    def invalidate(self, address):
        self._run("invalidate", address >> 12 & (1 << 44) - 1)

    def invalidate_all(self):
        self._run("invalidate_all")


class X86:
    """Ring 0 with CR0.WP; the code is in the same tables, in a slot of the root that no test
    address has.
    """

    def __init__(self, format: Format):
        self.format = format
        MEMORY.page_size = format.page_size
        map_range(MEMORY, format, ROOT, CODE_ADDRESS, CODE, format.page_size, 0, MEMORY.allocate)
        leaf = entry_locations(MEMORY, format, ROOT, np.array([CODE_ADDRESS], np.uint64), 0)
        MEMORY.write_words(leaf, MEMORY.read_words(leaf) & ~np.uint64(1 << 63))
        self._start()

    def _start(self):
        self.faulted = False
        self.uc = uc = Uc(UC_ARCH_X86, UC_MODE_64)
        uc.ctl_set_tlb_mode(UC_TLB_CPU)
        uc.mem_map_ptr(0, MEMORY.words.nbytes, UC_PROT_ALL, MEMORY.words.ctypes.data)
        for place, code in enumerate(X86_CODE.values()):
            uc.mem_write(CODE + 16 * place, bytes.fromhex(code))
        uc.hook_add(UC_HOOK_INTR, self._interrupted)
        uc.reg_write(x86.UC_X86_REG_CR4, uc.reg_read(x86.UC_X86_REG_CR4) | 0xA0)  # PAE, PGE
        uc.reg_write(x86.UC_X86_REG_CR3, ROOT)
        uc.msr_write(0xC0000080, uc.msr_read(0xC0000080) | 0x900)  # EFER.LME, NXE
        uc.reg_write(x86.UC_X86_REG_CR0, uc.reg_read(x86.UC_X86_REG_CR0) | 0x80010001)  # PG, WP, PE

    def _interrupted(self, uc, number, _data):
        assert number == 14
        self.faulted = True
        uc.emu_stop()

    def _run(self, name, rax, rbx=0):
        begin = CODE_ADDRESS + 16 * list(X86_CODE).index(name)
        self.uc.reg_write(x86.UC_X86_REG_RAX, rax)
        self.uc.reg_write(x86.UC_X86_REG_RBX, rbx)
        self.uc.emu_start(begin, begin + 3, count=1)
        if self.faulted:
            self._start()  # a second fault in the same instance would be a double fault
            return None
        return self.uc.reg_read(x86.UC_X86_REG_RBX)

    def load(self, address):
        """The word there, or None after a fault."""
        return self._run("load", address)

    def store(self, address):
        """Whether the word could be stored."""
        return self._run("store", address, STORED) is not None

    def invalidate(self, address):
        self._run("invalidate", address)

    def invalidate_all(self):
        self._run("invalidate_all", ROOT)


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
        level=st.integers(0, format.max_leaf_level).map(lambda level: min(level, format.top)),
        frame=st.integers(0, 1000),
        writable=st.booleans(),
        contiguous=st.booleans(),
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
        return format.access_flag_cleared(entries)
    if how == "reserved" and format.arch == "arm64":
        return entries ^ np.uint64(2) if level == 0 else entries  # a block at level 0
    if how == "reserved":
        return (
            entries | np.uint64(1 << 13) if level else entries
        )  # a large page that is not aligned
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


def expected(format, address, write):
    """(physical address, None) or (None, the fault) by our own walker."""
    try:
        return int(
            translate(MEMORY, format, ROOT, np.array([address], np.uint64), write=write)[0]
        ), None
    except PageFault as fault:
        return None, fault


def emulator(format):
    MEMORY.reset(format.page_size)
    return (Arm64 if format.arch == "arm64" else X86)(format)


def check_access(cpu, address, write):
    """One access in the emulator is what our walker says."""
    physical, fault = expected(cpu.format, address, write)
    if not write:
        assert cpu.load(address) == (None if fault else physical | TAG), (
            f"load of {address:#x}: {fault or hex(physical)}"
        )
        return
    assert cpu.store(address) == (fault is None), f"store to {address:#x}: {fault or hex(physical)}"
    if not fault:
        assert MEMORY.words[physical // 8] == STORED
        MEMORY.words[physical // 8] = physical | TAG


def check_answer(cpu, address, write):
    """PAR_EL1 has the physical page, or the kind and level of the fault (Arm ARM, ISS encoding of
    data aborts).
    """
    physical, fault = expected(cpu.format, address, write)
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
    """Over random tables: loads and stores reach the same physical address or fault, as our walker
    says.
    """
    cpu = emulator(format)
    drawn = [
        one
        for one in data.draw(st.lists(mappings(format), min_size=1, max_size=8))
        if write_mapping(format, one)
    ]
    addresses = probes(format, drawn)
    found = walk(MEMORY, format, ROOT, addresses)
    MEMORY.tag(found.address[found.valid])
    for address in addresses.tolist():
        check_access(cpu, address, write=False)
        check_access(cpu, address, write=True)
        if format.arch == "arm64":
            check_answer(cpu, address, write=False)
            check_answer(cpu, address, write=True)


PAGES = 3


def tlb_pages(format):
    """A page, a block, and (arm64) a contiguous group: (virtual start, size, level)."""
    base = format.canonical(1 << format.va_bits - 1)
    block = format.span(1)
    return [
        (base, format.page_size, 0),
        (base + block, block, 1),
        (base + 2 * block, format.contiguous_span(0), 0),
    ]


def set_page(format, page, frame):
    """Let a page, block or group map its `frame`-th possible place; `None` makes it invalid."""
    address, size, level = page
    locations = np.uint64(address) + np.arange(0, size, format.span(level), dtype=np.uint64)
    try:
        leaves = entry_locations(MEMORY, format, ROOT, locations, level)
    except NoTable:
        leaves = None
    if frame is None:
        MEMORY.write_words(leaves, format.invalid(MEMORY.read_words(leaves)))
        return
    physical = (-(-DATA // size) + frame) * size
    map_range(MEMORY, format, ROOT, address, physical, size, level, MEMORY.allocate)
    if size > format.span(level):
        leaves = entry_locations(MEMORY, format, ROOT, locations, level)
        MEMORY.write_words(leaves, MEMORY.read_words(leaves) | np.uint64(format.contiguous))


def split(format, page):
    """Replace the block by a table of pages that map the same memory, and move the first of them
    elsewhere.
    """
    address = np.array([page[0]], np.uint64)
    location = entry_locations(MEMORY, format, ROOT, address, 1)
    leaf = MEMORY.read_words(location)
    if not format.is_leaf(leaf, 1)[0]:
        return
    table = MEMORY.allocate(1)
    first = format.split_entry(leaf, 1)
    pages = np.arange(format.table_entries(0), dtype=np.uint64)
    outputs = format.output_address(first, 0) + (pages << np.uint64(format.page_shift))
    outputs[0] = DATA
    MEMORY.write_words(table + (pages << np.uint64(3)), format.with_output(first, outputs, 0))
    MEMORY.write_words(location, format.make_table(table))


OPERATIONS = st.tuples(
    st.sampled_from(("load", "load", "change", "unmap", "split", "invalidate", "invalidate_all")),
    st.integers(0, PAGES - 1),
    st.sampled_from((0, 8, 4088)),
    st.integers(0, 1),
)


@each_format
@EXAMPLES
@given(operations=st.lists(OPERATIONS, max_size=30))
def test_loads_see_what_the_tlb_may_hold(format, operations):
    """Before an invalidation a load sees an old or the new translation, after it the new one: for
    page, block and group.
    """
    cpu, tlb, pages = emulator(format), Tlb(format, cpus=1), tlb_pages(format)
    offsets = [(start + offset) for start, _, _ in pages for offset in (0, 8, 4088)]
    for number in range(PAGES):
        set_page(format, pages[number], 0)
    tag_everything(format, offsets)
    fill(tlb, format, offsets)
    for name, number, offset, frame in operations:
        address = pages[number][0] + offset
        if name == "load":
            seen = cpu.load(address)
            allowed = {one.translate(address) | TAG for one in tlb.may_use(0, address)}
            current = expected(format, address, write=False)[0]
            assert seen in allowed if seen is not None else current is None
        elif name == "invalidate":
            cpu.invalidate(address)
            tlb.invalidate(address, address + 1)
        elif name == "invalidate_all":
            cpu.invalidate_all()
            tlb.invalidate_all()
        else:
            change(format, pages, name, number, frame)
            tag_everything(format, offsets)
        fill(tlb, format, offsets)


def change(format, pages, name, number, frame):
    if name == "split":
        split(format, pages[1])
    else:
        set_page(format, pages[number], None if name == "unmap" else frame)


def fill(tlb, format, addresses):
    """The hardware walker may have walked for any address at any time."""
    for address in addresses:
        tlb.fill(0, address, path(MEMORY, format, ROOT, address))


def tag_everything(format, addresses):
    found = walk(MEMORY, format, ROOT, np.array(addresses, np.uint64))
    MEMORY.tag(found.address[found.valid])


@each_format
def test_the_emulator_does_hold_old_translations(format):
    """Not vacuous: without an invalidation a load does see the old translation, and with it the new
    one.
    """
    for page in tlb_pages(format):
        cpu, address = emulator(format), page[0] + 8
        seen = []
        for frame, flush in ((0, False), (1, False), (1, True)):
            set_page(format, page, frame)
            tag_everything(format, [address])
            if flush:
                cpu.invalidate(address)
            seen.append(cpu.load(address))
        old, stale, new = seen
        assert stale == old
        assert new == expected(format, address, write=False)[0] | TAG != old
