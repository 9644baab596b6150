"""What the checker lets a CPU use of a page's translations, against emulated MMUs of Unicorn.

`check.model.access.translations` is what every access of the checker goes by. Here an actor takes
its steps one by one in the checker, and its page tables are written, entry by entry, into the
memory of two emulated CPUs (arm64, x86-64 and riscv64), each with a TLB of its own, which load from
the pages and store to them between the steps. Whatever they do, the checker must allow; after an
invalidation it must allow nothing else.

The checker's tables are those of hardware with fewer entries, so that an entry needs no translation
but of the frame that it leads to: a leaf maps 8 pages there and 512 here.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulated_mmu import TAG, PhysicalMemory, cpu_on
from hvo.check.model.access import translations
from hvo.check.model.geometry import (
    BASE,
    FIRST_FRAME,
    PAGE,
    PMD_FRAME,
    PUD_FRAME,
    Geometry,
    small_format,
)
from hvo.check.model.hardware import Hardware
from hvo.check.model.state import KIND, NODE, TABLE, Meaning
from hvo.check.model.world import World
from hvo.check.scenarios.actors import OPTIMIZER, READER, RESTORER
from hvo.check.scenarios.scenario import Actor, Scenario
from hvo.check.search.start import build
from hvo.check.search.transition import step
from hvo.mmu.formats import format_for
from hvo.protocol import (
    AwaitInvalidation,
    Invalidate,
    InvalidateAll,
    Step,
    Steps,
    WriteEntry,
)
from hvo.vmemmap.era import era

ARCHITECTURES = {"arm64": 39, "x86_64": 48, "riscv64": 39}
GEOMETRY = Geometry(pages=4, group=4, leaf=8)
LEAF, PAGES, ENTRIES = GEOMETRY.leaf, GEOMETRY.vmemmap_pages, 512
CODE = 32 << 20
MEMORY = PhysicalMemory(code=CODE, tables=CODE + (2 << 20))


class Mirror:
    """The checker's tables in the memory of two CPUs, and what these have seen.

    `old` counts loads that came by a translation that the tables do not have any more.
    """

    def __init__(self, arch: str) -> None:
        self.format = format_for(arch, PAGE, ARCHITECTURES[arch])
        self.small = small_format(arch, LEAF)
        MEMORY.words[: CODE // 8] = 0
        MEMORY.next, MEMORY.page_size = MEMORY.tables, PAGE
        MEMORY.root = self.place(PUD_FRAME)
        if self.format.levels == 4:
            MEMORY.root = int(MEMORY.allocate(1)[0])
            MEMORY.words[MEMORY.root // 8 :][:ENTRIES] = 0
            MEMORY.words[MEMORY.root // 8] = self.format.make_table(self.place(PUD_FRAME))
        self.cpus = [cpu_on(self.format, MEMORY) for _ in range(2)]
        self.pending: list[Step[object]] = []
        self.old = self.only = 0

    @staticmethod
    def place(frame: int) -> int:
        """Physical address here of the checker's `frame`: leaves begin where hardware lets them."""
        return (frame // LEAF * ENTRIES + frame % LEAF) * PAGE

    def address(self, page: int) -> int:
        """Virtual address here of the second word of a vmemmap page."""
        slot, index = divmod(page, LEAF)
        return self.format.canonical(slot << self.format.shift(1) | index << 12) + 8

    def write_tables(self, world: World) -> None:
        """Write every entry that is another than before; other frames say which they are."""
        for frame, row in enumerate(world.contents):
            place = self.place(frame) // 8
            if world.status[frame] & KIND != TABLE:
                MEMORY.words[place + 1] = 8 * (place + 1) | TAG
                continue
            level = {PMD_FRAME: 1, PUD_FRAME: 2}.get(frame, 0)
            count = LEAF if level == 0 else GEOMETRY.leaves
            new = np.array([self.entry(word, level) for word in row[:count]], np.uint64)
            MEMORY.words[place : place + count] = new

    def entry(self, word: int, level: int) -> int:
        """The checker's entry, leading where its frame is here."""
        f = self.small
        target = self.place(int(f.output_address(word, level)) // PAGE)
        if level and f.is_table(word, level):
            return int(self.format.make_table(target))
        if not f.is_leaf(word, level):
            return word
        return int(self.format.with_output(f.with_output(word, 0, level), target, level))

    def invalidate(self, taken: Step[object], *, this_cpu: bool) -> None:
        """Drop what an invalidation is about, on one CPU or on both."""
        for cpu in self.cpus[:1] if this_cpu else self.cpus:
            if isinstance(taken, Invalidate):
                for page in range(int(taken.start - BASE) // PAGE, int(taken.end - BASE) // PAGE):
                    cpu.invalidate(self.address(page))
            else:
                cpu.invalidate_all()

    def follow(self, taken: Step[object]) -> None:
        """Do with the CPUs what a step did with TLBs: a broadcast is done when it is awaited."""
        if isinstance(taken, Invalidate | InvalidateAll):
            if taken.this_cpu:
                self.invalidate(taken, this_cpu=True)
            else:
                self.pending.append(taken)
        elif isinstance(taken, AwaitInvalidation):
            for asked in self.pending:
                self.invalidate(asked, this_cpu=False)
            self.pending = []

    def look(self, world: World, pages: range | set[int]) -> None:
        """Both CPUs load from `pages`, the second one stores to them; the checker must have allowed
        it. (A fault costs the emulated x86-64 its TLB.)
        """
        asked = World(world.model, world.freeze())
        for number, cpu in enumerate(self.cpus):
            for page in pages:
                allowed = translations(asked, page, world.model.cpu(number))
                self.check_load(cpu.load(self.address(page)), allowed)
                if number:
                    stored = cpu.store(self.address(page))
                    assert stored in {bool(self.reached(one) and one.writable) for one in allowed}
                    self.write_tables(world)  # what was stored says where it is again

    def check_load(self, seen: int | None, allowed: list[Meaning]) -> None:
        places = [self.reached(one) for one in allowed]
        assert (seen and (seen ^ TAG) & -PAGE) in places
        self.old += seen != (places[-1] and places[-1] + 8 | TAG)
        self.only += len(places) == 1

    def reached(self, one: Meaning) -> int | None:
        """Where the frame of a usable translation is; None where the access faults."""
        return self.place(one.frame) if one.kind == "leaf" and one.cacheable else None


def run(
    arch: str, act: Actor, name: str, *, split: bool, pages: Callable[[int], set[int]]
) -> Mirror:
    """Run an actor alone in the checker, with emulated CPUs that look after every step at the
    `pages` that its number gives.
    """
    scenario = Scenario("mirrored", (act, READER), GEOMETRY, split=split)
    if act is RESTORER:
        scenario = Scenario("mirrored", (act, READER), GEOMETRY, before=OPTIMIZER.act)
    forest, start = build(scenario, era(name), Hardware(arch))
    world, mirror = World(forest.model, start), Mirror(arch)
    mirror.write_tables(world)
    mirror.look(world, range(PAGES))
    done = 0
    while (operation := forest.nodes[world.actors[0][NODE]].operation) is not None:
        assert step(forest, world, 0)
        mirror.write_tables(world)
        mirror.follow(operation.step)
        mirror.look(world, pages(done))
        done += 1
    mirror.look(world, range(PAGES))
    return mirror


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", ["5.14", "5.18", "6.2", "7.1"])
@pytest.mark.parametrize("act", [OPTIMIZER, RESTORER], ids=lambda act: act.role)
def test_protocols(arch: str, name: str, act: Actor) -> None:
    """While a huge page is optimised, and restored, by each era: CPUs see old translations, and
    only such as the checker allows.
    """
    mirror = run(arch, act, name, split=False, pages=lambda _: set(range(4)))
    assert mirror.old > 0
    assert mirror.only > 0


# -- random changes of the tables --

PAGE_ENTRY = st.tuples(
    st.just("page"),
    st.integers(0, PAGES - 1),
    st.integers(FIRST_FRAME, FIRST_FRAME + PAGES - 1),
    st.sampled_from(("rw", "ro", "none", "old")),
)
BLOCK_ENTRY = st.tuples(
    st.just("block"),
    st.integers(0, GEOMETRY.leaves - 1),
    st.integers(0, GEOMETRY.leaves - 1),
    st.sampled_from(("rw", "ro", "none", "table", "table")),
)
FLUSH = st.tuples(
    st.sampled_from(("flush", "flush tables", "flush this CPU")),
    st.integers(0, PAGES - 1),
    st.integers(1, PAGES),
)
FLUSH_ALL = st.sampled_from((("all",), ("all of this CPU",), ("await",), ("await",)))
CHANGES = st.lists(
    st.tuples(
        st.one_of(PAGE_ENTRY, BLOCK_ENTRY, FLUSH, FLUSH_ALL),
        st.sets(st.integers(0, PAGES - 1), max_size=4),
    ),
    max_size=24,
)


def changing(changes: list[tuple[tuple[str, int, int, str], set[int]]]) -> Actor:
    """An actor that changes the tables so."""

    def act(v, geometry) -> Steps[None]:
        for kind, *rest in (change for change, _ in changes):
            yield made(v, kind, *rest)

    return Actor("O", "changes tables", act)


def made(v, kind: str, first: int = 0, second: int = 0, how: str = "") -> Step[object]:
    """The step of one change."""
    f, table = v.format, GEOMETRY.first_reserved(0)
    if kind == "page":
        location = (table + first // LEAF) * PAGE + first % LEAF * 8
        leaf = int(f.make_leaf(second * PAGE, 0, writable=how != "ro"))
        value = {"none": 0, "old": leaf}.get(how, leaf)
        if how == "old" and f.arch == "arm64":
            value = int(f.access_flag_cleared(leaf))
        return WriteEntry(location, value, 0, BASE + first * PAGE)
    if kind == "block":
        output = (FIRST_FRAME + second * LEAF) * PAGE
        value = int(f.make_leaf(output, 1, writable=how != "ro"))
        if how in ("none", "table"):
            value = 0 if how == "none" else int(f.make_table((table + first) * PAGE))
        return WriteEntry(PMD_FRAME * PAGE + 8 * first, value, 1, BASE + first * LEAF * PAGE)
    if kind.startswith("flush"):
        start, end = BASE + first * PAGE, BASE + min(first + second, PAGES) * PAGE
        return Invalidate(start, end, kind.endswith("tables"), kind.endswith("this CPU"))
    return AwaitInvalidation() if kind == "await" else InvalidateAll(kind.endswith("this CPU"))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@given(changes=CHANGES)
@settings(derandomize=True, max_examples=60, deadline=None, database=None)
def test_random_changes(arch: str, changes: list) -> None:
    """Pages and blocks, tables put in and taken out, entries that are read-only, invalid or old,
    flushes of ranges, of everything, of one CPU only, awaited or not.
    """
    run(arch, changing(changes), "6.2", split=True, pages=lambda done: changes[done][1])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_old_translations_are_seen_until_the_flush(arch: str) -> None:
    """Not vacuous: after a page and its block have changed, CPUs do see the old frame; after the
    invalidation is awaited, they do not.
    """
    page, everywhere = ("page", 3, FIRST_FRAME + 9, "ro"), {3}
    flush, done = ("flush", 0, PAGES), ("await",)
    mirror = run(
        arch, changing([(page, everywhere)]), "6.2", split=True, pages=lambda _: everywhere
    )
    assert mirror.old > 0
    changes = [(page, set()), (flush, set()), (done, everywhere)]
    mirror = run(arch, changing(changes), "6.2", split=True, pages=lambda done: changes[done][1])
    assert mirror.old == 0
