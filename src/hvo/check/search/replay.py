"""A run done again, step by step, from what says who went on for how long with which choices."""

from collections.abc import Iterator
from typing import NamedTuple

from hvo.check.model.state import BUFFER, NODE, State
from hvo.check.model.world import Fault, World
from hvo.check.scenarios.scenario import Scenario
from hvo.check.search.path import Path, Turn, canonical
from hvo.check.search.transition import step
from hvo.check.search.tree import Forest
from hvo.errors import HvoError
from hvo.steps.base import Step
from hvo.steps.ordering import StoreVisible

_OTHER = "it belongs to another version of the protocol"


class Done(NamedTuple):
    """One step that was done: in whose lane (a CPU) and under which letter, what, by the actor in
    which place of the states before and after, and what it violated."""

    lane: int
    letter: str
    step: Step[object]
    actor: int
    before: State
    after: State
    violated: tuple[tuple[str, str], ...]


def replay(
    forest: Forest, scenario: Scenario, start: State, path: Path, *, symmetry: bool
) -> Iterator[Done]:
    """Do the run again, from `start`; raises HvoError when it is not a run of this scenario."""
    state, lanes = start, tuple(range(len(scenario.actors)))
    for turn in path:
        if not 0 <= turn.actor < len(scenario.actors):
            raise HvoError(
                f"the run has a CPU {turn.actor + 1}: the scenario has {len(scenario.actors)}"
            )
        world = World(forest.model, state, turn.choices)
        yield from _turn(forest, scenario, world, turn, lanes[turn.actor])
        state = world.freeze()
        if symmetry:
            state, order = canonical(scenario, state)
            lanes = lanes if order is None else tuple(lanes[i] for i in order)


def _turn(
    forest: Forest, scenario: Scenario, world: World, turn: Turn, lane: int
) -> Iterator[Done]:
    for _ in range(turn.steps):
        operation = forest.nodes[world.actors[turn.actor][NODE]].operation
        if operation is None and not world.actors[turn.actor][BUFFER]:
            raise HvoError(
                f"the run goes on after {scenario.actors[turn.actor].letter} is done: {_OTHER}"
            )
        before, world.found = world.freeze(), []
        try:
            went = step(forest, world, turn.actor)
        except Fault:
            went = True
        if not went:
            raise HvoError(
                f"the run goes on where {scenario.actors[turn.actor].letter} waits: {_OTHER}"
            )
        found = tuple((rule, message) for rule, message, _ in world.found)
        did = (
            world.early or (operation and operation.step) or StoreVisible()
        )  # a load behind the test that is next was done first, or that
        yield Done(
            lane, scenario.actors[lane].letter, did, turn.actor, before, world.freeze(), found
        )
