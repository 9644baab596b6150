"""The page-table dump: its text is the kernel's, and it may run beside optimise and restore, but
not beside hot-remove.
"""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from hvo.actors.hotplug import Block, add_memory, remove_memory
from hvo.actors.ptdump import grouping, ptdump, region_at, vmemmap_region
from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.machine.machine import Machine
from hvo.memory.core import open_core
from hvo.memory.target import open_target
from hvo.mmu.formats import FORMATS, format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.runs import Grouping, Runs, read_runs
from hvo.report.ptdump_text import dump_text, runs_text
from hvo.steps.base import primitives
from hvo.steps.entries import Entry, EntryKind, ReadRuns, WriteEntry
from hvo.steps.ordering import Acquire, Lock, Release
from hvo.vmemmap.context import Vmemmap
from hvo.vmemmap.era import era
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
from hvo.vmemmap.split import table_of_leaf
from hvo.world.handlers import perform
from shared_files import CORES, core, log, truth
from small_machines import (
    EXECUTORS,
    SHAPES,
    Turns,
    dump,
    machine,
    no_freed_table,
    section_pages,
    vmemmap_range,
)

DATA = Path(__file__).resolve().parent / "data/ptdump"
WITH_TEXT = [
    "arm64-6.1-4k-off",
    "arm64-6.1-4k-on",
    "arm64-6.1-4k-mixed",
    "arm64-6.1-64k-few",
    "arm64-7.3-4k-sizes",
    "x86-6.1-dump-on",
]


def image_of(name: str) -> KernelImage:
    return KernelImage.of(open_core(core(name)))


# -- the text, on real kernels' memory --


def test_every_kernel_that_printed_a_dump_is_tested():
    assert sorted(name for name, facts in truth().items() if facts["kernel_ptdump"]) == sorted(
        WITH_TEXT
    )


@pytest.mark.parametrize("name", WITH_TEXT)
def test_the_dump_of_a_core_is_what_its_kernel_printed(name):
    image = image_of(name)
    found = re.search(r"@@ ptdump\n(.*?)@@ ptdump end", log(name), re.DOTALL)
    assert found is not None
    assert dump_text(image.memory, image.format, image.root, vmemmap_region(image)) == found[1]


@pytest.mark.parametrize("name", CORES)
def test_reading_tables_whole_and_entry_by_entry_is_the_same(name):
    image = image_of(name)
    region = vmemmap_region(image)
    step = ReadRuns(image.format, image.root, region.start, region.end, grouping(image.format))
    assert same(
        read_runs(image.memory, image.format, image.root, region.start, region.end, step.grouping),
        _entry_by_entry(image, step),
    )


def _entry_by_entry(image: KernelImage, step: ReadRuns) -> Runs:
    walk = step.parts()
    result = None
    while True:
        try:
            read = walk.send(result)
        except StopIteration as stop:
            return stop.value
        value = int(image.memory.read_words(np.array([read.location], np.uint64))[0])
        table = image.format.is_table(value, read.level)
        kind = (
            EntryKind.TABLE
            if table
            else EntryKind.LEAF
            if image.format.is_leaf(value, read.level)
            else EntryKind.NONE
        )
        result = Entry(kind, value)


def same(one: Runs, other: Runs) -> bool:
    columns = all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("start", "level", "bits", "effective")
    )
    return columns and one.end == other.end


@pytest.mark.parametrize(
    "name",
    ["x86-6.12-on", "x86-7.3-on", "arm64-6.1-4k-on", "arm64-7.3-4k-sizes", "arm64-6.1-64k-few"],
)
def test_the_read_only_lines_are_the_optimised_pages(name):
    """For kernels that print no dump as well: bytes on `ro` lines are the tails' vmemmap pages that
    truth.json counts.
    """
    image = image_of(name)
    text = dump_text(image.memory, image.format, image.root, vmemmap_region(image))
    shared = sum(int(line[2:18], 16) for line in text.splitlines() if " ro " in line)
    ends = sum(int(line[21:37], 16) for line in text.splitlines() if " ro " in line)
    pools = truth()[name]["pools"]
    tails = sum(
        pool["optimized"] * (pool["vmemmap_pages"] - 1)
        for pool in pools
        if pool["vmemmap_pages"] > 1
    )
    assert tails > 0
    assert ends - shared == tails * image.page_size


# -- rules of the text that no core at hand shows --


class Words:
    """Memory that is a dictionary of words, zero elsewhere."""

    page_size = 4096

    def __init__(self) -> None:
        self.words: dict[int, int] = {}

    def read_words(self, addresses):
        return np.array(
            [self.words.get(address, 0) for address in addresses.ravel().tolist()], np.uint64
        ).reshape(addresses.shape)

    def write_words(self, addresses, values):
        flat = np.broadcast_to(np.asarray(values, np.uint64), addresses.shape).ravel()
        self.words.update(zip(addresses.ravel().tolist(), flat.tolist(), strict=True))


ROOT = 0x10_0000


def mapped(form, start: int, size: int, level: int, *, writable: bool = True) -> Words:
    """Tables that map `size` bytes at `start` with leaves of `level`."""
    memory = Words()
    tables = iter(range(ROOT + form.page_size, ROOT << 4, form.page_size))

    def allocate(count: int):
        return np.array([next(tables) for _ in range(count)], np.uint64)

    map_range(memory, form, ROOT, start, 1 << 30, size, level, allocate, writable=writable)
    return memory


@pytest.mark.parametrize(
    ("form", "name"),
    [(form, form.name) for form in FORMATS.values() if form.arch not in ("riscv64", "loongarch64")],
)
def test_the_top_level_is_the_pgd_however_many_levels_there_are(form, name):
    """Levels are folded into the PGD: an address space with nothing in it is one PGD line (arm64
    `real_depth`, x86 `ptrs_per_p4d`).
    """
    start = form.canonical(1 << form.va_bits - 1)
    region = region_at(form, start)._replace(end=start + 4 * form.span(form.top))
    lines = dump_text(Words(), form, ROOT, region).splitlines()
    assert len(lines) == 3, name
    assert re.search(r"P4D|PUD|PMD|PTE", lines[1], re.IGNORECASE) is None
    assert lines[1].strip().lower().endswith("pgd")


def test_x86_merges_by_what_the_tables_above_allow():
    """Two ranges of equal entries are two lines when a table above one of them takes the right to
    write (`effective_prot`).
    """
    form = format_for("x86_64", 4096, 48)
    start = form.canonical(1 << 47)
    memory = mapped(form, start, 2 * form.span(1), 0)
    region = region_at(form, start)._replace(end=start + 2 * form.span(1))
    assert len(dump_text(memory, form, ROOT, region).splitlines()) == 3
    memory.words[_second_entry(memory, form, start)] &= ~2
    lines = dump_text(memory, form, ROOT, region).splitlines()
    assert len(lines) == 4
    assert lines[1][40:] == lines[2][40:]


def _second_entry(memory: Words, form, start: int) -> int:
    """Where the entry of level 1 lies that maps the second range."""
    table, address = ROOT, start + form.span(1)
    for level in range(form.top, 1, -1):
        table = form.output_address(memory.words[table + 8 * form.index(address, level)], level)
    return table + 8 * form.index(address, 1)


def test_arm64_ignores_bits_that_its_text_does_not_show():
    """A dirty and a clean entry are one line on arm64, two on x86, which compares all flags."""
    for arch, lines in (("arm64", 1), ("x86_64", 2)):
        form = format_for(arch, 4096, 48)
        start = form.canonical(1 << 47)
        memory = mapped(form, start, 16 * 4096, 0, writable=False)
        leaves = [
            address
            for address, entry in memory.words.items()
            if form.output_address(entry, 0) >= 1 << 30
        ]
        memory.words[sorted(leaves)[3]] ^= form.dirty
        region = region_at(form, start)._replace(end=start + 3 * 4096)
        one = len(dump_text(memory, form, ROOT, region).splitlines()) - 2
        region = region._replace(end=start + 4 * 4096)
        assert (one, len(dump_text(memory, form, ROOT, region).splitlines()) - 2) == (1, lines)


def test_a_broken_entry_of_arm64_prints_an_f():
    """An entry that is not valid but not 0 is no hole: the last level notes it as it stands."""
    form = format_for("arm64", 4096, 48)
    start = form.canonical(1 << 47)
    memory = mapped(form, start, 4 * 4096, 0)
    leaf = min(
        address
        for address, entry in memory.words.items()
        if form.output_address(entry, 0) >= 1 << 30
    )
    memory.words[leaf + 8] = form.invalid(memory.words[leaf + 8])
    lines = dump_text(
        memory, form, ROOT, region_at(form, start)._replace(end=start + 4 * 4096)
    ).splitlines()
    assert [line[37:56].split() for line in lines[1:-1]] == [
        ["4K", "PTE"],
        ["4K", "PTE", "F"],
        ["8K", "PTE"],
    ]


def test_riscv_is_the_text_of_a_kernel():
    """6.12 with PTDUMP_DEBUGFS printed this of its vmemmap; the core has the tables that it
    read.
    """
    packed = DATA / "riscv64-6.12.elf.xz"
    memory = open_target(str(packed), lambda _: None)
    image = KernelImage.of(memory)
    text = dump_text(memory, image.format, image.root, vmemmap_region(image))
    assert text == (DATA / "riscv64-6.12.log").read_text()


def test_riscv_shows_every_bit_that_its_kernel_shows():
    """Lines by hand after `pte_bits[]` and `dump_prot()` of arch/riscv/mm/ptdump.c: a hole has no
    line, equal entries are one line whatever they map, a level is called the same in any mode.
    """
    form = format_for("riscv64", 4096, 39)
    start = form.canonical(1 << 38)
    memory = mapped(form, start, 6 * 4096, 0)
    (first,) = (
        place
        for place, entry in memory.words.items()
        if form.output_address(entry, 0) == 1 << 30 and form.is_leaf(entry, 0)
    )
    memory.words[first + 8] |= 1 << 61
    memory.words[first + 16] |= 1 << 9
    memory.words[first + 24] = 0
    memory.words[first + 32] &= ~0b1000_0100
    region = region_at(form, start)._replace(end=start + 6 * 4096)
    assert dump_text(memory, form, ROOT, region).splitlines()[1:-1] == [
        "0xffffffc000000000-0xffffffc000001000    0x0000000040000000         4K PTE"
        " .   ..     ..   D A G . . W R V",
        "0xffffffc000001000-0xffffffc000002000    0x0000000040001000         4K PTE"
        " . MT(NC)   ..   D A G . . W R V",
        "0xffffffc000002000-0xffffffc000003000    0x0000000040002000         4K PTE"
        " .   ..   RSW(2) D A G . . W R V",
        "0xffffffc000004000-0xffffffc000005000    0x0000000040004000         4K PTE"
        " .   ..     ..   . A G . . . R V",
        "0xffffffc000005000-0xffffffc000006000    0x0000000040005000         4K PTE"
        " .   ..     ..   D A G . . W R V",
    ]


def test_riscv_needs_the_tables_for_its_physical_addresses():
    form = format_for("riscv64", 4096, 48)
    runs = read_runs(Words(), form, ROOT, 1 << 63, (1 << 63) + 4096, grouping(form))
    with pytest.raises(HvoError, match="physical addresses"):
        runs_text(runs, form, region_at(form, 1 << 63))


# -- on a machine --


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}-{shape[1]}")
@pytest.mark.parametrize("name", ["5.14", "5.18", "6.2", "7.1"])
def test_an_optimised_page_is_one_writable_line_and_one_read_only(shape, name):
    """Both executors read the same runs, and restore brings the first dump's attributes back."""
    arch, page_size, memory, size = shape
    m = machine(arch, page_size, memory, name)
    m.resize(size, 1)
    v, head = m.world.vmemmap, int(m.pool(size).heads()[0])
    region = region_at(v.format, m.plan.base)
    text = dump_text(m.world.memory, v.format, m.world.root, region)
    start, pages = int(v.address(head)), v.vmemmap_pages(m.hstate(size).order)
    kept = v.era.layout.kept_pages
    line = next(
        line for line in text.splitlines() if line.startswith(f"0x{start + kept * page_size:016x}")
    )
    assert re.match(
        rf"0x\w+-0x{start + pages * page_size:016x} +{(pages - kept) * page_size // 1024}K"
        r" .*\bro\b",
        line,
    )
    assert text.count(" ro ") == 1
    runs = [
        executor(m.world).run(ptdump(v, m.world.root, *vmemmap_range(m), "read"))
        for executor in EXECUTORS
    ]
    assert same(*runs)
    assert runs_text(runs[0], v.format, region)[30:300] == text[30:300]
    m.restore(size)
    assert " ro " not in dump_text(m.world.memory, v.format, m.world.root, region)


@pytest.mark.parametrize(
    ("lock", "taken"), [("none", []), ("read", [Lock.MMAP_READ]), ("write", [Lock.MMAP_WRITE])]
)
def test_a_dump_takes_the_locks_it_says(lock, taken):
    for name, hotplug in (("5.18", []), ("7.1", [Lock.HOTPLUG_READ])):
        m = machine(variant=name)
        steps = list(_steps(m, ptdump(m.world.vmemmap, m.world.root, *vmemmap_range(m), lock)))
        assert [step.lock for step in steps if isinstance(step, Acquire)] == hotplug + taken
        assert [step.lock for step in steps if isinstance(step, Release)] == (hotplug + taken)[::-1]
        assert isinstance(steps[-1], Release | ReadRuns)
        assert not m.world.locks


def _steps(m: Machine, actor):
    result = None
    while True:
        try:
            step = actor.send(result)
        except StopIteration:
            return
        yield step
        result = perform(m.world, step)


# -- beside optimise and restore --


def whole_entries(v: Vmemmap) -> Grouping:
    """Tell every two entries apart that differ in anything."""
    return Grouping((1 << 64) - 1)


def pages_of(v: Vmemmap, runs: Runs, start: int, pages: int) -> list[tuple[int, int]]:
    """(level, entry) that each of `pages` vmemmap pages from `start` is shown with."""
    addresses = start + np.arange(pages, dtype=np.uint64) * np.uint64(v.page_size)
    at = np.searchsorted(runs.start, addresses, side="right") - 1
    assert (runs.ends[at] > addresses).all(), "the dump has a hole"
    return list(zip(runs.level[at].tolist(), runs.bits[at].tolist(), strict=True))


class Around:
    """The vmemmap of one leaf of memory, and what a dump may show of each of its pages while
    `actor` runs.
    """

    def __init__(self, m: Machine) -> None:
        self.m, self.v = m, m.world.vmemmap
        self.head = int(m.plan.nodes[0].memory[0]) + 512 * 3
        self.start = int(self.v.address(self.head)) // self.v.leaf * self.v.leaf
        self.pages = self.v.leaf // self.v.page_size
        self.heads = np.array([self.head])
        m.set_gate(False)
        m.resize("2MiB", 8)

    def dump(self, lock="none"):
        step = ReadRuns(
            self.v.format,
            self.m.world.root,
            self.start,
            self.start + self.v.leaf,
            whole_entries(self.v),
        )
        yield from self._locked(step, lock)

    def _locked(self, step, lock):
        if lock == "write":
            yield from Acquire(Lock.MMAP_WRITE)
        self.runs = yield step
        if lock == "write":
            yield from Release(Lock.MMAP_WRITE)

    def shown(self) -> list[tuple[int, int]]:
        self.m.run(self.dump())
        return pages_of(self.v, self.runs, self.start, self.pages)

    def split(self, shown: list[tuple[int, int]]) -> list[set[tuple[int, int]]]:
        """What pages that a leaf maps are shown with once it is split."""
        if shown[0][0] == 0:
            return [set() for _ in shown]
        return [{(0, entry)} for entry in table_of_leaf(self.v, np.uint64(shown[0][1])).tolist()]

    def optimise(self):
        return hugetlb_vmemmap_optimize_folios(self.v, 9, self.heads)

    def restore(self):
        return hugetlb_vmemmap_restore_folios(self.v, 9, self.heads)


@pytest.mark.parametrize("arch", ["arm64", "x86_64"])
@pytest.mark.parametrize("name", ["5.14", "5.18", "6.2", "7.1"])
def test_between_any_two_steps_a_dump_shows_old_or_new_entries(name, arch):
    """A whole dump between every two primitives of optimise, and of restore: each page old, split,
    or new; never a freed table.
    """
    m = machine(arch, variant=name)
    around = Around(m)
    for protocol in (around.optimise, around.restore):
        shown = [around.shown()]
        walk = primitives(protocol())
        result = None
        for _ in range(10_000):
            try:
                step = walk.send(result)
            except StopIteration:
                break
            result = perform(m.world, step)
            if isinstance(step, WriteEntry):  # nothing else changes what a dump reads
                shown.append(around.shown())
                assert not m.world.zones.is_free(_tables_of(around)).any()
        else:
            pytest.fail("the protocol does not end")
        assert len(shown) > 2
        assert around.shown() == shown[-1]
        allowed = [
            {old, new} | split
            for old, new, split in zip(shown[0], shown[-1], around.split(shown[0]), strict=True)
        ]
        assert all(page in allowed[i] for each in shown for i, page in enumerate(each))


def _tables_of(around: Around) -> np.ndarray:
    """Frames of the tables that map the leaf's range."""
    v, table, frames = around.v, around.m.world.root, []
    for level in range(v.format.top, -1, -1):
        frames.append(table // v.page_size)
        entry = int(
            around.m.world.memory.read_words(
                np.array([table + 8 * v.format.index(around.start, level)], np.uint64)
            )[0]
        )
        if not v.format.is_table(entry, level):
            break
        table = v.format.output_address(entry, level)
    return np.array(frames)


def take_turns(around: Around, protocol, choose, lock):
    """One dump and one protocol taking turns as `choose` says -> what a dump shows of each page
    before, what this one does, and after.
    """
    before = around.shown()
    turns = Turns(
        around.m, {"dump": around.dump(lock), "protocol": protocol()}, no_freed_table(around.m)
    )
    choose(turns)
    for name in ("dump", "protocol", "dump"):
        turns.run(name)
    assert not turns.next
    return before, pages_of(around.v, around.runs, around.start, around.pages), around.shown()


def overtaken(around: Around, lock: str, places: list[int | None]):
    """Optimise, and then restore, wholly after so many steps of the dump (None: in random turns) ->
    as `take_turns`.
    """
    rng = random.Random(1)
    for place in places:

        def choose(turns: Turns, place=place) -> None:
            if place is not None:
                turns.run("dump", place)
                turns.run("protocol")
                return
            while any(
                turns.run(name, rng.randrange(1, 40))
                for name in rng.sample(["dump", "protocol"], 2)
            ):
                pass

        for protocol in (around.optimise, around.restore):
            yield take_turns(around, protocol, choose, lock)


@pytest.mark.parametrize("name", ["5.18", "7.1"])
def test_a_dump_that_is_overtaken_shows_old_or_new_entries(name):
    """Without a lock: the protocol at many places inside the dump, and at random turns. Some dumps
    do show half of each.
    """
    around = Around(machine(variant=name))
    mixed = 0
    for before, found, after in overtaken(around, "none", [0, 3, 4, 28, 300, 516, None, None]):
        allowed = [
            {old, new} | split
            for old, new, split in zip(before, after, around.split(before), strict=True)
        ]
        assert all(page in allowed[i] for i, page in enumerate(found))
        mixed += found not in (before, after)
    assert mixed > 0


@pytest.mark.parametrize("name", ["5.18", "7.1"])
def test_a_dump_under_the_write_lock_shows_one_moment(name):
    """Everything old, everything new, or (a batch lets go of the lock in between) everything split
    and nothing remapped.
    """
    around = Around(machine(variant=name))
    for before, found, after in overtaken(around, "write", [0, 5, None]):
        split = [
            next(iter(pages), old) for old, pages in zip(before, around.split(before), strict=True)
        ]
        assert found in ((before, after, split) if around.v.era.batched else (before, after))


def test_a_dump_that_write_locks_never_runs_beside_a_remap():
    """From the moment optimise has the read lock until it lets go, the dump waits, and the other
    way round.
    """
    m = machine()
    around = Around(m)
    turns = Turns(m, {"dump": around.dump("write"), "protocol": around.optimise()})
    while ("protocol", Lock.MMAP_READ) not in turns.held:
        assert turns.step("protocol")
    assert not turns.can("dump")
    turns.run("protocol")
    assert turns.run("dump", 3) == 3
    restore = Turns(m, {"dump": around.dump("write"), "protocol": around.restore()})
    restore.run("dump", 3)
    restore.run("protocol")
    assert isinstance(restore.next["protocol"], Acquire)
    assert restore.next["protocol"].lock is Lock.MMAP_READ


# -- beside hot-remove --


def overtaken_by_remove(variant) -> list[str]:
    """A dump that has read the entry that points to a table, when hot-remove frees that table ->
    who was not done then.
    """
    m = machine(variant=variant)
    v = m.world.vmemmap
    block = Block(m.plan.end, section_pages(m))
    assert m.run(add_memory(v, m.world.root, block)) == 0
    head = np.array([block.start + 512])
    m.run(hugetlb_vmemmap_optimize_folios(v, 9, head))
    m.run(hugetlb_vmemmap_restore_folios(v, 9, head))
    span = int(v.address(block.start)), int(v.address(block.end))
    actors = {
        "dump": ptdump(v, m.world.root, *span, "none"),
        "remove": remove_memory(v, m.world.root, block),
    }
    turns = Turns(m, actors, no_freed_table(m))
    turns.run(
        "dump", v.format.top + variant.has("dump-hotplug-lock")
    )  # down to the entry of level 1
    turns.run("remove")
    waited = list(turns.next)
    turns.run("dump")
    turns.run("remove")
    assert not turns.next
    return waited


def test_a_dump_without_the_hotplug_lock_reads_a_freed_table():
    """Hazard H16."""
    with pytest.raises(AssertionError, match="was a table, and is free"):
        overtaken_by_remove(era("6.2", drop=("dump-hotplug-lock",)))


def test_with_the_hotplug_lock_hot_remove_waits():
    assert overtaken_by_remove(era("6.2")) == ["dump", "remove"]


def test_without_a_dump_hot_remove_does_not_wait():
    m = machine()
    block = Block(m.plan.end, section_pages(m))
    before = dump(m)
    m.run(add_memory(m.world.vmemmap, m.world.root, block))
    assert not same(before, dump(m))
    turns = Turns(m, {"remove": remove_memory(m.world.vmemmap, m.world.root, block)})
    turns.run("remove")
    assert turns.results == {"remove": 0}
    assert same(before, dump(m))
