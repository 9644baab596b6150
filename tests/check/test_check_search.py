"""The reductions leave nothing out: the plain search finds the same properties, each in as many steps."""

from dataclasses import replace

import pytest

from hvo.check import cast as c
from hvo.check.explore import Options, explore
from hvo.check.geometry import Geometry
from hvo.check.hazards import CASES, X86, Case
from hvo.check.jobs import check
from hvo.check.rules import Rules
from hvo.check.scenario import Actor, Scenario, build
from hvo.vmemmap.era import parse_variant

PLAIN = Options(reduce=False, symmetry=False)
SMALL = Geometry(pages=2, used=2, group=2, leaf=4)
SLOW = {"H17"}


def found(case: Case, options: Options) -> list[tuple[str, int]]:
    forest, start = build(case.scenario, case.era, case.rules)
    result = explore(forest, start, case.scenario, options)
    assert result.finished
    return [(violation.property, violation.steps) for violation in result.violations]


INTERLEAVED = [case for case in CASES if case.hazard not in SLOW and len(case.scenario.actors) > 1]


@pytest.mark.parametrize("case", INTERLEAVED, ids=lambda case: f"{case.hazard}-{case.protocol}")
def test_reduction_finds_the_same(case: Case):
    """In every row: same properties, same shortest number of steps."""
    if case.scenario.geometry.pages > 1:
        case = replace(case, scenario=replace(case.scenario, geometry=SMALL if case.era.layout.kept_pages == 1 else case.scenario.geometry))
    assert found(case, Options(symmetry=False)) == found(case, PLAIN)


@pytest.mark.parametrize("rules", [X86, Rules("arm64")], ids=lambda rules: rules.name)
@pytest.mark.parametrize("variant", ["5.18-split-recheck", "5.18", "7.1-publish-tail"])
def test_two_optimisers_on_a_leaf(variant: str, rules: Rules):
    """The same for two optimisers where the leaf must be split, which touch each other's things most."""
    case = Case("H04", variant, rules, Scenario("two", (c.O, c.O2), SMALL), None)
    assert found(case, Options()) == found(case, PLAIN)


def test_symmetry_of_identical_readers_and_walkers():
    """Interchangeable walkers: fewer states, same properties and steps; and the run is still shown as one that can happen."""
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
    from hvo.steps.vocabulary import Acquire, Lock

    def taking(first: Lock, second: Lock):
        def act(v, g):
            yield Acquire(first)
            yield Acquire(second)

        return act

    locks = Lock.PAGE_TABLE, Lock.HUGETLB
    actors = (Actor("O", "one way", taking(*locks)), Actor("P", "the other way", taking(*reversed(locks))))
    case = Case("H04", "7.1", X86, Scenario("locks", actors, SMALL), "deadlock")
    assert found(case, Options()) == found(case, PLAIN) == [("deadlock", 2)]


def test_failing_allocations_are_tried_everywhere():
    """With one refusal anywhere an optimise that survives it has more than one end, and loses nothing."""
    scenario = Scenario("refused", (c.O,), SMALL, failures=1)
    forest, start = build(scenario, parse_variant("6.2"), X86)
    result = explore(forest, start, scenario, Options())
    assert not result.violations
    assert result.states > 3
