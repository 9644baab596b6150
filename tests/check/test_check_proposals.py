"""The proposals for arm64, the mutants, and what the hardware changes."""

import pytest

from hvo.check.explore import Options
from hvo.check.hazards import CASES
from hvo.check.jobs import check
from hvo.check.mutants import compare_mutants
from hvo.check.proposals import LETTERS, compare
from hvo.check.rules import Rules, needs_break
from hvo.mmu.formats import format_for


def test_the_table_of_proposals():
    """Only A is unsafe, because an interrupt on the CPU that broke the entry cannot wait; B and D hold others, E can stop half-way."""
    rows = {letter: compare(letter, Options()) for letter in LETTERS}
    assert [letter for letter, row in rows.items() if not row.safe] == ["A"]
    assert {v.property for _, result in rows["A"].results for v in result.violations} == {"access-invalid"}
    assert [letter for letter, row in rows.items() if row.stops] == ["B", "D"]
    assert [letter for letter, row in rows.items() if row.partial] == ["E"]
    assert rows["F"].invalidations == 0
    assert all(result.finished for row in rows.values() for _, result in row.results)


def test_break_before_make_clause_by_clause():
    """Same place: none. Another place: when either is writable, or the contents differ. Other attributes: always."""
    f = format_for("arm64", 4096, 48)
    rw, ro, other = f.make_leaf(0x10000, 0), f.make_leaf(0x10000, 0, writable=False), f.make_leaf(0x20000, 0, writable=False)
    assert not needs_break(f, rw, ro, same_output=True, same_contents=True)
    assert needs_break(f, rw, other, same_output=False, same_contents=True)
    assert needs_break(f, ro, other, same_output=False, same_contents=False)
    assert not needs_break(f, ro, other, same_output=False, same_contents=True)
    assert needs_break(f, ro, ro ^ 0x4, same_output=True, same_contents=True)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(Rules("arm64", 0), "break-before-make"), (Rules("arm64", 1), "break-before-make"), (Rules("arm64", 2, noabort=True), None),
     (Rules("arm64", 3), None)],
)  # fmt: skip
def test_levels_of_feat_bbm_and_the_split(rules: Rules, expected: str | None):
    """Level 2 lifts the block-size case and nothing else: then the remap is what is found, later."""
    case = next(case for case in CASES if case.hazard == "H01a")
    from dataclasses import replace

    result = check(replace(case, rules=rules))
    message = result.findings[0].message
    assert ("block is replaced" in message) is (expected is not None)
    assert result.findings[0].property == "break-before-make"


def test_mutants_that_matter_are_noticed():
    """What the safety of 5.18 and 6.2 rests on cannot be left out; what is not noticed says what is believed."""
    rows = {(row.protocol, row.mutant): row for row in compare_mutants(("5.18+split-lock-read", "6.2"), Options())}
    for protocol in ("5.18+split-lock-read", "6.2"):
        for name in ("flush", "flush-wait", "page-table-lock", "key"):
            assert rows[protocol, name].noticed, (protocol, name)
        assert not rows[protocol, "barrier"].noticed
    assert rows["6.2", "readers-wait"].noticed == ("write-read-only",)
    assert all(row.noticed or row.believed for row in rows.values())
