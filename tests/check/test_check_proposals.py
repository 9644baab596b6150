"""The proposals for arm64, and what the hardware changes."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from hvo.check.check import check
from hvo.check.model.hardware import Hardware
from hvo.check.proposals.compare import LISTED, Row, compare, compare_all
from hvo.check.scenarios.hazards import CASES
from hvo.check.scenarios.proposals import KERNEL_TRIES, PROPOSED_FOR, rules_for, scenarios
from hvo.check.scenarios.scenario import Scenario
from hvo.check.search.explore import Options, explore
from hvo.check.search.start import build
from hvo.errors import HvoError
from hvo.mmu.break_before_make import needs_break
from hvo.mmu.formats import format_for
from hvo.report.check_proposals import COLUMNS, markdown, print_proposals
from hvo.vmemmap.era import parse_variant
from hvo.vmemmap.proposals import EAGAIN


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    """Every proposal, searched and counted."""
    return {row.letter: row for row in compare_all(Options())}


def test_what_is_safe(rows: dict[str, Row]):
    """Only A is not, because an interrupt on the CPU that broke the entry cannot wait; E alone can
    stop half-way.
    """
    assert [letter for letter, row in rows.items() if not row.safe] == ["A"]
    assert {v.property for _, result in rows["A"].results for v in result.violations} == {
        "access-invalid"
    }
    assert [letter for letter, row in rows.items() if row.partial] == ["E"]
    assert [letter for letter, row in rows.items() if row.can_fail] == ["A", "B", "C", "D", "E"]
    assert all(result.finished for row in rows.values() for _, result in row.results)


def test_who_is_held(rows: dict[str, Row]):
    """B and D stop the others, C on the way back; A makes whoever meets an entry wait; E and F hold
    nobody.
    """
    assert [letter for letter, row in rows.items() if row.optimize.one.stops] == ["B", "D"]
    assert [letter for letter, row in rows.items() if row.restore and row.restore.one.stops] == [
        "B",
        "C",
        "D",
    ]
    assert [letter for letter, row in rows.items() if row.optimize.one.faults] == ["A"]
    assert [letter for letter, row in rows.items() if row.optimize.one.updates] == ["E"]
    assert [letter for letter, row in rows.items() if row.optimize.listed.held] == ["A", "B", "D"]
    assert rows["F"].optimize.one == rows["F"].optimize.split == (0, 0, 0, 0, 0)


def test_counts_of_one_page(rows: dict[str, Row]):
    """By hand, for 7 tails: A breaks each by itself; B and D all in one stop of stop, 7 breaks,
    request, wait, 7 makes; C writes twice.
    """
    assert rows["A"].optimize.one[:3] == (7, 0, 7)
    assert rows["A"].optimize.one.held == 3  # broken, request, wait
    assert rows["B"].optimize.one == rows["D"].optimize.one == (1, 1, 0, 0, 17)
    assert rows["C"].optimize.one == (2, 0, 0, 0, 0)
    assert rows["E"].optimize.one == (7, 0, 0, 7, 0)


def test_how_holds_grow_with_a_list(rows: dict[str, Row]):
    """A's with the page, B's and D's with the list: 14 steps more, an invalid and a new entry for
    each of 7 tails.
    """
    growth = {letter: row.optimize.growth for letter, row in rows.items()}
    assert growth == {"A": 0, "B": 14, "C": 0, "D": 14, "E": 0, "F": 0}
    assert [rows[letter].optimize.listed.invalidations for letter in "ABCDE"] == [
        LISTED,
        1,
        2,
        1,
        1,
    ]
    assert [row.optimize.split.invalidations for row in rows.values()] == [1, 1, 1, 1, 1, 0]


def test_sixteen_tries_and_no_more():
    """Walkers that set the access flag may spoil every try, with a reader or without: E gives up
    then, in runs of 16 tries and no less.
    """
    scenario = scenarios("E")[-1]
    assert str(KERNEL_TRIES) in scenario.name
    alone = replace(scenario, actors=scenario.actors[:1])
    assert returned(scenario) == returned(alone) == {0, EAGAIN}
    forest, start = build(alone, parse_variant(PROPOSED_FOR), rules_for("E"))
    found = explore(forest, start, alone, Options())
    lost = [
        node for node in (forest.nodes[nodes[0]] for nodes in found.ends) if node.returned == EAGAIN
    ]
    assert min(sum(result is False for result in node.history) for node in lost) == KERNEL_TRIES


def returned(scenario: Scenario) -> set[int]:
    """What the first actor gives in all runs of a safe scenario."""
    forest, start = build(scenario, parse_variant(PROPOSED_FOR), rules_for("E"))
    found = explore(forest, start, scenario, Options())
    assert found.violations == []
    return {int(forest.nodes[nodes[0]].returned) for nodes in found.ends}


def test_a_search_that_is_cut_short_gives_no_row():
    """A row says what was found, not how far one came."""
    with pytest.raises(HvoError, match="stopped at"):
        compare("B", Options(most_states=3))


def test_the_table_is_printed(rows: dict[str, Row]):
    """One line a proposal with a verdict, on a terminal and for a page; what is unsafe says why."""
    text = markdown(list(rows.values()))
    lines = text.splitlines()
    assert [line.split(" | ")[2] for line in lines[2:8]] == ["unsafe", *["safe"] * 5]
    assert all(len(line.split("|")) == len(COLUMNS) + 2 for line in lines[:8])
    assert "* A: access-invalid" in text
    console = Console(width=300, record=True, file=StringIO())
    print_proposals(list(rows.values()), console)
    assert console.export_text().count("safe") >= 6
    assert json.loads(json.dumps([row.to_json() for row in rows.values()]))[1]["steps_held"] == 17


def test_break_before_make_clause_by_clause():
    """Same place: none. Another place: when either is writable, or the contents differ. Other
    attributes: always.
    """
    f = format_for("arm64", 4096, 48)
    rw, ro, other = (
        f.make_leaf(0x10000, 0),
        f.make_leaf(0x10000, 0, writable=False),
        f.make_leaf(0x20000, 0, writable=False),
    )
    assert not needs_break(f, rw, ro, same_output=True, same_contents=True)
    assert needs_break(f, rw, other, same_output=False, same_contents=True)
    assert needs_break(f, ro, other, same_output=False, same_contents=False)
    assert not needs_break(f, ro, other, same_output=False, same_contents=True)
    assert needs_break(f, ro, ro ^ 0x4, same_output=True, same_contents=True)


@pytest.mark.parametrize(
    ("hardware", "expected"),
    [
        (Hardware("arm64", 0), "break-before-make"),
        (Hardware("arm64", 1), "break-before-make"),
        (Hardware("arm64", 2, noabort=True), None),
        (Hardware("arm64", 3), None),
    ],
)
def test_levels_of_feat_bbm_and_the_split(hardware: Hardware, expected: str | None):
    """Level 2 lifts the block-size case and nothing else: then the remap is what is found,
    later.
    """
    case = next(case for case in CASES if case.hazard == "H01a")
    result = check(replace(case, hardware=hardware))
    message = result.findings[0].message
    assert ("block is replaced" in message) is (expected is not None)
    assert result.findings[0].property == "break-before-make"
