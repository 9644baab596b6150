"""What a protocol of the user's own has to stand: the others that broke the kernels' protocols, and
actors of its file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from hvo.actors.memory_failure import clear_hugetlb_and_hwpoison
from hvo.check.model.geometry import STRUCTS, Geometry, SmallVmemmap
from hvo.check.model.hardware import Hardware
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.asked_scenarios import act, asked_for, pair_of
from hvo.check.scenarios.hazards import Case
from hvo.check.scenarios.scenario import Actor, Scenario
from hvo.check.scenarios.user_protocol import ROLES, Own, actors_of, run_own
from hvo.errors import HvoError
from hvo.steps.base import Steps
from hvo.steps.pool import FreeFolio
from hvo.steps.struct_pages import FreezeCount, LinkTail, StorePage, TestPage
from hvo.vmemmap.era import Era
from hvo.vmemmap.proposals import EAGAIN

_ONE = Geometry(pages=1, group=4, leaf=4)


@dataclass(frozen=True)
class OwnCase(Case):
    """A job with a protocol of the user's own, whose `protocol` is the path of its file."""

    own: Own = field(kw_only=True)

    @property
    def era(self) -> Era:
        """The kernel around it."""
        return self.own.era


PREMISES = {
    "frozen-head": (
        "nobody writes to the head's struct page while its page is optimised: a free HugeTLB page"
        " has a reference count of 0"
    ),
    "no-dcache-flag": "on x86-64 no kernel sets PG_dcache_clean in a struct page",
}
"""What kernels see to, and scenarios take for granted unless it is lifted."""


def own_cases(
    own: Own,
    hardware: Hardware | None,
    hazards: tuple[str, ...],
    lifted: frozenset[str] = frozenset(),
) -> list[OwnCase]:
    """The jobs of a file, those of `hazards` (none given: all), with those premises `lifted`;
    raises HvoError for a hazard that has no scenario here.
    """
    machine = hardware or own.hardware
    kept = set(PREMISES) - lifted - ({"no-dcache-flag"} if machine.arch != "x86_64" else set())
    cases = [
        OwnCase(hazard, own.path, machine, scenario, None, own=own)
        for hazard, scenario in _scenarios(own)
        if _NEEDS.get(scenario.name) not in kept
    ]
    known = dict.fromkeys(case.hazard for case in cases)
    for hazard in hazards:
        if not any(name.startswith(hazard) for name in known):
            raise HvoError(
                f"no scenario of hazard {hazard!r} for {own.path}: there are {', '.join(known)}"
            )
    return [
        case
        for case in cases
        if not hazards or any(case.hazard.startswith(hazard) for hazard in hazards)
    ]


_NEEDS = {
    "against a writer of the head": "frozen-head",
    "against __sync_icache_dcache": "no-dcache-flag",
}
"""Scenarios that say nothing where a premise holds."""


def _scenarios(own: Own) -> Iterator[tuple[str, Scenario]]:
    """(hazard, scenario) of everything that fits what the file has."""
    found = actors_of(own)
    others = [name for name in found if name not in ROLES]
    if "optimize" not in found:
        geometry = own.geometry or _ONE
        yield from _lists(own)
        yield from asked_for(own)
        if not others:
            return
        yield (
            "own",
            Scenario(
                " against ".join(others),
                _letters(own, others),
                geometry,
                split=True,
                complete=False,
            ),
        )
        return
    yield from _against_others(own)
    yield from _twice(own)
    yield from _lists(own)
    yield from asked_for(own)
    for name in others:
        yield (
            "own",
            Scenario(
                f"optimize against {name}", _letters(own, ["optimize", name]), own.geometry or _ONE
            ),
        )
    if "restore" in found:
        yield from _way_back(own)
        yield from _neighbours(own)
        for name in others:
            yield (
                "own",
                Scenario(
                    f"restore against {name}",
                    _letters(own, ["restore", name]),
                    own.geometry or _ONE,
                    before=act(own),
                ),
            )


def _letters(own: Own, names: list[str]) -> tuple[Actor, ...]:
    return tuple(Actor(chr(ord("O") + i), name, act(own, name)) for i, name in enumerate(names))


def _against_others(own: Own) -> Iterator[tuple[str, Scenario]]:
    """One optimiser against each of those who broke kernels."""
    o, geometry = Actor("O", "optimize", act(own)), own.geometry or _ONE
    g, w = Actor("G", "reader", c.read_tail), Actor("W", "writer of the head", c.write_head)
    i, dump = (
        Actor("I", "interrupt that reads", c.read_tail, interrupt=True),
        Actor("D", "ptdump, mmap_lock read", c.dump("read")),
    )
    yield "H01", Scenario("alone", (o,), geometry)
    yield "H01", Scenario("alone, leaf already split", (o,), geometry, split=True)
    yield "H01", Scenario("against a reader", (o, g), geometry)
    yield "H01", Scenario("against a writer of the head", (o, w), geometry)
    yield (
        "H01",
        Scenario("a page with differing tails", (o,), geometry, split=True, before=c.mark_tail),
    )
    yield "H01", Scenario("interrupted by a reader", (o, i), geometry)
    yield (
        "H02",
        Scenario(
            "against __sync_icache_dcache",
            (o, Actor("F", "__sync_icache_dcache", c.sync_caches)),
            geometry,
            split=True,
        ),
    )
    yield from _walked(own)
    yield "H07", Scenario("against memory failure", (o, c.MEMORY_FAILURE), geometry, split=True)
    yield "H11", Scenario("freed frames reused, tail read", (o, c.ALLOCATOR, c.READER), geometry)
    yield "H16", Scenario("against a page-table dump", (o, dump), geometry)
    yield "H18", Scenario("allocations fail", (o,), geometry, failures=2)
    failed = Actor("O", "optimize, and freed if that failed", partial(_freed_if_failed, own=own))
    yield "H24", Scenario("refused, and freed then", (failed,), geometry, failures=2)


def _walked(own: Own) -> Iterator[tuple[str, Scenario]]:
    """Against those who take references on a guess, and who trust the static key."""
    o, geometry = Actor("O", "optimize", act(own)), own.geometry or _ONE
    if own.era.layout.shares != "zone-tail":
        # 7.1's walkers take a reference without anything that a protocol could wait for (H03c)
        walker = Actor("W", "walker as in 6.13", c.refer("6.13"))
        gathering = Actor("O", "gather and optimize", partial(_gather, own=own))
        yield (
            "H03",
            Scenario("against a walker as in 6.13", (gathering, walker), geometry, ordinary=True),
        )
    if own.era.layout.shares == "head":
        key = Actor("G", "reader that trusts the static key", c.trust_the_key)
        yield "H21", Scenario("against a reader that trusts the key", (o, key), geometry)


def _twice(own: Own) -> Iterator[tuple[str, Scenario]]:
    """Two optimisers of neighbouring huge pages; a file whose machine has one page gets the usual
    machine for that.
    """
    geometry = pair_of(own)
    both = (
        Actor("O", "optimize", act(own)),
        Actor("P", "optimize another page", act(own, number=1)),
    )
    yield "H04", Scenario("two optimisers, one leaf", both, geometry)
    yield "H14", Scenario("two optimisers, leaf already split", both, geometry, split=True)
    if own.era.layout.shares == "zone-tail":
        yield from _shared_tails(own, both)


def _shared_tails(own: Own, both: tuple[Actor, ...]) -> Iterator[tuple[str, Scenario]]:
    """Two who need a shared tail at once: of one zone, while somebody reads, and of two."""
    geometry = pair_of(own)
    small = replace(geometry, used=min(geometry.used, own.era.layout.kept_pages + 1))
    follows = Actor("G", "reader that goes to the head", c.follow)
    yield (
        "H27",
        Scenario("two optimisers, read meanwhile", (*both, follows), small, split=True),
    )
    zones = replace(geometry, zones=2)
    yield "H25", Scenario("two optimisers, two zones", both, zones, split=True)


def _way_back(own: Own) -> Iterator[tuple[str, Scenario]]:
    """Restore, and what comes before and behind it."""
    geometry = own.geometry or _ONE
    r, g = Actor("R", "restore", act(own, "restore")), Actor("G", "reader", c.read_tail)
    f, i = (
        Actor("R", "restore and free", partial(_give_back, own=own)),
        Actor("I", "interrupt that reads", c.read_tail, interrupt=True),
    )
    late = Actor("R", "restore and free, retried", partial(_give_back_late, own=own))
    yield (
        "H12",
        Scenario("restore, allocations fail", (r,), geometry, before=act(own), failures=2),
    )
    yield "H12", Scenario("restore against a reader", (r, g), geometry, before=act(own))
    yield "H12", Scenario("restore, interrupted by a reader", (r, i), geometry, before=act(own))
    yield (
        "H12",
        Scenario(
            "restore, own node empty", (r,), geometry, before=act(own), empty_nodes=frozenset({0})
        ),
    )
    yield (
        "H12",
        Scenario(
            "restore retried once memory is free", (late,), geometry, before=act(own), failures=2
        ),
    )
    failing = Actor("M", "memory failure of a HugeTLB page", c.record_error)
    yield (
        "H26",
        Scenario(
            "given back once there is memory, against memory failure",
            (late, failing),
            geometry,
            before=act(own),
            failures=1,
        ),
    )
    yield (
        "H06",
        Scenario(
            "restore and free against memory failure",
            (f, c.MEMORY_FAILURE),
            geometry,
            before=act(own),
        ),
    )
    yield (
        "H19",
        Scenario(
            "optimize, restore, free",
            (Actor("O", "optimize, restore, free", partial(_there_and_back, own=own)),),
            geometry,
        ),
    )
    yield (
        "H14",
        Scenario(
            "optimize, restore, optimize",
            (Actor("O", "optimize, restore, optimize", partial(_there_again, own=own)),),
            geometry,
        ),
    )


def _neighbours(own: Own) -> Iterator[tuple[str, Scenario]]:
    """Two huge pages under one leaf, of which one or both are restored."""
    geometry, both = pair_of(own), partial(_both, own=own)
    r, r2 = (
        Actor("R", f"restore {which}", act(own, "restore", number))
        for number, which in enumerate(("one", "the other"))
    )
    other, g = (
        Actor("P", "optimize another page", act(own, number=1)),
        Actor("G", "reader of the first", c.read_tail),
    )
    yield "H04", Scenario("two restores, one leaf", (r, r2), geometry, before=both)
    yield (
        "H04",
        Scenario("restore against optimize of another page", (r, other), geometry, before=act(own)),
    )
    yield (
        "H11",
        Scenario(
            "other page restored, freed frames reused, tail read",
            (r2, c.ALLOCATOR, g),
            geometry,
            before=both,
        ),
    )


def _lists(own: Own) -> Iterator[tuple[str, Scenario]]:
    """Two huge pages as a list, where the file says what is done with lists."""
    found, geometry = actors_of(own), pair_of(own)
    g = Actor("G", "reader", c.read_tail)
    both = partial(run_own, own=own, name="optimize_list", number=(0, 1))
    if "optimize_list" in found:
        o = Actor("O", "optimize a list of two", both)
        yield "H17", Scenario("a list of two against a reader", (o, g), geometry)
        yield "H17", Scenario("a list of two, allocations refused", (o,), geometry, failures=3)
    if "optimize_list" in found and "restore_list" in found:
        back = partial(run_own, own=own, name="restore_list", number=(0, 1))
        r = Actor("R", "restore a list of two", back)
        yield (
            "H17",
            Scenario("a list of two restored, against a reader", (r, g), geometry, before=both),
        )
        yield (
            "H17",
            Scenario(
                "a list of two restored, allocations refused",
                (r,),
                geometry,
                before=both,
                failures=3,
            ),
        )


def _freed_if_failed(v: SmallVmemmap, g: Geometry, own: Own) -> Steps[object]:
    """Optimise; a page of which that failed and that does not say that it is optimised can be freed
    as it is.
    """
    error = yield from run_own(v, g, own, "optimize", 0)
    if error and not (yield from TestPage(g.head(0), "vmemmap_optimized")):
        yield from clear_hugetlb_and_hwpoison(v, g.head(0))
        yield from FreeFolio(g.head(0), g.order)


def _both(v: SmallVmemmap, g: Geometry, own: Own) -> Steps[object]:
    for number in (0, 1):
        yield from run_own(v, g, own, "optimize", number)


def _there_and_back(v: SmallVmemmap, g: Geometry, own: Own) -> Steps[object]:
    """Optimise, restore, and free the page unless restore says that it could not (anything but None
    or 0).
    """
    yield from run_own(v, g, own, "optimize", 0)
    yield from _give_back(v, g, own)


def _there_again(v: SmallVmemmap, g: Geometry, own: Own) -> Steps[object]:
    """Optimise, restore, and optimise again what was restored."""
    yield from run_own(v, g, own, "optimize", 0)
    if not (yield from run_own(v, g, own, "restore", 0)):
        yield from run_own(v, g, own, "optimize", 0)


def _give_back(v: SmallVmemmap, g: Geometry, own: Own) -> Steps[object]:
    """Restore and free -> what restore says."""
    error = yield from run_own(v, g, own, "restore", 0)
    if not error:
        yield from clear_hugetlb_and_hwpoison(v, g.head(0))
        yield from FreeFolio(g.head(0), g.order)
    return error


def _give_back_late(v: SmallVmemmap, g: Geometry, own: Own) -> Steps[object]:
    """Try until it works: a page that was refused memory leaves once there is some; one whose
    entries are in use (EAGAIN) need not.
    """
    while (yield from _give_back(v, g, own)) not in (None, 0, EAGAIN):
        pass


def _gather(v: SmallVmemmap, g: Geometry, own: Own) -> Steps[object]:
    """Make pages that others may hold references to a huge page, as `cast.gather` does, and
    optimise it as the file says.
    """
    first, last = g.head(0), g.head(0) + g.used * STRUCTS
    for pfn in range(first, last):
        if not (yield from FreezeCount(pfn, 1)):
            return
    for pfn in range(first + 1, last):
        yield from LinkTail(pfn, first, g.order)
    for name, value in (("head", 1), ("order", g.order), ("hugetlb", 1)):
        yield from StorePage(first, name, value)
    yield from run_own(v, g, own, "optimize", 0)
    yield from StorePage(first, "refcount", 1)
