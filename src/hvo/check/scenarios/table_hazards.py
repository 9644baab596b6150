"""The benchmark goes on: page-table dumps, hot-remove, refused allocations, and the proposals for
arm64.
"""

from hvo.actors.ptdump import DumpLock
from hvo.check.model.geometry import Geometry
from hvo.check.model.hardware import Hardware
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.actors import OPTIMIZER, READER
from hvo.check.scenarios.case import ARM, ONE, X86, Case
from hvo.check.scenarios.proposals import act_of, half_way, rules_for, scenarios
from hvo.check.scenarios.scenario import Actor, Scenario
from hvo.vmemmap.era import LETTERS


def _dump_with(name: str, lock: DumpLock, other: Actor, **more: object) -> Scenario:
    return scene(
        f"ptdump (mmap_lock {lock}) against {name}",
        dict(DUMPED)[lock],
        other,
        **({"geometry": TWO_ORDINARY} | more),
    )


def dumps() -> list[Case]:
    """Dumps of the page tables beside optimise and restore."""
    removed = {
        lock: _dump_with("hot-remove", lock, UNMAP, split=True, complete=False)
        for lock in ("none", "read", "write")
    }
    cases = [
        Case("H16", "5.18", ARM, removed[lock], "freed-table") for lock in ("none", "read", "write")
    ]
    cases += [
        Case("H16", "5.18+dump-hotplug-lock", ARM, removed[lock], None)
        for lock in ("none", "read", "write")
    ]
    for lock in ("none", "read", "write"):
        cases.append(
            Case("H16", "5.18+split-lock-read", X86, _dump_with("optimise", lock, OPTIMIZER), None)
        )
        cases.append(
            Case(
                "H16",
                "5.18+split-lock-read",
                X86,
                _dump_with(
                    "restore", lock, Actor("R", "restore", c.restore(0)), before=c.optimize(0)
                ),
                None,
            )
        )
    return cases


def removals() -> list[Case]:
    """The argument for hot-remove: dissolved first, nothing is shared; a table that also maps
    neighbours stays, for it is not empty.

    On x86-64 `remove_pagetable` frees frames and tables before it clears their entries and flushes,
    whatever was optimised before.
    """
    neighbour = Scenario(
        "hot-remove of a neighbour in the same page table",
        (Actor("O", "optimise as B", act_of("B")), Actor("H", "hot-remove", c.unmap_neighbour)),
        split=True,
        complete=False,
    )
    dissolved = scene(
        "hot-remove after dissolve", UNMAP, before=c.optimize_and_dissolve, complete=False
    )
    whole = scene("hot-remove without dissolve", UNMAP, before=c.optimize(0), complete=False)
    return [
        Case("hot-remove", "5.18+split-lock-read", ARM, dissolved, None),
        Case("hot-remove", "5.18+split-lock-read", ARM, whole, "freed-while-cached", ("leak",)),
        Case("hot-remove", "proposal-B", ARM, neighbour, None),
        Case("more", "7.1", X86, dissolved, "freed-while-cached"),
    ]


def late() -> list[Case]:
    """What is refused late, and the whole way there and back."""
    batch = Scenario(
        "two pages, failed allocations",
        (Actor("O", "optimise both", c.optimize(0, 1)), READER),
        failures=3,
    )
    both_leaves = Scenario(
        "two pages across two leaves each, failed allocations",
        (Actor("O", "optimise both", c.optimize(0, 1)),),
        Geometry(2, 4, 4, 2),
        failures=3,
    )
    round_trip = scene(
        "optimise, restore, free", Actor("O", "optimise, restore, free", c.optimize_and_restore)
    )
    return [
        *[
            Case("H17", era, X86, scenario, None)
            for era in ("6.2", "7.1")
            for scenario in (batch, both_leaves)
        ],
        Case("H19", "6.2-reset-tails", X86, round_trip, "wrong-head", ("leak",)),
        Case("H19", "6.2", X86, round_trip, None),
        Case("H19", "5.18+split-lock-read", X86, round_trip, None),
        Case("H19", "7.1", X86, round_trip, None),
    ]


def proposal_cases() -> list[Case]:
    """The proposals for arm64 in everything they have to stand (H01); E given up half-way (H18),
    and without hardware access flags.
    """
    cases: list[Case] = []
    for letter in LETTERS:
        for scenario in scenarios(letter):
            expected = (
                "access-invalid" if letter == "A" and "interrupted" in scenario.name else None
            )
            cases.append(Case("H01", f"proposal-{letter}", rules_for(letter), scenario, expected))
    plain = Hardware("arm64", 2, noabort=True)
    masked = scene(
        "D: optimise against a lock taken with interrupts masked",
        Actor("O", "optimise as D", act_of("D")),
        MASKED,
    )
    cases.append(Case("more", "proposal-D", ARM, masked, "deadlock"))
    cases.append(
        Case("H01", "proposal-C", Hardware("arm64", 2), scenarios("C")[0], "access-invalid")
    )
    cases.append(Case("H01", "proposal-E", plain, scenarios("E")[0], "access-invalid"))
    cases += [
        Case("H18", "proposal-E", rules_for("E"), half_way(marked=True), None),
        Case("H18", "proposal-E", rules_for("E"), half_way(marked=False), "write-read-only"),
    ]
    return cases


TWO_ORDINARY = Geometry(pages=1, used=2, group=2, leaf=2)


def scene(name: str, *actors: Actor, **more: object) -> Scenario:
    """A scenario on one huge page, unless `more` says otherwise."""
    return Scenario(name, actors, **({"geometry": ONE} | more))  # pyright: ignore[reportArgumentType]


DUMPED = [
    (lock, Actor("D", f"ptdump, mmap_lock {lock}", c.dump(lock)))
    for lock in ("none", "read", "write")
]


MASKED = Actor("L", "page-table lock, interrupts masked", c.lock_while_masked)


UNMAP = Actor("H", "hot-remove", c.unmap_block)
