"""The benchmark: every hazard that really happened, in the protocol variants that have it and in those that do not.

Each row is data: variant of the protocol, machine, scenario, and what must come out: the most severe property that is violated, or None.
"""

from dataclasses import dataclass

from hvo.actors.ptdump import DumpLock
from hvo.check import cast as c
from hvo.check.cast import A, G, M, O, O2, R
from hvo.check.geometry import Geometry
from hvo.check.rules import Rules
from hvo.check.scenario import Actor, Scenario
from hvo.vmemmap.era import Era, parse_variant


@dataclass(frozen=True)
class Case:
    """One job: a protocol on a machine in a scenario. `expected` is what is to come out; `also` are other properties that must be among them."""

    hazard: str
    protocol: str
    rules: Rules
    scenario: Scenario
    expected: str | None
    also: tuple[str, ...] = ()

    @property
    def era(self) -> Era:
        """The protocol variant."""
        return parse_variant(self.protocol)


X86, ARM, ARM2, ARM3 = Rules("x86_64"), Rules("arm64"), Rules("arm64", 2, noabort=True), Rules("arm64", 3)
ONE = Geometry(pages=1, group=4, leaf=4)
"""One huge page of three vmemmap pages, alone under its leaf."""
SPLIT_ALREADY = Scenario("one page, leaf split before", (O,), geometry=ONE, split=True)
ALONE = Scenario("one page", (O,), geometry=ONE)
TWO = Scenario("two optimisers, one leaf", (O, O2))
TWO_ORDINARY = Geometry(pages=1, used=2, group=2, leaf=2)
_W = {kernel: Actor("W", f"walker as in {kernel}", c.refer(kernel)) for kernel in ("5.14", "6.10", "6.13")}
_HEAD_WALKER = Actor("W", "walker as in 7.1", c.refer_to_head("7.1"))
_GATHER = Actor("O", "gather and optimise", c.gather)


def _with(name: str, *actors: Actor, **more: object) -> Scenario:
    return Scenario(name, actors, **({"geometry": ONE} | more))  # pyright: ignore[reportArgumentType]


_WALKED = {kernel: _with("optimise against a walker", _GATHER, actor, geometry=TWO_ORDINARY, ordinary=True) for kernel, actor in _W.items()}
_DUMPED = [(lock, Actor("D", f"dump, lock {lock}", c.dump(lock))) for lock in ("none", "read", "write")]
_UNMAP = Actor("H", "hot-remove", c.unmap_block)


def _bbm() -> list[Case]:
    return [
        Case("H01a", "5.18+split-lock-read", ARM, ALONE, "break-before-make"),
        Case("H01a", "5.18+split-lock-read", Rules("arm64", 1), ALONE, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", ARM, SPLIT_ALREADY, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", ARM2, SPLIT_ALREADY, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", ARM3, SPLIT_ALREADY, "break-before-make"),
        Case("H01b", "5.18+split-lock-read", X86, SPLIT_ALREADY, None),
    ]


def _dcache() -> list[Case]:
    scenario = _with("optimise against cache flushing", O, Actor("F", "sync caches", c.sync_caches), split=True)
    return [
        Case("H02", "5.18+split-lock-read-dcache-head", ARM, scenario, "write-read-only", ("break-before-make",)),
        Case("H02", "5.18+split-lock-read-dcache-head", X86, scenario, "write-read-only"),
        Case("H02", "5.18+split-lock-read", X86, scenario, None),
    ]


def _walkers() -> list[Case]:
    return [
        Case("H03a", "5.14", X86, _with("optimise against a walker", _GATHER, _W["5.14"], ordinary=True), "write-read-only"),
        Case("H03a", "5.18+split-lock-read", X86, _WALKED["5.14"], "write-read-only"),
        Case("H03a", "6.2-wait-for-readers", X86, _WALKED["6.13"], "write-read-only"),
        Case("H03a", "6.2", X86, _WALKED["5.14"], "write-read-only"),
        Case("H03a", "6.2", X86, _WALKED["6.13"], None),
        Case("H03b", "6.2", X86, _WALKED["6.10"], "write-read-only"),
        Case("H03b", "6.2", X86, _WALKED["6.13"], None),
        Case("H03c", "7.1-wait-for-readers", X86, _with("optimise against a walker", _GATHER, _HEAD_WALKER, geometry=TWO_ORDINARY, ordinary=True), "write-read-only"),
    ]


def _splits() -> list[Case]:
    return [
        Case("H04", "5.14+split-lock-read", X86, TWO, "access-freed", ("leak",)),
        Case("H04", "5.14+split-lock-read+split-recheck", X86, TWO, None),
        Case("H05", "5.18", X86, TWO, "wrong-frame"),
        Case("H05", "5.18+split-lock-read", X86, TWO, None),
    ]


def _marks() -> list[Case]:
    leaving = _with("give back against memory failure", R, M, before=c.optimize(0))
    new = Actor("O", "new page", c.prepare)
    coming = _with("new page against memory failure", new, Actor("M", "memory failure, not interrupted", c.fail_at_once), marked=False)
    halting = _with("new page against memory failure that is interrupted", new, M, marked=False)
    half = _with("give back against memory failure at the start of a page", R, Actor("M", "memory failure", c.fail_page_start), before=c.optimize(0))
    early = _with("free against memory failure", Actor("R", "free, record moved first", c.free_moving_errors_first), Actor("M", "memory failure", c.record_error))
    late = _with("free against memory failure", Actor("R", "free, mark cleared first", c.free_moving_errors_last), Actor("M", "memory failure", c.record_error))
    return [
        Case("H06", "5.14", X86, leaving, "write-read-only"),
        Case("H06", "5.18+split-lock-read", X86, leaving, "write-read-only"),
        Case("H06", "5.18+split-lock-read+mark-until-restored", X86, leaving, None),
        Case("H07", "5.14", X86, coming, "write-read-only"),
        Case("H07", "5.18+split-lock-read", X86, coming, "write-read-only"),
        Case("H07", "5.18+split-lock-read+mark-first", X86, coming, None),
        Case("more", "5.18+split-lock-read+mark-first", X86, halting, "write-read-only"),
        Case("more", "5.18+split-lock-read+mark-until-restored", X86, half, "write-read-only"),
        Case("H08", "6.2", X86, early, "poison-freed"),
        Case("H08", "6.2", X86, late, None),
    ]


def _memory() -> list[Case]:
    hosting = _with("hosting block removed", A, Actor("H", "hot-remove", c.remove_hosting_block), before=c.optimize(0), hosted=True, complete=False)
    odd = _with("struct pages of 7 words", O, geometry=Geometry(pages=1, group=4, leaf=4, struct_words=7))
    reader = _with("optimise, frame taken, read", O, A, G)
    refused = _with("give back, own node empty", R, before=c.optimize(0), empty_nodes=frozenset({0}))
    return [
        Case("H09", "6.2-refuse-self-hosted", X86, hosting, "access-freed"),
        Case("H09", "6.2", X86, hosting, None),
        Case("H10", "5.14", X86, odd, "wrong-head"),
        Case("H10", "5.14+refuse-odd-struct", X86, odd, None),
        Case("H11", "6.2", Rules("x86_64", flush_all=False), reader, "access-freed", ("freed-while-cached",)),
        Case("H11", "6.2", X86, reader, None),
        Case("H12", "5.18+split-lock-read", X86, refused, "no-progress"),
        Case("H12", "5.18+split-lock-read+node-fallback", X86, refused, None),
    ]


def _tails() -> list[Case]:
    across = _with("two leaves, two refusals", O, geometry=Geometry(pages=1, used=4, group=4, leaf=2), failures=2)
    boot = _with("built at boot", Actor("O", "build at boot", c.build_at_boot), live=False)
    return [
        Case("H13", "7.1-rollback-tails-only", X86, across, "wrong-head"),
        Case("H13", "7.1", X86, across, None),
        Case("H14", "7.1-publish-tail", X86, Scenario("two optimisers, leaf split before", (O, O2), split=True), "leak"),
        Case("H14", "7.1", X86, Scenario("two optimisers, leaf split before", (O, O2), split=True), None),
        Case("H15", "7.1-protect-whole-range", X86, boot, "tail-writable"),
        Case("H15", "7.1", X86, boot, None),
    ]


def _dump_with(name: str, lock: DumpLock, other: Actor, **more: object) -> Scenario:
    return _with(f"dump (lock {lock}) against {name}", dict(_DUMPED)[lock], other, **({"geometry": TWO_ORDINARY} | more))


def _dumps() -> list[Case]:
    removed = {lock: _dump_with("hot-remove", lock, _UNMAP, split=True, complete=False) for lock in ("none", "read", "write")}
    cases = [Case("H16", "5.18", ARM, removed[lock], "freed-table") for lock in ("none", "read", "write")]
    cases += [Case("H16", "5.18+dump-hotplug-lock", ARM, removed[lock], None) for lock in ("none", "read", "write")]
    for lock in ("none", "read", "write"):
        cases.append(Case("H16", "5.18+split-lock-read", X86, _dump_with("optimise", lock, O), None))
        cases.append(Case("H16", "5.18+split-lock-read", X86, _dump_with("restore", lock, Actor("R", "restore", c.restore(0)), before=c.optimize(0)), None))
    return cases


def _late() -> list[Case]:
    batch = Scenario("a list of two, refusals", (Actor("O", "optimise both", c.optimize(0, 1)), G), failures=3)
    both_leaves = Scenario("a list of two over two leaves each, refusals", (Actor("O", "optimise both", c.optimize(0, 1)),), Geometry(2, 4, 4, 2), failures=3)
    round_trip = _with("optimise, restore, free", Actor("O", "optimise, restore, free", c.optimize_and_restore))
    return [
        *[Case("H17", era, X86, scenario, None) for era in ("6.2", "7.1") for scenario in (batch, both_leaves)],
        Case("H19", "6.2-reset-tails", X86, round_trip, "wrong-head", ("leak",)),
        Case("H19", "6.2", X86, round_trip, None),
    ]


CASES: tuple[Case, ...] = (*_bbm(), *_dcache(), *_walkers(), *_splits(), *_marks(), *_memory(), *_tails(), *_dumps(), *_late())
"""Every row of the benchmark that eras and fixes can show."""
