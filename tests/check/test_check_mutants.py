"""Mutants: every one is killed or its survival is explained, and no explanation is wrong; and the
suite that they run in.
"""

from dataclasses import replace

import pytest

from hvo.check.check import check
from hvo.check.model.properties import SEVERITY
from hvo.check.mutants.catalogue import MUTANTS
from hvo.check.mutants.explanations import EXPLANATIONS
from hvo.check.mutants.mutations import Trigger, first, instead, later, leave_out
from hvo.check.mutants.run import (
    MutantRow,
    compare_mutants,
    mutants_of,
    suite_protocol,
    without_fixes,
)
from hvo.check.mutants.suite import FIXED, PROTOCOLS, refusals, suite
from hvo.check.search.explore import Options
from hvo.errors import HvoError
from hvo.steps.base import Step
from hvo.steps.frames import FreeFrame
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    Invalidate,
    InvalidateAll,
    Lock,
    Release,
    SynchronizeReaders,
)

OPTIONS = Options()
QUICK = ("proposal-C", "proposal-F")


def agrees(protocol: str, rows: list[MutantRow]):
    """Survivors are those that are explained of `protocol`, no more and no less."""
    assert all(row.protocol == protocol for row in rows)
    survivors = {(row.protocol, row.role, row.mutant) for row in rows if row.verdict != "killed"}
    assert survivors == {key for key in EXPLANATIONS if key[0] == protocol}
    for row in rows:
        assert (
            (row.verdict == "killed")
            == bool(row.killed_by)
            == (row.steps is not None)
            == (row.explanation is None)
        )
        assert set(row.killed_by) <= set(SEVERITY)


@pytest.mark.parametrize(
    "protocol", [pytest.param(p, marks=() if p in QUICK else pytest.mark.slow) for p in PROTOCOLS]
)
def test_beliefs_are_what_comes_out(protocol: str):
    """Each mutant of the protocol is tried in all that it does: an explanation of one that is
    killed fails here, as does a missing one.
    """
    agrees(protocol, [*without_fixes(protocol, OPTIONS), *mutants_of(protocol, OPTIONS)])


NOTICED = [
    ("5.18", "optimise", "flush", "freed-while-cached"),
    ("5.18", "optimise", "flush-this-cpu", "freed-while-cached"),
    ("5.18", "optimise", "free-first", "freed-while-cached"),
    ("5.18", "restore", "flush", "shared-tail-written"),
    ("5.18", "optimise", "barrier", "old-contents"),
    ("6.2", "restore", "barrier", "old-contents"),
    ("7.1", "hotplug", "barrier", "old-contents"),
    ("5.18", "hotplug", "flush-last-level", "freed-table"),
    ("6.2", "hotplug", "hotplug-lock", "freed-table"),
    ("5.18", "dump", "hotplug-lock", "freed-table"),
    ("6.2", "walker", "read-barrier", "shared-tail-written"),
    ("6.2", "walker", "count-last", "shared-tail-written"),
    ("6.2", "walker", "read-section", "shared-tail-written"),
    ("6.2", "optimise", "readers-wait", "shared-tail-written"),
    ("6.2", "optimise", "readers-wait-first", "shared-tail-written"),
    ("6.2", "optimise", "flag-late", "lost-update"),
    ("5.18", "optimise", "mark-late", "shared-tail-written"),
    ("6.2", "memory failure", "hugetlb-lock", "poison-freed"),
    ("5.18", "restore", "copy-late", "stale-contents"),
    ("5.18", "optimise", "page-table-unlock", "deadlock"),
    ("proposal-B", "optimise", "stop", "access-invalid"),
    ("proposal-D", "optimise", "stop-interrupts", "access-invalid"),
    ("proposal-A", "optimise", "fault-waits", "access-invalid"),
    ("proposal-E", "optimise", "swap", "access-freed"),
    ("proposal-B", "optimise", "break", "access-freed"),
]


@pytest.mark.parametrize(("protocol", "role", "name", "rule"), NOTICED, ids=lambda value: value)
def test_what_safety_rests_on_is_killed(protocol: str, role: str, name: str, rule: str):
    """By this property, the most severe that is violated."""
    rows = list(mutants_of(suite_protocol(protocol), OPTIONS, (name,), (role,)))
    assert [row.killed_by[0] for row in rows] == [rule]


def test_a_belief_that_is_wrong_is_found_out():
    """No mutant is killed: were all mutants called equivalent, the comparison would
    fail.
    """
    rows = list(mutants_of("proposal-F", OPTIONS))
    with pytest.raises(AssertionError):
        agrees("proposal-F", [row._replace(verdict="killed") for row in rows])


def test_every_belief_is_about_something_that_exists():
    """Protocols and mutants that are declared are there, and each sentence says something."""
    for (protocol, _, name), explained in EXPLANATIONS.items():
        assert protocol in PROTOCOLS
        assert name in MUTANTS or name.startswith("-")
        assert explained.why


def test_unknown_protocol():
    """The error says what mutants are made of."""
    with pytest.raises(HvoError, match=r"5\.18.*proposal-F"):
        compare_mutants(("5.99",), OPTIONS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_suite_comes_out_as_declared(protocol: str):
    """Unchanged, a protocol violates nothing in its suite, or the property that is declared; and no
    search is cut short.
    """
    for case in suite(protocol):
        result = check(case)
        assert [found.property for found in result.findings] == (
            [case.expected] if case.expected else []
        ), case.scenario.name
        assert result.verdict != "unfinished"


@pytest.mark.parametrize("era", FIXED)
def test_a_refused_allocation_at_any_point(era: str):
    """Optimise and restore, one page and a list: each refusal makes a run of its own, and in none
    is anything lost.
    """
    for case in refusals(FIXED[era]):
        result = check(case)
        assert result.verdict == "safe", case.scenario.name
        assert (
            result.states > check(replace(case, scenario=replace(case.scenario, failures=0))).states
        )


# -- the ways of changing actors --

FLUSH = [Invalidate(0, 4096), AwaitInvalidation()]
FREE = [FreeFrame(1), FreeFrame(2)]


def done(steps: list[Step], mutation) -> tuple[list[Step], bool]:
    """What is done of `steps`, and whether anything was changed."""
    trigger = Trigger()

    def actor():
        yield from steps

    return list(mutation.change(actor(), trigger)), trigger.pulled


def test_leaving_out_and_doing_instead():
    """Only the steps named, and the trigger says whether there were any."""
    lock = [Acquire(Lock.HUGETLB), *FREE, Release(Lock.HUGETLB)]
    assert done(lock, leave_out(lambda step: isinstance(step, FreeFrame))) == (
        [lock[0], lock[-1]],
        True,
    )
    assert done(lock, leave_out(lambda step: isinstance(step, Invalidate))) == (lock, False)
    other = InvalidateAll()
    assert done(FLUSH, instead(lambda step: other if isinstance(step, Invalidate) else None)) == (
        [other, FLUSH[1]],
        True,
    )
    assert done([], leave_out(lambda step: True)) == ([], False)


def test_doing_later_and_first():
    """What is held back comes right after what it shall come after, and at the end where that never
    comes.
    """
    end = Release(Lock.PAGE_TABLE)
    flush_after_free = later(lambda step: step in FLUSH, lambda step: isinstance(step, FreeFrame))
    assert done([*FLUSH, *FREE, end], flush_after_free) == ([*FREE, *FLUSH, end], True)
    assert done([*FLUSH, end], flush_after_free) == ([end, *FLUSH], False)
    wait = SynchronizeReaders()
    assert done(
        [end, SynchronizeReaders()], first(wait, lambda step: isinstance(step, SynchronizeReaders))
    ) == ([wait, end], True)
