"""The mutation suite: scenarios that together execute every step of a protocol.

An unchanged protocol violates nothing in them, or the one property that is declared.

The eras run on a machine that replaces live entries as x86-64 does, reorders stores and loads, and
keeps cached pointers to tables across a plain flush, so that a missing barrier or flush shows.
The proposals run on the arm64 machine that each requires.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from hvo.actors.memory_failure import clear_hugetlb
from hvo.actors.ptdump import DumpLock
from hvo.check.model.geometry import Geometry, SmallVmemmap
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.actors import (
    ALLOCATOR,
    MEMORY_FAILURE,
    OPTIMIZER,
    OPTIMIZER_2,
    READER,
    RESTORER,
)
from hvo.check.scenarios.case import ONE, RISCV, X86, Case
from hvo.check.scenarios.proposals import TRIES, act_of, half_way, rules_for, scenarios
from hvo.check.scenarios.scenario import Act, Actor, Scenario
from hvo.steps.base import Steps
from hvo.steps.pool import FreeFolio
from hvo.vmemmap.era import LETTERS, parse_variant
from hvo.vmemmap.exchange import PROPOSALS, Proposal
from hvo.vmemmap.proposals import optimize, restore

FIXED = {
    "5.14": (
        "5.14+split-recheck+split-lock-read+mark-first+mark-until-restored+dcache-head+dump-hotplug-lock+refuse-self-hosted"
        "+refuse-odd-struct+node-fallback"
    ),
    "5.18": (
        "5.18+split-lock-read+mark-first+mark-until-restored+dump-hotplug-lock+refuse-self-hosted+node-fallback"
    ),
    "6.2": "6.2",
    "7.1": "7.1",
}
"""The eras, with the fixes of later eras: without these they violate properties."""
PROTOCOLS = (*FIXED.values(), *(f"proposal-{letter}" for letter in LETTERS))
"""Every protocol with a suite."""
_TWO = Geometry(pages=2, used=3, group=4, leaf=8)
_BOTH = Actor("O", "optimise both", c.optimize(0, 1))
_BOTH_BACK = Actor("R", "restore and free both", c.give_back_all)
_WRITES_HEAD = (
    "new page against memory failure",
    "split and optimise against __sync_icache_dcache",
    "optimise against flush_dcache_page",
)
"""What writes to the head while it may be moving, from 6.2 on: that is lost then, which is known.
"""
_FOLLOWS = Actor("G", "reader that goes to the head", c.follow)
_INTERRUPT = Actor("I", "interrupt that reads", c.read_tail, interrupt=True)
_DUMP: dict[DumpLock, Actor] = {
    lock: Actor("D", f"ptdump, mmap_lock {lock}", c.dump(lock))
    for lock in ("none", "read", "write")
}


def refusals(protocol: str) -> Iterator[Case]:
    """Optimise and restore, one page and a list of two, with allocations fail anywhere."""
    yield _case(
        protocol, Scenario("allocations fail: optimise a page", (OPTIMIZER,), ONE, failures=3)
    )
    yield _case(
        protocol,
        Scenario(
            "allocations fail: restore and free a page",
            (RESTORER,),
            ONE,
            failures=2,
            before=c.optimize(0),
        ),
    )
    yield _case(
        protocol, Scenario("allocations fail: optimise two pages", (_BOTH,), _TWO, failures=3)
    )
    yield _case(
        protocol,
        Scenario(
            "allocations fail: restore and free two pages",
            (_BOTH_BACK,),
            _TWO,
            failures=3,
            before=c.optimize(0, 1),
        ),
    )


def _case(protocol: str, scenario: Scenario) -> Case:
    moves = parse_variant(protocol).layout.moves_head and scenario.name in _WRITES_HEAD
    hardware = RISCV if scenario.live else X86  # only x86-64 builds the vmemmap optimised
    return Case("refused", protocol, hardware, scenario, "lost-update" if moves else None)


def suite(protocol: str) -> list[Case]:
    """The scenarios of `protocol`, one of `PROTOCOLS`."""
    if protocol.startswith("proposal-"):
        return list(_of_proposal(protocol.removeprefix("proposal-")))
    shared = (
        *_live(),
        *_marks(),
        *_walks(protocol),
        *_hotplug(),
        *_sizes(protocol),
        *_pairs(protocol),
    )
    return [*refusals(protocol), *(_case(protocol, scenario) for scenario in shared)]


def _live() -> Iterator[Scenario]:
    """Optimise and restore against readers, whoever gets the frames, and each other."""
    again = Actor("O", "optimise, restore, free", c.optimize_and_restore)
    twice = Actor("R", "restore, then free", c.restore_and_give_back)
    yield Scenario("optimise, restore, free", (again,), ONE)
    yield Scenario("restore, then free", (twice,), ONE, before=c.optimize(0))
    yield Scenario("optimise, freed frame reused, tail read", (OPTIMIZER, ALLOCATOR, _FOLLOWS), ONE)
    yield Scenario(
        "optimise, freed frame reused, head read",
        (OPTIMIZER, ALLOCATOR, Actor("G", "reader of the head", c.read_head)),
        ONE,
        split=True,
    )
    yield Scenario(
        "restore and free against a reader", (RESTORER, _FOLLOWS), ONE, before=c.optimize(0)
    )
    yield Scenario(
        "page across two leaves, failed allocations",
        (OPTIMIZER,),
        Geometry(pages=1, used=4, group=4, leaf=2),
        failures=2,
    )
    yield Scenario(
        "restore and free, own node empty",
        (RESTORER,),
        ONE,
        before=c.optimize(0),
        empty_nodes=frozenset({0}),
    )
    yield Scenario(
        "optimise against restore of another page",
        (OPTIMIZER_2, RESTORER),
        _TWO,
        before=c.optimize(0),
    )
    yield Scenario(
        "optimise two pages, freed frame reused, tail read",
        (_BOTH, ALLOCATOR, READER),
        _TWO,
        split=True,
    )


def _pairs(protocol: str) -> Iterator[Scenario]:
    """Two optimisers under one leaf, with as few vmemmap pages as the era can do with."""
    pair = (
        _TWO
        if parse_variant(protocol).layout.kept_pages > 1
        else Geometry(pages=2, used=2, group=2, leaf=4)
    )
    yield Scenario("two optimisers, leaf already split", (OPTIMIZER, OPTIMIZER_2), pair, split=True)
    yield Scenario("two optimisers, one leaf", (OPTIMIZER, OPTIMIZER_2), pair)


def _marks() -> Iterator[Scenario]:
    """Memory failure, and cache flushing."""
    new, at_once = (
        Actor("O", "new page", c.prepare),
        Actor("M", "memory failure, not preempted", c.fail_at_once),
    )
    yield Scenario("new page against memory failure", (new, at_once), ONE, marked=False)
    yield Scenario(
        "restore and free against memory failure",
        (RESTORER, MEMORY_FAILURE),
        ONE,
        before=c.optimize(0),
    )
    yield Scenario(
        "restore and free against memory failure of a HugeTLB page",
        (RESTORER, Actor("M", "memory failure of a HugeTLB page", c.record_error)),
        ONE,
    )
    yield Scenario(
        "split and optimise against __sync_icache_dcache",
        (OPTIMIZER, Actor("F", "__sync_icache_dcache", c.sync_caches)),
        ONE,
        split=True,
    )
    yield Scenario(
        "optimise against flush_dcache_page",
        (OPTIMIZER, Actor("F", "flush_dcache_page", c.flush_dcache)),
        ONE,
        split=True,
    )


def _walks(protocol: str) -> Iterator[Scenario]:
    """Walkers, in the kernels in which they are well."""
    era = parse_variant(protocol)
    if era.has("wait-for-readers"):
        small, gather = (
            Geometry(pages=1, used=2, group=2, leaf=2),
            Actor("O", "gather and optimise", c.gather),
        )
        walker, leaving = (
            Actor("W", "walker", c.refer("6.13")),
            Actor("R", "last reference dropped", c.end_use),
        )
        yield Scenario(
            "gather and optimise against a walker", (gather, walker), small, ordinary=True
        )
        yield Scenario(
            "last reference dropped, restore and free against a walker",
            (leaving, walker),
            ONE,
            before=c.optimize_for_use,
        )


def _hotplug() -> Iterator[Scenario]:
    """Blocks that come and go, and dumps meanwhile."""
    removal, addition = (
        Actor("H", "hot-remove", c.unmap_block),
        Actor("H", "hot-add", c.add_neighbour),
    )
    apart = Geometry(pages=2, used=3, group=4, leaf=4)
    hosting = Actor("H", "hot-remove", c.remove_hosting_block)
    yield Scenario("hot-remove after dissolve", (removal,), ONE, before=c.optimize_and_dissolve)
    yield Scenario(
        "hot-remove of a self-hosting block",
        (ALLOCATOR, hosting),
        ONE,
        before=c.optimize(0),
        hosted=True,
        complete=False,
    )
    yield Scenario("hot-add", (addition,), apart, before=c.unmap_neighbour)
    yield Scenario(
        "hot-remove against ptdump", (removal, _DUMP["none"]), ONE, split=True, complete=False
    )
    yield Scenario(
        "hot-add against ptdump",
        (addition, _DUMP["none"]),
        apart,
        before=c.unmap_neighbour,
        complete=False,
    )
    for lock, dump in _DUMP.items():
        yield Scenario(f"optimise against ptdump, mmap_lock {lock}", (OPTIMIZER, dump), ONE)


def _sizes(protocol: str) -> Iterator[Scenario]:
    """Struct pages that straddle pages, and pages that are built at boot."""
    yield Scenario(
        "struct pages of 56 bytes", (OPTIMIZER,), Geometry(pages=1, group=4, leaf=4, struct_words=7)
    )
    if parse_variant(protocol).has("built-at-boot"):
        yield Scenario(
            "built at boot", (Actor("O", "build at boot", c.build_at_boot),), ONE, live=False
        )


# -- the proposals --


def _of_proposal(letter: str) -> Iterator[Case]:
    protocol, hardware = f"proposal-{letter}", rules_for(letter)
    for scenario in (
        *scenarios(letter),
        *(_at_boot() if letter == "F" else _against_proposal(letter)),
    ):
        if not (letter == "A" and "interrupted" in scenario.name):  # what it is unsafe for
            yield Case("refused", protocol, hardware, scenario, None)


def _at_boot() -> Iterator[Scenario]:
    both = Actor("O", "build at boot, restore and free", c.build_and_give_back)
    yield Scenario("F: built at boot, restored and freed", (both,), ONE, live=False)


def _against_proposal(letter: str) -> Iterator[Scenario]:
    o, o2 = (
        Actor(who, f"optimise as {letter}", _act(letter, "optimise", number))
        for who, number in (("O", 0), ("P", 1))
    )
    r, r2 = (
        Actor("R", f"restore as {letter}", _act(letter, "restore", number)) for number in (0, 1)
    )
    whole, twice = (
        Actor("O", "optimise, restore, free", _act(letter, "both")),
        Actor("R", "restore twice", _act(letter, "restore twice")),
    )
    pair = Geometry(pages=2, used=2, group=2, leaf=4)
    yield Scenario(f"{letter}: optimise, restore, free", (whole,), ONE)
    yield Scenario(f"{letter}: restore, and again", (twice,), ONE, before=act_of(letter))
    yield Scenario(
        f"{letter}: optimise, freed frame reused, tail read",
        (o, ALLOCATOR, _FOLLOWS),
        ONE,
        split=True,
    )
    yield Scenario(
        f"{letter}: optimise a page with differing tails", (o,), ONE, split=True, before=c.mark_tail
    )
    yield Scenario(
        f"{letter}: restore, interrupted by a reader", (r, _INTERRUPT), ONE, before=act_of(letter)
    )
    yield Scenario(f"{letter}: two optimisers, one leaf", (o, o2), pair)
    yield Scenario(
        f"{letter}: two restores at once", (r, r2), pair, before=_act(letter, "optimise two")
    )
    if letter in "BD":
        yield Scenario(
            f"{letter}: optimise against memory failure", (o, MEMORY_FAILURE), ONE, split=True
        )
    if letter == "E":
        yield half_way(marked=True)


def _act(letter: str, what: str, number: int = 0) -> Act:
    return partial(
        _proposed, proposal=replace(PROPOSALS[letter], tries=TRIES), what=what, number=number
    )


def _proposed(
    v: SmallVmemmap, g: Geometry, proposal: Proposal, what: str, number: int
) -> Steps[object]:
    head = g.head(number)
    if what in ("optimise", "both", "optimise two"):
        yield from optimize(v, proposal, g.order, head)
    if what == "optimise two":
        yield from optimize(v, proposal, g.order, g.head(1))
    error = 0
    for _ in range({"restore": 1, "both": 1, "restore twice": 2}.get(what, 0)):
        error = yield from restore(v, proposal, g.order, head)
    if what == "both" and not error:
        yield from clear_hugetlb(head)
        yield from FreeFolio(head, g.order)
