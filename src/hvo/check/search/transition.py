"""One transition: an actor goes on, alone, up to and with the first step that others can tell from
its surroundings.
"""

from typing import NamedTuple

from hvo.check.effects.registry import Again, Wait
from hvo.check.model.state import HELD, MASKED, NODE, OPEN, PHASE, STOPPED, State
from hvo.check.model.world import Fault, Waits, World, change
from hvo.check.search.speculation import after_test, load_early, options
from hvo.check.search.tree import Forest, Node

MOST_STEPS = 1000
"""An actor that is not done after so many tries something for ever: the longest here takes a third
of that.
"""


class Move(NamedTuple):
    """What a transition did: the state after it (None: it ended in a fault), how many steps, what
    was violated in which, the choices.
    """

    state: State | None
    steps: int
    found: tuple[tuple[str, str, int], ...]
    choices: tuple[int, ...]


def moves(forest: Forest, state: State, actor: int, *, reduce: bool) -> list[Move]:
    """Every way in which `actor` can go on from `state`; none when it is done or must wait.

    A move is one step; with `reduce`, steps that are local go along with the one behind them, up to
    the first that has several outcomes, behind which runs may meet again.
    """
    if forest.nodes[state.actors[actor][NODE]].operation is None or is_held(forest, state, actor):
        return []
    found: list[Move] = []
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        world = World(forest.model, state, waiting.pop())
        move = _move(forest, world, actor, reduce)
        if move is not None:
            found.append(move)
        for at in range(len(world.choices), len(world.taken)):
            before = tuple(choice for choice, _ in world.taken[:at])
            waiting += [(*before, other) for other in range(1, world.taken[at][1])]
    return found


def is_held(forest: Forest, state: State, actor: int) -> bool:
    """Whether `actor` stands still: another one has stopped its CPU, an interrupt runs on it, or it
    is one that is masked.
    """
    actors, model = state.actors, forest.model
    if actor not in model.interrupts:
        begun = actor == 0 and any(
            _is_under_way(forest, actors[i][NODE], model.roots[i]) for i in model.interrupts
        )
        return begun or any(other[HELD] & STOPPED for i, other in enumerate(actors) if i != actor)
    if actors[actor][NODE] == model.roots[actor] and actors[0][HELD] & MASKED:
        return True
    return any(
        other[HELD] & STOPPED and (i or not other[HELD] & OPEN) for i, other in enumerate(actors)
    )


def _is_under_way(forest: Forest, node: int, root: int) -> bool:
    return node != root and forest.nodes[node].operation is not None


def _move(forest: Forest, world: World, actor: int, reduce: bool) -> Move | None:
    while True:
        world.done += 1
        before = len(world.taken)
        node = forest.nodes[world.actors[actor][NODE]]
        try:
            went = step(forest, world, actor)
        except Fault:
            if reduce:
                forest.learn(node, world.touched)
            return _made(world, None)
        if reduce:
            forest.learn(node, world.touched)
        if not went:
            # What went before counts nevertheless: somebody else may have to see it first.
            world.done -= 1
            del world.taken[before:]
            return _made(world, world.freeze()) if world.done else None
        if (
            not reduce
            or world.visible
            or len(world.taken) > before
            or forest.nodes[world.actors[actor][NODE]].operation is None
            or not forest.is_local(actor, world.actors, world.touched)
        ):
            return _made(world, world.freeze())


def _made(world: World, state: State | None) -> Move:
    choices = tuple([choice for choice, _ in world.taken])
    return Move(state, world.done, tuple(world.found), choices)


def step(forest: Forest, world: World, actor: int) -> bool:
    """One step of `actor`, or a part of one -> whether it could; raises Fault where it ends.

    On machines that reorder loads it may be one of the loads behind a test instead
    (`hvo.check.search.speculation`): `world.early` then says which.
    """
    world.touched.clear()
    world.actor, world.early, world.visible = actor, None, False
    node = forest.nodes[world.actors[actor][NODE]]
    assert node.operation is not None
    world.urgent = actor in forest.model.interrupts
    if node.passable:
        ways = options(forest, node, world.actors[actor][PHASE])
        chosen = world.choose(1 + len(ways))
        if chosen:
            return load_early(forest, world, actor, *ways[chosen - 1])
        return _go(forest, world, actor, node, 0)
    return _go(forest, world, actor, node, world.actors[actor][PHASE])


def _go(forest: Forest, world: World, actor: int, node: Node, phase: int) -> bool:
    assert node.operation is not None
    if len(node.history) > MOST_STEPS:
        raise world.fault(
            "no-progress", f"an actor is not done after {MOST_STEPS} steps, and tries for ever"
        )
    try:
        result = node.operation.run(world, actor, phase)
    except Waits:
        return False
    if isinstance(result, Wait):
        return False
    if isinstance(result, Again):
        change(world, actor, PHASE, result.phase)
        return True
    ahead = (
        after_test(forest, world, actor, int(result))
        if node.passable and isinstance(result, int)
        else None
    )
    after = world.actors[actor]
    world.actors[actor] = ((ahead or forest.child(node, result)).number, 0, *after[2:])
    return True
