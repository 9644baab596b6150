"""The reductions leave nothing out: the plain search finds the same properties, each in as many
steps.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hvo.check.check import check
from hvo.check.model.geometry import (
    BASE,
    FIRST_FRAME,
    KERNEL_FRAME,
    PAGE,
    PMD_FRAME,
    STRUCTS,
    Geometry,
)
from hvo.check.model.hardware import Hardware
from hvo.check.mutants.suite import PROTOCOLS, suite
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.case import RISCV, X86, Case
from hvo.check.scenarios.hazards import CASES
from hvo.check.scenarios.scenario import Actor, Scenario
from hvo.check.search.explore import Options, explore
from hvo.check.search.start import build
from hvo.steps.base import Step
from hvo.steps.entries import ReadEntry, ReadPointer, WriteEntry
from hvo.steps.frames import AllocateFrame, FreeFrame
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    EnterReadSection,
    Invalidate,
    InvalidateAll,
    LeaveReadSection,
    Lock,
    ReadBarrier,
    Release,
    SynchronizeReaders,
    WriteBarrier,
)
from hvo.steps.struct_pages import CopyFrame, LoadPage, StorePage, TestPage
from hvo.vmemmap.era import parse_variant

PLAIN = Options(reduce=False, symmetry=False)
SMALL = Geometry(pages=2, used=2, group=2, leaf=4)
SLOW = {"H17"}


def found(case: Case, options: Options) -> list[tuple[str, int]]:
    forest, start = build(case.scenario, case.era, case.hardware)
    result = explore(forest, start, case.scenario, options)
    assert result.finished
    return [(violation.property, violation.steps) for violation in result.violations]


INTERLEAVED = [case for case in CASES if case.hazard not in SLOW and len(case.scenario.actors) > 1]


@pytest.mark.parametrize("case", INTERLEAVED, ids=lambda case: f"{case.hazard}-{case.protocol}")
def test_reduction_finds_the_same(case: Case):
    """In every row: same properties, same shortest number of steps."""
    if case.scenario.geometry.pages > 1:
        case = replace(
            case,
            scenario=replace(
                case.scenario,
                geometry=SMALL if case.era.layout.kept_pages == 1 else case.scenario.geometry,
            ),
        )
    assert found(case, Options(symmetry=False)) == found(case, PLAIN)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_reduction_finds_the_same_where_memory_is_weak(protocol: str):
    """In every scenario of the suite with one huge page: interrupts, CPUs that are stopped, loads
    that are reordered.
    """
    for case in suite(protocol):
        if len(case.scenario.actors) > 1 and case.scenario.geometry.pages == 1:
            assert found(case, Options(symmetry=False)) == found(case, PLAIN), case.scenario.name


@pytest.mark.parametrize("hardware", [X86, Hardware("arm64")], ids=lambda hardware: hardware.name)
@pytest.mark.parametrize("variant", ["5.18-split-recheck", "5.18", "7.1-publish-tail"])
def test_two_optimisers_on_a_leaf(variant: str, hardware: Hardware):
    """The same for two optimisers where the leaf must be split, which touch each other's things
    most.
    """
    case = Case(
        "H04", variant, hardware, Scenario("two", (c.OPTIMIZER, c.OPTIMIZER_2), SMALL), None
    )
    assert found(case, Options()) == found(case, PLAIN)


def test_symmetry_of_identical_readers_and_walkers():
    """Interchangeable walkers: fewer states, same properties and steps; and the run is still shown
    as one that can happen.
    """
    walker = Actor("W", "walker", c.refer("5.14"))
    gather = Actor("O", "gather", c.gather)
    small = Geometry(pages=1, used=2, group=2, leaf=2)
    scenario = Scenario("walkers", (gather, walker, walker), small, ordinary=True)
    case = Case("H03a", "5.18+split-lock-read", X86, scenario, "write-read-only")
    assert found(case, Options()) == found(case, Options(symmetry=False)) == found(case, PLAIN)
    symmetric, whole = check(case, Options()), check(case, Options(symmetry=False))
    assert symmetric.states < whole.states
    assert len(symmetric.trace) == symmetric.findings[0].steps


def test_a_bound_is_never_safe():
    """Stopped by its bound a search says unfinished where it found nothing."""
    case = next(case for case in CASES if case.hazard == "H14" and case.expected is None)
    result = check(case, Options(most_states=20))
    assert result.verdict == "unfinished"
    assert "stopped at" in result.bounds
    assert check(case).verdict == "safe"


def test_deadlock_is_found():
    """Two actors that take two locks in opposite order."""

    def taking(first: Lock, second: Lock):
        def act(v, g):
            yield from Acquire(first)
            yield from Acquire(second)

        return act

    locks = Lock.PAGE_TABLE, Lock.HUGETLB
    actors = (
        Actor("O", "one way", taking(*locks)),
        Actor("P", "the other way", taking(*reversed(locks))),
    )
    case = Case("H04", "7.1", X86, Scenario("locks", actors, SMALL), "deadlock")
    assert found(case, Options()) == found(case, PLAIN) == [("deadlock", 2)]


def alone(*steps: Step, hardware: Hardware = X86) -> list[tuple[str, int]]:
    """What is violated by one actor that does `steps`."""

    def act(v, g):
        yield from steps

    case = Case("H04", "7.1", hardware, Scenario("alone", (Actor("O", "alone", act),), SMALL), None)
    assert found(case, Options()) == found(case, PLAIN)
    return found(case, Options())


@pytest.mark.parametrize("lock", [Lock.PAGE_TABLE, Lock.HUGETLB, Lock.MMAP_WRITE])
def test_a_lock_taken_twice_is_a_deadlock(lock: Lock):
    """The actor waits for itself; to take a lock for reading twice is allowed."""
    assert [rule for rule, _ in alone(Acquire(lock), Acquire(lock))] == ["deadlock"]
    assert alone(Acquire(Lock.MMAP_READ), Acquire(Lock.MMAP_READ)) == []


def test_waiting_for_readers_inside_a_section_is_a_deadlock():
    """The wait is for the section that the waiting actor is in."""
    assert [rule for rule, _ in alone(EnterReadSection(), SynchronizeReaders())] == ["deadlock"]
    assert alone(EnterReadSection(), LeaveReadSection(), SynchronizeReaders()) == []


def test_one_that_tries_for_ever_makes_no_progress():
    """It waits, without a lock, for a flag that nobody sets; with somebody who sets it there is
    still the run in which that is late.
    """

    def poll(v, g):
        while not (yield from TestPage(g.head(0), "dcache_clean")):
            pass

    case = Case(
        "H04", "7.1", X86, Scenario("polls", (Actor("O", "poll", poll),), SMALL), "no-progress"
    )
    assert [rule for rule, _ in found(case, Options())] == ["no-progress"]


def test_a_deadlock_counts_the_steps_before_it():
    """What an actor did before the step that must wait is part of the run, also where nobody else
    could tell.
    """
    lock = Lock.PAGE_TABLE
    assert alone(ReadPointer(KERNEL_FRAME * PAGE), Acquire(lock), Acquire(lock)) == [
        ("deadlock", 2)
    ]


def test_an_interrupt_cannot_come_while_it_is_masked():
    """A lock that masks interrupts keeps them out of what it protects; without it they come in
    between.
    """

    def breaking(lock: Lock):
        def act(v, g):
            address = int(v.address(g.head(0)))
            location = g.first_reserved(0) * PAGE
            entry = yield from ReadEntry(location, 0)
            yield from Acquire(lock)
            yield from WriteEntry(location, 0, 0, address)
            yield from Invalidate(address, address + PAGE)
            yield from AwaitInvalidation()
            yield from WriteEntry(location, entry.value, 0, address)
            yield from Release(lock)

        return act

    for lock, expected in ((Lock.HUGETLB, []), (Lock.PAGE_TABLE, ["access-invalid"])):
        actors = (
            Actor("O", "breaks", breaking(lock)),
            Actor("I", "interrupt", c.read_head, interrupt=True),
        )
        case = Case(
            "H04", "7.1", Hardware("arm64"), Scenario("masked", actors, SMALL, split=True), None
        )
        assert [rule for rule, _ in found(case, Options())] == expected
        assert found(case, Options()) == found(case, PLAIN)


# -- what an invalidation reaches --


def remapping(flush: Callable[[int], list[Step]]):
    """An actor that maps vmemmap page 1 onto the frame of page 0, does `flush` of its address, and
    frees the old frame.
    """

    def act(v, g):
        location, address = g.first_reserved(0) * PAGE + 8, int(v.address(g.head(0))) + PAGE
        entry = yield from ReadEntry(location, 0)
        yield from WriteEntry(location, v.leaf_entry(FIRST_FRAME, writable=False), 0, address)
        yield from flush(address)
        yield from FreeFrame(int(v.pfn(entry.value)), memmap=True)

    return act


@pytest.mark.parametrize(
    ("flush", "enough"),
    [
        (lambda at: [Invalidate(at, at + PAGE), AwaitInvalidation()], True),
        (lambda at: [InvalidateAll(), AwaitInvalidation()], True),
        (lambda at: [Invalidate(at, at + PAGE, this_cpu=True), AwaitInvalidation()], False),
        (lambda at: [InvalidateAll(this_cpu=True)], False),
        (lambda at: [Invalidate(at + PAGE, at + 2 * PAGE), AwaitInvalidation()], False),
        (lambda at: [Invalidate(at, at + PAGE)], False),
    ],
    ids=["range", "all", "range, this CPU", "all, this CPU", "another page", "not waited for"],
)
def test_whose_translations_an_invalidation_drops(flush: Callable[[int], list[Step]], enough: bool):
    """Those of all CPUs once it is complete, those of one CPU at once, and never those of another
    page.
    """
    scenario = Scenario(
        "remap", (Actor("O", "remap", remapping(flush)),), SMALL, split=True, complete=False
    )
    hardware = {rule for rule, _ in found(Case("H04", "7.1", X86, scenario, None), Options())}
    assert ("freed-while-cached" in hardware) is not enough


@pytest.mark.parametrize(
    "hardware", [X86, RISCV, Hardware("arm64")], ids=lambda hardware: hardware.name
)
@pytest.mark.parametrize("tables", [True, False])
def test_pointers_to_tables_outlive_a_plain_flush(hardware: Hardware, tables: bool):
    """A table is freed after its pointer was cleared and flushed: but for x86-64 the flush must be
    one that drops pointers to tables.
    """

    def act(v, g):
        yield from WriteEntry(PMD_FRAME * PAGE, 0, 1, int(v.address(g.head(0))))
        yield from Invalidate(BASE, BASE + v.leaf, tables=tables)
        yield from AwaitInvalidation()
        yield from FreeFrame(g.first_reserved(0))

    scenario = Scenario("table", (Actor("O", "unmap", act),), SMALL, split=True, complete=False)
    bad = {rule for rule, _ in found(Case("H04", "7.1", hardware, scenario, None), Options())}
    assert ("freed-table" in bad) is not (tables or hardware.flush_drops_tables)


@pytest.mark.parametrize("own", [True, False])
def test_who_may_still_use_what_one_cpu_dropped(own: bool):
    """After an invalidation of its own the CPU itself does not reach the old frame any more,
    another one does.
    """

    def remap(v, g):
        yield from remapping(lambda at: [InvalidateAll(this_cpu=True)])(v, g)
        if own:
            yield from LoadPage(g.head(0) + STRUCTS, "link")

    def read(v, g):
        if not own:
            yield from LoadPage(g.head(0) + STRUCTS, "link")

    actors = Actor("O", "remap", remap), Actor("G", "read", read)
    case = Case(
        "H04", "7.1", X86, Scenario("local", actors, SMALL, split=True, complete=False), None
    )
    assert ("access-freed" in {rule for rule, _ in found(case, Options())}) is not own
    assert found(case, Options()) == found(case, PLAIN)


# -- loads and stores out of order --


@pytest.mark.parametrize(
    ("hardware", "barrier", "reordered"),
    [(RISCV, False, True), (RISCV, True, False), (X86, False, False)],
)
def test_loads_are_reordered(hardware: Hardware, barrier: bool, reordered: bool):
    """Message passing: the later load may see the old value though the earlier one saw the new,
    unless a barrier or x86 forbids it.
    """
    data, flag = "head", "dcache_clean"

    def write(v, g):
        yield from StorePage(g.head(0), data, 0)
        if barrier:
            yield from WriteBarrier()
        yield from StorePage(g.head(1), flag, 1)

    def read(v, g):
        seen = yield from TestPage(g.head(1), flag)
        if barrier:
            yield from ReadBarrier()
        stale = yield from TestPage(g.head(0), data)
        if seen and stale:
            yield from WriteEntry(0, 0, 0, 0)  # into a frame that nobody has: noticed

    actors = Actor("O", "write", write), Actor("G", "read", read)
    case = Case(
        "H04", "7.1", hardware, Scenario("message", actors, SMALL, split=True, complete=False), None
    )
    assert ("freed-table" in {rule for rule, _ in found(case, Options())}) is reordered
    assert found(case, Options()) == found(case, PLAIN)


BETWEEN: list[tuple[list[Step], bool]] = [
    ([], False),
    ([WriteBarrier()], True),
    ([AwaitInvalidation()], True),
    ([SynchronizeReaders()], True),
    ([Release(Lock.PAGE_TABLE)], False),
    ([Release(Lock.PAGE_TABLE), Acquire(Lock.PAGE_TABLE)], True),
    ([Acquire(Lock.MMAP_READ)], False),
]


@pytest.mark.parametrize(
    ("between", "ordered"),
    BETWEEN,
    ids=lambda value: str(len(value)) if isinstance(value, list) else value,
)
@pytest.mark.parametrize(
    "hardware", [X86, RISCV, Hardware("arm64")], ids=lambda hardware: hardware.name
)
def test_what_orders_a_copy_before_its_entry(
    hardware: Hardware, between: list[Step], ordered: bool
):
    """A barrier, a completed invalidation, a wait for readers, a lock let go and another taken; x86
    needs none of them.
    """

    def act(v, g):
        address, location = int(v.address(g.head(0))), g.first_reserved(0) * PAGE
        frame = yield from AllocateFrame(0)
        yield from CopyFrame(address, frame, STRUCTS)
        yield from between
        yield from WriteEntry(location, v.leaf_entry(frame, writable=True), 0, address)

    scenario = Scenario("copy", (Actor("O", "copy", act),), SMALL, split=True, complete=False)
    rules_found = {
        rule for rule, _ in found(Case("H04", "7.1", hardware, scenario, None), Options())
    }
    assert ("old-contents" in rules_found) is (hardware.reorders and not ordered)


def test_failing_allocations_are_tried_everywhere():
    """With one refusal anywhere an optimise that survives it has more than one end, and loses
    nothing.
    """
    scenario = Scenario("refused", (c.OPTIMIZER,), SMALL, failures=1)
    forest, start = build(scenario, parse_variant("6.2"), X86)
    result = explore(forest, start, scenario, Options())
    assert not result.violations
    assert result.states > 3
