"""Runs: who goes on for how many steps with which choices; and the order in which records of
interchangeable actors are kept.
"""

from typing import NamedTuple, TypeAlias

from hvo.check.model.state import HELD, PENDING, SECTION, State
from hvo.check.scenarios.scenario import Scenario


class Turn(NamedTuple):
    """One actor goes on alone for `steps` steps, with `choices` where there were several ways."""

    actor: int
    steps: int
    choices: tuple[int, ...]


Path: TypeAlias = tuple[Turn, ...]


def canonical(scenario: Scenario, state: State) -> tuple[State, tuple[int, ...] | None]:
    """`state` with the records of interchangeable actors in order, and where each record was (None:
    all stay).

    Nothing is moved while somebody holds a lock, waits for a flush, or is waited for: those know
    actors by their place.
    """
    actors = scenario.actors
    if scenario.all_different or any(
        record[PENDING] or record[HELD] or record[SECTION] > 1 for record in state.actors
    ):
        return state, None
    order = list(range(len(actors)))
    for places in scenario.interchangeable:
        for place, best in zip(places, sorted(places, key=lambda i: state.actors[i]), strict=True):
            order[place] = best
    if order == sorted(order):
        return state, None
    return state._replace(actors=tuple(state.actors[i] for i in order)), tuple(order)
