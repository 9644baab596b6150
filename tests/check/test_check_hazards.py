"""Every row of the benchmark: unsafe with its property in the variant that has the hazard, safe in
the one that does not.
"""

import re
from dataclasses import replace

import pytest

from hvo.check.check import check, replayed
from hvo.check.model.properties import PROPERTIES, SEVERITY
from hvo.check.scenarios.hazards import CASES, Case
from shared_files import SHARED, need


def name(case: Case) -> str:
    return f"{case.hazard}-{case.protocol}-{case.hardware.name}-{case.scenario.name}".replace(
        " ", "_"
    )


@pytest.mark.parametrize("case", CASES, ids=name)
def test_row_of_the_benchmark(case: Case):
    """The most severe property violated is the one named, or none is and the search was complete;
    the run found can be run again.
    """
    result = check(case)
    found = [finding.property for finding in result.findings]
    assert found[:1] == ([case.expected] if case.expected else []), result.findings
    assert set(case.also) <= set(found)
    assert result.verdict == ("unsafe" if case.expected else "safe")
    for finding in result.findings:
        again, trace = replayed(finding.token)
        assert again.scenario.name == case.scenario.name
        assert len(trace) == finding.steps
    if result.findings and case.expected not in AT_THE_END:
        assert case.expected in {rule for rule, _ in result.trace[-1].violated}
        assert not any(
            rule == case.expected for step in result.trace[:-1] for rule, _ in step.violated
        )


AT_THE_END = {"leak", "counters", "wrong-head", "tail-writable", "deadlock", "no-progress"}
"""Properties that may be looked at only when all are done."""

SHORTEST = {
    ("H01a", "5.18+split-lock-read"): (15, 1),
    ("H01b", "5.18+split-lock-read"): (11, 1),
    ("H03a", "5.14"): (47, 3),
    ("H03b", "6.2"): (77, 4),
    ("H04", "5.14+split-lock-read"): (48, 4),
    ("H05", "5.18"): (25, 3),
    ("H06", "5.14"): (9, 2),
    ("H07", "5.14"): (26, 2),
    ("H08", "6.2-errors-after-mark"): (16, 2),
    ("H12", "5.18+split-lock-read"): (7, 1),
    ("H16", "5.18"): (26, 3),
    ("H19", "6.2-reset-tails"): (88, 1),
    ("H27b", "5.18+split-lock-read-dcache-head"): (14, 2),
}
"""Steps and turns of the shortest run to the first such row's violation."""


@pytest.mark.parametrize(("hazard", "protocol"), SHORTEST)
def test_shortest_runs(hazard: str, protocol: str):
    """The number of steps, and of turns, does not change by accident."""
    case = next(
        case
        for case in CASES
        if (case.hazard, case.protocol) == (hazard, protocol) and case.expected
    )
    first = check(case).findings[0]
    assert (first.steps, first.turns) == SHORTEST[hazard, protocol]


def test_every_row_of_the_list_is_there():
    """Every hazard of the reference list has a row, and every row that can be unsafe has one that
    is safe.
    """
    text = need(SHARED / "hazards.md").read_text()
    listed = set(re.findall(r"^\| (H\d+[a-c]?) ", text, re.MULTILINE))
    here = {case.hazard for case in CASES}
    assert listed <= here
    for hazard in listed - {"H03c"}:
        assert any(case.expected is None for case in CASES if case.hazard.startswith(hazard[:3])), (
            hazard
        )


def test_names_tell_scenarios_apart():
    """A hazard and a name are one scenario: tokens find it by them."""
    found: dict[tuple[str, str], object] = {}
    for case in CASES:
        told = replace(
            case.scenario,
            before=None,
            actors=tuple((actor.letter, actor.role) for actor in case.scenario.actors),
        )
        assert found.setdefault((case.hazard, case.scenario.name), told) == told


def test_properties_are_told_apart():
    """Each property, once and with an id of its own, a sentence and an example on either
    side.
    """
    assert len(SEVERITY) == len(PROPERTIES) == 21
    assert all(rule.sentence.endswith(".") and rule.bad and rule.good for rule in PROPERTIES)
    assert {case.expected for case in CASES} - {None} <= set(SEVERITY)
