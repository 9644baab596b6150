"""Runs again: a token says one run, and the same interleaving on bytes ends with the same page
tables.
"""

from dataclasses import replace

import numpy as np
import pytest

from hvo.check.check import check, rerun
from hvo.check.model.state import NODE
from hvo.check.model.world import Fault, World
from hvo.check.scenarios.hazards import CASES, Case
from hvo.check.search.path import Turn
from hvo.check.search.replay import replay
from hvo.check.search.start import build
from hvo.check.search.transition import step
from hvo.check.trace.replica import Replica, differences, on_bytes
from hvo.check.trace.rerun import Rerun
from hvo.errors import HvoError
from hvo.report.check_trace import entries, tables_text
from hvo.steps.entries import WriteEntry


def name(case: Case) -> str:
    return f"{case.hazard}-{case.protocol}-{case.hardware.name}-{case.scenario.name}".replace(
        " ", "_"
    )


def to_the_end(case: Case) -> Rerun:
    """A run in which every actor goes on three steps at a time, until all are done or the machine
    ends it.
    """
    forest, state = build(case.scenario, case.era, case.hardware)
    path: list[Turn] = []
    world, went = World(forest.model, state), True
    while went:
        went = False
        for actor in range(len(case.scenario.actors)):
            steps = 0
            try:
                while (
                    steps < 3
                    and forest.nodes[world.actors[actor][NODE]].operation is not None
                    and step(forest, world, actor)
                ):
                    steps += 1
            except Fault:
                return _run(case, forest, state, [*path, Turn(actor, steps + 1, ())])
            if steps:
                went = True
                path.append(Turn(actor, steps, ()))
    return _run(case, forest, state, path)


def _run(case, forest, state, path):
    return Rerun(
        case,
        forest,
        state,
        tuple(replay(forest, case.scenario, state, tuple(path), symmetry=False)),
    )


@pytest.mark.parametrize("case", CASES, ids=name)
def test_bytes_end_as_the_checker_does(case: Case):
    """Every violation found, and a run through: entries, and struct pages of live frames, are the
    same word for word.
    """
    runs = [rerun(finding.token) for finding in check(case).findings]
    for run in [*runs, to_the_end(case)]:
        assert run.steps or case.hazard == "H10"  # refused before its first step
        assert list(differences(run, on_bytes(run))) == []


def test_a_difference_is_seen():
    """A run whose bytes miss one entry is told from the checker's."""
    case = next(case for case in CASES if case.hazard == "H04" and case.expected is None)
    run = to_the_end(case)
    replica = Replica(run)
    for done in run.steps:
        replica.do(done)
    last = next(done.step for done in reversed(run.steps) if isinstance(done.step, WriteEntry))
    replica.world.put(int(last.location), 0)
    found = list(differences(run, replica))
    assert len(found) == 1
    assert f"checker {int(last.value):#x}" in found[0]


def test_memory_that_says_something_else_is_a_defect():
    """An actor that would go on from another entry than the checker's is not followed."""
    run = to_the_end(next(case for case in CASES if case.hazard == "H04"))
    replica = Replica(run)
    first = next(done.step for done in run.steps if type(done.step).__name__ == "ReadEntry")
    replica.world.put(int(first.location), 0)
    with pytest.raises(HvoError, match="the bytes say"):
        all(replica.do(done) is None for done in run.steps)


def test_the_dump_shows_what_is_mapped():
    """After an optimise the dump has one writable page of the head, and the tails read-only on
    another frame.
    """
    case = next(case for case in CASES if case.protocol == "7.1" and case.hazard == "H17")
    case = replace(
        case, scenario=replace(case.scenario, actors=case.scenario.actors[:1], failures=0)
    )
    replica = on_bytes(to_the_end(case))
    rows = entries(replica)[:3]
    assert [row["writable"] for row in rows] == [True, False, False]
    assert rows[1]["frame"] == rows[2]["frame"] != rows[0]["frame"]
    assert all(row["entry"] == replica.world.get(row["location"]) for row in rows)
    text = tables_text(replica)
    assert text.startswith("---[ Vmemmap ]---\n")
    assert f"entry {rows[1]['entry']:#018x}  frame {rows[1]['frame']} ro" in text


def test_runs_are_told_apart_from_others():
    """A token of another scenario, or with a turn too many, is refused."""
    finding = check(
        next(case for case in CASES if case.hazard == "H05" and case.expected)
    ).findings[0]
    from hvo.check.trace.token import decode

    said = decode(finding.token)
    assert np.all([turn.steps for turn in said.path])
    for changed in (
        said._replace(scenario="nothing like it"),
        said._replace(path=(*said.path, Turn(9, 1, ()))),
        said._replace(path=(*said.path, Turn(0, 99, ()))),
    ):
        with pytest.raises(HvoError):
            rerun(changed.encode())
