"""One state, unpacked so that steps can be done on it: memory, what TLBs may hold, frames.
`perform` in `hvo.check.effects` does the steps.

A TLB is a may-set: the entries in the tables, which a walker may fill on any CPU at any time, plus
those in `stale`, each with the CPUs that have not dropped it.
"""

from typing import Any

from hvo.check.model.footprint import WORDS_OF_FRAME, Footprint
from hvo.check.model.state import Model, State
from hvo.steps.base import Step


class Fault(Exception):
    """A step that cannot be finished: what was violated has been noted."""


class Waits(Exception):
    """An access that met a broken entry, and waits in the fault handler until it is made."""


class World:
    """A state in the making.

    `actor` is whose step it is, and `early` the load behind it that was done instead; `found`
    collects what was violated in which step, `done` counts steps, `urgent` says that the actor may
    not wait, `touched` what the last step read and changed, `visible` that it must not go along
    with others: it changes who can go on. `delayable` is the place in `taken` of the choice whether
    a store stays in the store buffer (-1: none); `patient`
    looks further than the bound of loops.
    """

    __slots__ = (
        "actor",
        "actors",
        "broken",
        "cells",
        "choices",
        "contents",
        "copies",
        "counters",
        "delayable",
        "dirty",
        "done",
        "early",
        "failures",
        "faults_wait",
        "found",
        "leaf",
        "model",
        "numbers",
        "patient",
        "raw_errors",
        "refused",
        "released",
        "stale",
        "status",
        "taken",
        "touched",
        "urgent",
        "visible",
    )

    def __init__(self, model: Model, state: State, choices: tuple[int, ...] = ()) -> None:
        self.model = model
        self.leaf = model.geometry.leaf
        rows = model.rows
        self.numbers = state.contents
        self.contents = [rows[number] for number in state.contents]
        self.dirty: set[int] = set()
        self.status = bytearray(state.status)
        self.stale = state.stale
        self.counters = state.counters
        self.copies = state.copies
        self.failures = state.failures
        self.refused = state.refused
        self.released = state.released
        self.faults_wait = state.faults_wait
        self.raw_errors = state.raw_errors
        self.broken = state.broken
        self.actors = list(state.actors)
        self.actor = 0
        self.early: Step[object] | None = None
        self.found: list[tuple[str, str, int]] = []
        self.done = 0
        self.urgent = False
        self.cells = model.cells
        self.touched = Footprint()
        self.visible = False
        self.delayable = -1
        self.patient = False
        self.choices = choices
        self.taken: list[tuple[int, int]] = []

    def freeze(self) -> State:
        """The state that it is now."""
        numbers = self.numbers
        if self.dirty:
            changed = list(numbers)
            for frame in self.dirty:
                changed[frame] = self.model.number(self.contents[frame])
            numbers = tuple(changed)
        return State(
            numbers,
            bytes(self.status),
            self.stale,
            self.counters,
            self.copies,
            self.failures,
            self.refused,
            self.released,
            self.faults_wait,
            self.raw_errors,
            self.broken,
            tuple(self.actors),
        )

    def choose(self, options: int) -> int:
        """One of `options` ways on: as told, else the first; all others are tried as well."""
        if options == 1:
            return 0
        at = len(self.taken)
        choice = self.choices[at] if at < len(self.choices) else 0
        self.taken.append((choice, options))
        return choice

    def note(self, rule: str, message: str) -> None:
        """Something is violated, but the run goes on."""
        self.found.append((rule, message, self.done))

    def fault(self, rule: str, message: str) -> Fault:
        """Something is violated, and the run ends there."""
        self.note(rule, message)
        return Fault(rule)

    def put(self, frame: int, word: int, value: int) -> None:
        """Store one word of a frame."""
        row = self.contents[frame]
        if row[word] != value:
            self.fill(frame, (*row[:word], value, *row[word + 1 :]))

    def fill(self, frame: int, row: tuple[int, ...]) -> None:
        """Store everything that a frame holds."""
        self.contents[frame] = row
        self.dirty.add(frame)

    # -- what a step touches: see `hvo.check.model.footprint` --

    def reads(self, cell: int) -> None:
        """The step depends on what is there."""
        self.touched.reads |= self.cells[cell]

    def changes(self, cell: int) -> None:
        """It may be another thing afterwards."""
        self.touched.writes |= self.cells[cell]

    def adds_to(self, cell: int) -> None:
        """It changes in a way that commutes with others of this kind."""
        self.touched.adds |= self.cells[cell]

    def reads_words(self, frame: int, first: int, count: int) -> None:
        """The step depends on these words of a frame."""
        self.touched.reads |= self.cells.all_of(frame * WORDS_OF_FRAME + first, count)

    def changes_words(self, frame: int, first: int, count: int) -> None:
        """These words may be others afterwards."""
        self.touched.writes |= self.cells.all_of(frame * WORDS_OF_FRAME + first, count)


def change(world: World, actor: int, item: int, value: Any) -> None:
    """Set one item of an actor's record."""
    record = world.actors[actor]
    changed: Any = (*record[:item], value, *record[item + 1 :])
    world.actors[actor] = changed
