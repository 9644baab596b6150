"""One transition: an actor goes on, alone, up to and with the first step that others can tell from its surroundings."""

from typing import NamedTuple

from hvo.check.footprint import Footprints
from hvo.check.model import State
from hvo.check.operations import Again, Wait
from hvo.check.perform import HELD, NODE, PHASE, STOPPED, change
from hvo.check.tree import Forest
from hvo.check.world import Fault, Waits, World


class Move(NamedTuple):
    """What a transition did: the state after it (None: it ended in a fault), how many steps, what was violated in which, the choices."""

    state: State | None
    steps: int
    found: tuple[tuple[str, str, int], ...]
    choices: tuple[int, ...]


def moves(forest: Forest, state: State, actor: int, footprints: Footprints | None) -> list[Move]:
    """Every way in which `actor` can go on from `state`; none when it is done or must wait.

    Without `footprints` a move is one step; with them, steps that are local go along with the one behind them.
    """
    record = state.actors[actor]
    if forest.nodes[record[NODE]].operation is None or any(other[HELD] & STOPPED for i, other in enumerate(state.actors) if i != actor):
        return []
    found: list[Move] = []
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        world = World(forest.model, state, waiting.pop())
        move = _move(forest, world, actor, footprints)
        if move is not None:
            found.append(move)
        for at in range(len(world.choices), len(world.taken)):
            before = tuple(choice for choice, _ in world.taken[:at])
            waiting += [(*before, other) for other in range(1, world.taken[at][1])]
    return found


def _move(forest: Forest, world: World, actor: int, footprints: Footprints | None) -> Move | None:
    while True:
        world.done += 1
        try:
            went = step(forest, world, actor)
        except Fault:
            if footprints is not None:
                footprints.add(actor, world.touched)
            return Move(None, world.done, tuple(world.found), tuple(choice for choice, _ in world.taken))
        if footprints is not None:
            footprints.add(actor, world.touched)
        if not went:
            return None
        if footprints is None or forest.nodes[world.actors[actor][NODE]].operation is None or not footprints.is_local(actor, world.touched):
            return Move(world.freeze(), world.done, tuple(world.found), tuple(choice for choice, _ in world.taken))


def step(forest: Forest, world: World, actor: int) -> bool:
    """One step of `actor`, or a part of one -> whether it could; raises Fault where it ends."""
    world.touched = []
    record = world.actors[actor]
    node = forest.nodes[record[NODE]]
    assert node.operation is not None
    world.urgent = actor in forest.model.interrupts
    try:
        result = node.operation.run(world, actor, record[PHASE])
    except Waits:
        return False
    if isinstance(result, Wait):
        return False
    if isinstance(result, Again):
        change(world, actor, PHASE, result.phase)
        return True
    after = world.actors[actor]
    world.actors[actor] = (forest.child(node, result).number, 0, *after[2:])
    return True
