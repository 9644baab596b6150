"""Actors as trees: what an actor does next depends on nothing but the results it has received, so
each history is a node.

A node holds its step, made ready once; its children are found by the result that comes back. A
generator is made anew, and fed with the history, only where two results part.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from hvo.check.effects.registry import Operation, Outcome, operation
from hvo.check.model.state import Model
from hvo.steps.base import Steps, primitives
from hvo.steps.struct_pages import StorePage, TestPage

Maker: TypeAlias = Callable[[], Steps]


class Node:
    """One place in an actor's tree: `operation` is what it does there, None at its end, where
    `returned` is what it gave.

    `passable`: it is a test, and the machine may do loads behind it first.
    """

    __slots__ = (
        "children",
        "history",
        "maker",
        "number",
        "operation",
        "passable",
        "returned",
        "walk",
    )

    def __init__(
        self, number: int, maker: Maker, history: tuple[Any, ...], walk: Steps | None
    ) -> None:
        self.number, self.maker, self.history, self.walk = number, maker, history, walk
        self.children: dict[Outcome, Node] = {}
        self.operation: Operation | None = None
        self.passable = False
        self.returned: Any = None


class Forest:
    """The trees of all actors of a scenario; nodes are numbered as they are found."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: list[Node] = []

    def root(self, maker: Maker) -> int:
        """The number of the first node of the actor that `maker` makes."""
        return self._grow(maker, (), single(maker()), None).number

    def child(self, node: Node, outcome: Outcome) -> Node:
        """Where the actor is after its step at `node` gave `outcome`."""
        found = node.children.get(outcome)
        if found is None:
            assert node.operation is not None
            sent = node.operation.sent(outcome)
            found = node.children[outcome] = self._grow(
                node.maker, (*node.history, sent), self._walk_at(node), sent
            )
        return found

    def _walk_at(self, node: Node) -> Steps:
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

    def _grow(self, maker: Maker, history: tuple[Any, ...], walk: Steps, sent: Any) -> Node:
        node = Node(len(self.nodes), maker, history, walk)
        self.nodes.append(node)
        try:
            node.operation = operation(self.model, walk.send(sent))
        except StopIteration as stop:
            node.walk, node.returned = None, stop.value
        else:
            node.passable = self.model.hardware.reorders and isinstance(
                node.operation.step, TestPage
            )
        return node


def single(actor: Steps) -> Steps:
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
