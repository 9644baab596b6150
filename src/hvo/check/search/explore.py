"""The search: every interleaving, shortest first, with what makes it smaller switchable.

* Reduction: steps that are independent of all that others can still do
  (`hvo.check.model.footprint`, with the proof) are not interleaved.
* Symmetry: records of interchangeable actors are kept in order, unless somebody waits for one of
  them by name.

A run goes on after a violation wherever the machine would, so that every property violated is
found, each with a shortest trace.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from hvo.check.model.properties import SEVERITY
from hvo.check.model.state import NODE, State
from hvo.check.scenarios.scenario import Scenario
from hvo.check.search.final_state import at_the_end
from hvo.check.search.path import Path, Turn, canonical
from hvo.check.search.transition import moves
from hvo.check.search.tree import Forest

Where = tuple[int, int, int, tuple[int, ...]]
"""The last transition of a run: the number of the state before it, the actor (-1: none went on),
its steps and its choices.
"""


class Violation(NamedTuple):
    """A property that was violated: how, after how many steps (each a memory access, an entry, a
    lock, ...), and the run to it.
    """

    property: str
    message: str
    steps: int
    path: Path


@dataclass(frozen=True)
class Options:
    """How to search: which reductions, and how many states and seconds at most."""

    reduce: bool = True
    symmetry: bool = True
    most_states: int = 2_000_000
    seconds: float = 600.0


@dataclass
class Exploration:
    """What a search found: the violations, the most severe first, and how much it looked at.

    `finished`: nothing was left out; `interrupted`: because somebody pressed Ctrl-C. `ends` are the
    nodes of all actors in each state in which nobody can go on.
    """

    violations: list[Violation]
    states: int
    transitions: int
    seconds: float
    finished: bool
    interrupted: bool = False
    ends: frozenset[tuple[int, ...]] = frozenset()


class _Best(NamedTuple):
    """The shortest run to a violation that is known: steps, how, and its last transition."""

    depth: int
    message: str
    where: Where


@dataclass
class _Search:
    """One pass over the states, which are numbered as they are found; `parents` says how each was
    first reached, `steps` how many there are from it.
    """

    forest: Forest
    scenario: Scenario
    options: Options
    deadline: float
    numbers: dict[State, int] = field(default_factory=dict[State, int])
    states: list[State] = field(default_factory=list[State])
    depths: list[int] = field(default_factory=list[int])
    parents: list[Where] = field(default_factory=list[Where])
    steps: list[int] = field(default_factory=list[int])
    layers: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    best: dict[str, _Best] = field(default_factory=dict[str, _Best])
    announce: Callable[[int], None] | None = None
    ends: set[tuple[int, ...]] = field(default_factory=set[tuple[int, ...]])
    finished: bool = True
    interrupted: bool = False

    def run(self, start: State) -> None:
        """Go through all states, by number of steps; an interrupt ends it, and leaves what was
        found.
        """
        try:
            self._run(start)
        except KeyboardInterrupt:
            self.finished, self.interrupted = False, True

    def _run(self, start: State) -> None:
        self._reach(start, 0, (-1, -1, 0, ()))
        while self.layers:
            depth = min(self.layers)
            if self.announce is not None:
                self.announce(len(self.states))
            for number in self.layers.pop(depth):
                if self.depths[number] == depth:
                    self._expand(number, depth)
                if len(self.states) > self.options.most_states or time.monotonic() > self.deadline:
                    self.finished = False
                    return
            again, self.forest.again = self.forest.again, set()
            for number in again:
                self.layers.setdefault(self.depths[number], []).append(number)

    def _expand(self, number: int, depth: int) -> None:
        """Add what follows the state `number`."""
        went, steps = False, 0
        state = self.states[number]
        self.forest.state = number
        for actor in range(len(state.actors)):
            for move in moves(self.forest, state, actor, reduce=self.options.reduce):
                went = True
                steps += move.steps
                for rule, message, at in move.found:
                    self._note(rule, message, depth + at, (number, actor, at, move.choices))
                if move.state is not None:
                    new = (
                        canonical(self.scenario, move.state)[0]
                        if self.options.symmetry
                        else move.state
                    )
                    self._reach(new, depth + move.steps, (number, actor, move.steps, move.choices))
        self.steps[number] = steps
        if not went:
            self.ends.add(tuple(record[NODE] for record in state.actors))
            for rule, message in at_the_end(self.forest, self.scenario, state):
                self._note(rule, message, depth, (number, -1, 0, ()))

    def _reach(self, state: State, depth: int, parent: Where) -> None:
        found = self.numbers.setdefault(state, len(self.states))
        if found == len(self.states):
            self.states.append(state)
            self.depths.append(depth)
            self.parents.append(parent)
            self.steps.append(0)
        elif self.depths[found] > depth:
            self.depths[found], self.parents[found] = depth, parent
        else:
            return
        self.layers.setdefault(depth, []).append(found)

    def _note(self, rule: str, message: str, depth: int, where: Where) -> None:
        if rule not in self.best or self.best[rule].depth > depth:
            self.best[rule] = _Best(depth, message, where)

    def path(self, where: Where) -> Path:
        """The run to a state, and the transition behind it."""
        back: list[Turn] = []
        while where[0] >= 0:
            if where[1] >= 0:
                back.append(Turn(*where[1:]))
            where = self.parents[where[0]]
        return tuple(reversed(back))


def explore(
    forest: Forest,
    start: State,
    scenario: Scenario,
    options: Options,
    announce: Callable[[int], None] | None = None,
) -> Exploration:
    """Search everything that `scenario` can do from `start`."""
    begun = time.monotonic()
    search = _Search(forest, scenario, options, begun + options.seconds, announce=announce)
    search.run(start)
    violations = [
        Violation(rule, best.message, best.depth, search.path(best.where))
        for rule, best in search.best.items()
    ]
    violations.sort(key=lambda violation: SEVERITY[violation.property])
    states, seconds = len(search.states), time.monotonic() - begun
    return Exploration(
        violations,
        states,
        sum(search.steps),
        seconds,
        search.finished,
        search.interrupted,
        frozenset(search.ends),
    )
