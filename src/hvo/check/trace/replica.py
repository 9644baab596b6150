"""A run on bytes: every step done again on simulated memory, by walking page tables that lie in it,
and compared with the checker's.

The checker keeps what frames hold as numbered rows, and translations as sets. Here the same
interleaving runs on `SimulatedMemory`: entries are words at their locations, struct pages are
reached through a walk of the tables, and the generators go on from what is read there. Only what
memory cannot tell is taken from the checker: which frame the allocator gave, and what came by a
translation that a TLB still held.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hvo.check.model.geometry import PMD_FRAME, PUD_FRAME, ROW
from hvo.check.model.state import ALLOCATED, KIND, NODE, PRIVATE, STATUS, STRUCT, TABLE
from hvo.check.replica_steps import EFFECTS, TOLD, ByteMemory, Unknown
from hvo.check.search.replay import Done
from hvo.check.search.tree import Forest, single
from hvo.check.trace.rerun import Rerun
from hvo.errors import HvoError
from hvo.steps.base import Step, Steps
from hvo.steps.entries import Entry


class Replica:
    """The run's machine in bytes: `memory`, and the actors that go on from what they read there;
    `taken` counts results that memory could not tell."""

    def __init__(self, run: Rerun) -> None:
        self._forest = run.forest
        model = run.forest.model
        self.memory = ByteMemory(model, run.start)
        self.taken = 0
        self._actors: list[Steps] = [
            single(actor.act(model.v, model.geometry)) for actor in run.case.scenario.actors
        ]
        self._steps: list[Step] = [next(actor, Unknown()) for actor in self._actors]

    def do(self, done: Done) -> None:
        """Do one step of the run; raises HvoError when memory says something else than the checker
        did.
        """
        step, outcomes = self._steps[done.lane], _outcomes(self._forest, done)
        told = outcomes[0] if outcomes else TOLD.NOTHING
        if told is TOLD.NOTHING and done.violated:
            return  # it ended in a fault
        effect = EFFECTS.get(type(step))
        result = TOLD.NOTHING if effect is None else effect(self.memory, step, done)
        if told is TOLD.NOTHING:
            return  # a part of a step; the rest comes
        if result is TOLD.NOTHING or (
            not _same(result, told) and self.memory.may_be_stale(step, done)
        ):
            self.taken, result = self.taken + 1, told
        elif not _same(result, told):
            what = f"the bytes say {_plain(result)}, the checker said {_plain(told)}"
            raise HvoError(f"{type(step).__name__}: {what}: that is a defect of the checker")
        self.taken += len(outcomes) - 1
        for sent in (result, *outcomes[1:]):
            try:
                self._steps[done.lane] = self._actors[done.lane].send(sent)
            except StopIteration:
                self._steps[done.lane] = Unknown()


def _outcomes(forest: Forest, done: Done) -> tuple[Any, ...]:
    """What the actor was sent for the step, and for loads behind it that were done early; none when
    it did not go on to another.
    """
    before, after = (
        forest.nodes[state.actors[done.actor][NODE]] for state in (done.before, done.after)
    )
    return after.history[len(before.history) :]


def _plain(value: Any) -> Any:
    """Words and entries as plain numbers, to be compared."""
    value = value.value if isinstance(value, Entry) else value
    return value if value is None or isinstance(value, bool) else np.asarray(value).tolist()


def _same(one: Any, other: Any) -> bool:
    return _plain(one) == _plain(other)


def on_bytes(run: Rerun) -> Replica:
    """The whole run in bytes."""
    replica = Replica(run)
    for done in run.steps:
        replica.do(done)
    return replica


def differences(run: Rerun, replica: Replica) -> Iterator[str]:
    """Where the bytes end otherwise than the checker's last state: entries of live tables, and
    struct pages of live frames.
    """
    state, model, memory = run.end, run.forest.model, replica.memory
    for frame, number in enumerate(state.contents):
        status, row = state.status[frame], model.rows[number]
        if status & STATUS not in (ALLOCATED, PRIVATE) or status & KIND not in (TABLE, STRUCT):
            continue
        table = status & KIND == TABLE
        count = model.geometry.leaf if table and frame not in (PMD_FRAME, PUD_FRAME) else ROW
        found = memory.words(frame, count, table=table)
        for index in np.flatnonzero(found != np.array(row[:count], np.uint64)).tolist():
            what = "entry" if table else "word"
            yield (
                f"frame {frame} {what} {index}: bytes {int(found[index]):#x}, checker"
                f" {row[index]:#x}"
            )
