"""Loads that are done before an earlier one, on machines that reorder them.

A CPU guesses what a test will say, goes on, and does the loads that follow; when the test is done
at last and the guess was right, what was loaded early stands. A barrier, a lock, or any other step
that is no load ends that. Past a load of a value one load may be done early (a bound of the model),
if its address does not depend on the value: such a dependency orders loads.
"""

from hvo.check.effects.registry import Again, Result, Wait
from hvo.check.model.state import PHASE, SEEN
from hvo.check.model.world import Fault, Waits, World, change
from hvo.check.search.tree import Forest, Node, is_same_load
from hvo.steps.struct_pages import LoadPage, TestPage


def options(forest: Forest, node: Node, phase: int) -> list[tuple[int, Node]]:
    """The loads that can be done next, before the test at `node`: what the test must say then, and
    where the load is.

    `phase` is 0 where none was done yet, else the guess and, above, the node behind those that
    were.
    """
    ways = (
        [(phase & 1, forest.nodes[phase >> 1])]
        if phase
        else [(guess, forest.child(node, guess)) for guess in (0, 1)]
    )
    return [
        way
        for way in ways
        if (operation := way[1].operation) is not None
        and isinstance(operation.step, TestPage | LoadPage)
    ]


def load_early(forest: Forest, world: World, actor: int, guess: int, ahead: Node) -> bool:
    """Do the load at `ahead` -> whether it could: one that would fault is not done early."""
    assert ahead.operation is not None
    before = len(world.found)
    try:
        result: Result = ahead.operation.run(world, actor, 0)
    except (Fault, Waits):
        del world.found[before:]
        return False
    if len(world.found) > before:
        del world.found[before:]
        return False
    assert not isinstance(result, Again | Wait)
    world.early = ahead.operation.step
    change(world, actor, PHASE, forest.child(ahead, result).number << 1 | guess)
    return True


def load_ahead(forest: Forest, world: World, actor: int, node: Node) -> bool:
    """Do the load behind the one at `node` first -> whether it could."""
    assert node.ahead is not None
    before = len(world.found)
    try:
        result: Result = node.ahead.run(world, actor, 0)
    except (Fault, Waits):
        result = None
    if len(world.found) > before or not isinstance(result, int):
        del world.found[before:]
        return False
    world.early = node.ahead.step
    change(world, actor, SEEN, (result,))
    return True


def after_load(forest: Forest, node: Node, child: Node, seen: tuple[int, ...]) -> Node:
    """Where an actor is behind the load at `node`, when the load at `child` is `seen` already."""
    if seen and node.ahead is not None and is_same_load(node.ahead, child.operation):
        return forest.child(child, seen[0])
    return child


def after_test(forest: Forest, world: World, actor: int, said: int) -> Node | None:
    """Where `actor` is once its test has `said` what it says, when loads behind it are done already
    and the guess was right, else None.
    """
    phase = world.actors[actor][PHASE]
    return forest.nodes[phase >> 1] if phase and phase & 1 == said else None
