"""Actors as trees: what an actor does next depends on nothing but the results it has received, so
each history is a node.

A node holds its step, made ready once; its children are found by the result that comes back. A
generator is made anew, and fed with the history, only where two results part.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from hvo.check.effects.registry import Operation, Outcome, operation
from hvo.check.model.footprint import Footprint
from hvo.check.model.state import NODE, Model, Record
from hvo.steps.base import Steps, primitives
from hvo.steps.struct_pages import LoadPage, StorePage, TestPage

Maker: TypeAlias = Callable[[], Steps[object]]


class Node:
    """One place in an actor's tree: `operation` is what it does there, None at its end, where
    `returned` is what it gave.

    `passable`: it is a test, and the machine may do loads behind it first; `ahead`: the load that
    it may do before the one here. `parent` is the node before. `future` is what was seen to be
    touched here and behind, `relied_on` the steps of others that were taken for local because of
    it, and `relying` the states (numbers) in which they were.
    """

    __slots__ = (
        "ahead",
        "children",
        "future",
        "history",
        "maker",
        "number",
        "operation",
        "parent",
        "passable",
        "relied_on",
        "relying",
        "returned",
        "walk",
    )

    def __init__(
        self,
        number: int,
        maker: Maker,
        history: tuple[Any, ...],
        walk: Steps[object] | None,
        parent: "Node | None",
    ) -> None:
        self.number, self.maker, self.history, self.walk = number, maker, history, walk
        self.parent, self.future, self.relied_on = parent, Footprint(), Footprint()
        self.relying: set[int] = set()
        self.children: dict[Outcome, Node] = {}
        self.operation: Operation | None = None
        self.passable = False
        self.ahead: Operation | None = None
        self.returned: Any = None


class Forest:
    """The trees of all actors of a scenario; nodes are numbered as they are found.

    `state` is the number of the one that is expanded, and `again` those in which a step was taken
    for local that clashes with what another actor was seen to do later.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: list[Node] = []
        self.state = 0
        self.again: set[int] = set()

    def learn(self, node: Node, touched: Footprint) -> None:
        """The actor at `node` touched that: all nodes on the way there can come to it."""
        at: Node | None = node
        while at is not None and at.future.include(touched):
            if touched.clashes(at.relied_on):
                self.again |= at.relying
                at.relied_on.clear()
                at.relying.clear()
            at = at.parent

    def is_local(self, actor: int, actors: list[Record], touched: Footprint) -> bool:
        """Whether nobody else can still do anything that `touched` is not independent of."""
        others = [self.nodes[record[NODE]] for i, record in enumerate(actors) if i != actor]
        if any(touched.clashes(node.future) for node in others):
            return False
        for node in others:
            node.relied_on.include(touched)
            node.relying.add(self.state)
        return True

    def root(self, maker: Maker) -> int:
        """The number of the first node of the actor that `maker` makes."""
        return self._grow(maker, (), single(maker()), None, None).number

    def child(self, node: Node, outcome: Outcome) -> Node:
        """Where the actor is after its step at `node` gave `outcome`."""
        found = node.children.get(outcome)
        if found is None:
            assert node.operation is not None
            sent = node.operation.sent(outcome)
            found = node.children[outcome] = self._grow(
                node.maker, (*node.history, sent), self._walk_at(node), sent, node
            )
        return found

    def _walk_at(self, node: Node) -> Steps[object]:
        """A generator that waits for the result of the step at `node`; the one that came here first
        may still be there.
        """
        walk, node.walk = node.walk, None
        if walk is None:
            walk = single(node.maker())
            next(walk)
            for result in node.history:
                walk.send(result)
        return walk

    def _grow(
        self,
        maker: Maker,
        history: tuple[Any, ...],
        walk: Steps[object],
        sent: Any,
        parent: Node | None,
    ) -> Node:
        node = Node(len(self.nodes), maker, history, walk, parent)
        self.nodes.append(node)
        try:
            node.operation = operation(self.model, walk.send(sent))
        except StopIteration as stop:
            node.walk, node.returned = None, stop.value
        else:
            if self.model.hardware.reorders:
                node.passable = isinstance(node.operation.step, TestPage)
                node.ahead = self._load_ahead(node)
        return node

    def _load_ahead(self, node: Node) -> Operation | None:
        """The load behind the load at `node`, when its address does not depend on what that one
        returns: whatever it is (a few values are tried), the next load is the same one.
        """
        assert node.operation is not None
        if not isinstance(node.operation.step, LoadPage):
            return None
        behind = [self._behind(node, node.operation.sent(value)) for value in _TRIED]
        found = [one for one in behind if one is not None]
        if not found or any(not is_same_load(found[0], other) for other in found):
            return None
        return found[0] if len(found[0].arguments) > 1 else None

    def _behind(self, node: Node, sent: Any) -> Operation | None:
        """The load behind the step at `node`, when that gave `sent`; None where there is none."""
        try:
            walk = single(node.maker())
            next(walk)
            for result in node.history:
                walk.send(result)
            step = walk.send(sent)
            return operation(self.model, step) if isinstance(step, LoadPage | TestPage) else None
        except Exception:  # it ends there, or the file's own code does not like the value
            return None


_TRIED = (0, 1, 7, (1 << 40) + 0x101)
"""Values of a load, to see whether the next one depends on them."""


def is_same_load(one: Operation, other: Operation | None) -> bool:
    """Whether both read the same field of the same struct page, and hand it on alike."""
    return (
        other is not None
        and type(one.step) is type(other.step)
        and one.arguments[:3] == other.arguments[:3]
    )


def single(actor: Steps[object]) -> Steps[object]:
    """`actor` taken apart, with a store to several struct pages as one after the other."""
    walk = primitives(actor)
    result: Any = None
    while True:
        try:
            step = walk.send(result)
        except StopIteration as stop:
            return stop.value
        if isinstance(step, StorePage) and np.ndim(step.pfn):
            for pfn in np.atleast_1d(step.pfn).tolist():
                yield StorePage(pfn, step.field, step.value)
            result = None
        else:
            result = yield step
