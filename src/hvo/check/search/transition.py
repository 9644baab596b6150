"""One transition: an actor goes on, alone, up to and with the first step that others can tell from
its surroundings.
"""

from typing import NamedTuple

from hvo.check.effects.registry import Again, Wait
from hvo.check.model.footprint import BUFFERS
from hvo.check.model.pending import empty, make_visible, ready_stores
from hvo.check.model.state import (
    BUFFER,
    HELD,
    MASKED,
    NODE,
    OPEN,
    PHASE,
    SEEN,
    STOPPED,
    Record,
    State,
)
from hvo.check.model.world import Fault, Waits, World, change
from hvo.check.search.speculation import after_load, after_test, load_ahead, load_early, options
from hvo.check.search.tree import Forest, Node
from hvo.steps.ordering import StoreVisible

MOST_STEPS = 1000
"""An actor that is not done after so many goes round a loop, and waits there until the others are
done: the longest here takes a third of that.
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
    record = state.actors[actor]
    if is_done(forest, record) or is_held(forest, state, actor):
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


def is_done(forest: Forest, record: Record) -> bool:
    """Whether an actor has no step left, and no store on its way."""
    return forest.nodes[record[NODE]].operation is None and not record[BUFFER]


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
            return _made(world, world.freeze(), before) if world.done else None
        if not reduce or is_done(forest, world.actors[actor]) or world.visible:
            return _made(world, world.freeze())
        if not forest.is_local(actor, world.actors, world.touched):
            return _made(world, world.freeze())
        if world.delayable == len(world.taken) - 1 >= before and not world.taken[-1][0]:
            world.taken[-1] = (0, 1)  # nobody can tell when that store is visible
        elif len(world.taken) > before:
            return _made(world, world.freeze())


def _made(world: World, state: State | None, made: int | None = None) -> Move:
    choices = tuple([choice for choice, _ in world.taken[:made]])
    return Move(state, world.done, tuple(world.found), choices)


def step(forest: Forest, world: World, actor: int) -> bool:
    """One step of `actor`, or a part of one -> whether it could; raises Fault where it ends.

    On machines that reorder loads it may be one of the loads behind a test instead
    (`hvo.check.search.speculation`): `world.early` then says which.
    """
    world.touched.clear()
    world.actor, world.early, world.visible = actor, None, False
    world.delayable = -1
    node = forest.nodes[world.actors[actor][NODE]]
    if world.actors[actor][BUFFER] and _becomes_visible(world, actor, done=node.operation is None):
        return True
    assert node.operation is not None
    if actor in forest.model.interrupts:
        empty(world, 0)
    world.urgent = actor in forest.model.interrupts
    if node.passable:
        ways = options(forest, node, world.actors[actor][PHASE])
        chosen = world.choose(1 + len(ways))
        if chosen:
            return load_early(forest, world, actor, *ways[chosen - 1])
        return _go(forest, world, actor, node, 0)
    if node.ahead is not None and not world.actors[actor][SEEN] and world.choose(2):
        return load_ahead(forest, world, actor, node)
    return _go(forest, world, actor, node, world.actors[actor][PHASE])


def _becomes_visible(world: World, actor: int, *, done: bool) -> bool:
    """Whether a store of the actor reaches memory, instead of its step."""
    world.reads(BUFFERS + actor)
    stores = ready_stores(world, actor)
    chosen = world.choose(len(stores) + (not done)) + done
    if chosen:
        make_visible(world, actor, stores[chosen - 1])
        world.early = StoreVisible()
    return chosen > 0


def _go(forest: Forest, world: World, actor: int, node: Node, phase: int) -> bool:
    assert node.operation is not None
    if len(node.history) > MOST_STEPS and not world.patient:
        return False  # whether it goes on when the others are done is looked at in the end
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
    behind = ahead or after_load(forest, node, forest.child(node, result), after[SEEN])
    world.actors[actor] = (behind.number, 0, *after[2:SEEN], (), *after[BUFFER:])
    return True
