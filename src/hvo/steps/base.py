"""What an actor may do in one step, and what it gets back.

A protocol is a generator that does steps and goes on from their results: `entry = yield from
ReadEntry(pmd, 1)`, of which a type checker knows that it is an `Entry`. Two kinds exist. A
*primitive* is one thing that another CPU can see happen: one memory access, one entry written, one
lock, one frame allocated or freed, one invalidation requested or completed. A *composite* stands
for a fixed run of primitives, which its `parts` does in the kernel's order; an executor that can
do the same work at once (arrays) may, and one that interleaves (the checker) takes it apart.

The fields hold one value for one page. An executor that runs a block for many pages at once gives
the generator arrays whose *first axis is the page*, so code between steps is written with numpy's
broadcasting (`strided`), and branches only on results that say so: `None`, `bool` and `EntryKind`
are always one value for every page of a run.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, cast

import numpy as np

from hvo.memory.interface import Pfns, Words
from hvo.mmu.shape import Flags

R_co = TypeVar("R_co", covariant=True)
Value: TypeAlias = int | np.int64 | np.uint64 | Pfns | Words
"""A number, or an array with one element (or one row) for each page of a run."""


@dataclass(frozen=True, slots=True, eq=False)
class Step(Generic[R_co]):
    """Base of all steps; `Step[Entry]` is one that gives an `Entry`."""

    def __iter__(self) -> Generator["Step[object]", object, R_co]:
        """Yield the step to whoever runs the actor -> what it is sent, the step's result."""
        return cast("R_co", (yield self))


Steps: TypeAlias = Generator[Step[object], object, R_co]
"""A running actor: yields steps, is sent their results, returns its own: `Steps[int]` a number."""
Block: TypeAlias = Callable[[Pfns], Steps[int]]
"""What `ForEach` runs for one item (or, with arrays, for many)."""


class Divergence(Exception):
    """Pages of a run get different answers where the code between steps may branch; `keys` tells
    them apart.
    """

    def __init__(self, keys: Pfns) -> None:
        super().__init__("pages of one run diverge")
        self.keys = keys


def one_answer(answers: Flags) -> bool:
    """The answer that all pages of a run give, to branch on; where they differ the run parts
    (Divergence).
    """
    if answers.all():
        return True
    if answers.any():
        raise Divergence(answers.astype(np.int64))
    return False


def strided(start: Value, count: int, stride: int) -> Words:
    """`start`, `start + stride`, ...: `count` values on a new last axis, for one start or one a
    page.
    """
    return np.asarray(start, np.uint64)[..., None] + np.arange(
        0, count * stride, stride, dtype=np.uint64
    )


@dataclass(frozen=True, slots=True, eq=False)
class Assert(Step[None]):
    """The actor knows that something holds: where `holds` is false the property `violates` is
    violated -> None.
    """

    holds: bool
    says: str
    violates: str = "assertion"


@dataclass(frozen=True, slots=True, eq=False)
class Composite(Step[R_co]):
    """A step that an executor may take apart."""

    def parts(self) -> Steps[R_co]:
        """The primitives this step stands for; what the generator returns is the step's result."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class ForEach(Composite[Pfns]):
    """Run `block` for each of `items`, in order -> an int64 array of what it returned, up to and
    with the first that `stops`.

    `items` is an array whose first axis is the item. An executor may run the block for many items
    at once where nobody can tell.
    """

    block: Block
    items: Pfns
    stops: Callable[[int], bool] | None = None

    def parts(self) -> Steps[Pfns]:
        """Item by item."""
        results: list[int] = []
        for item in self.items:
            results.append(int((yield from self.block(item))))
            if self.stops is not None and self.stops(results[-1]):
                break
        return np.array(results, np.int64)


def primitives(actor: Steps[R_co]) -> Steps[R_co]:
    """`actor` with every composite taken apart: yields primitives only, returns what `actor`
    returns.
    """
    result: object = None
    while True:
        try:
            step = actor.send(result)
        except StopIteration as stop:
            return stop.value
        result = (
            (yield from primitives(step.parts())) if isinstance(step, Composite) else (yield step)
        )
