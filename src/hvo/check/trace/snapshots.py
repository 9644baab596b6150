"""What every entry of the vmemmap says at each step of a run, and what a TLB may still hold beside
it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from hvo.check.model.geometry import PMD_FRAME
from hvo.check.model.state import LEVEL1, Meaning, Model, State
from hvo.check.trace.describe import entry_text
from hvo.check.trace.rerun import Rerun


class Line(NamedTuple):
    """One entry: what the tables say, and what they do not say any more, but TLBs may keep."""

    entry: str
    kept: tuple[str, ...]


def names(model: Model) -> list[str]:
    """The entries that are shown, in order: each upper one, followed by the vmemmap pages under
    it.
    """
    g = model.geometry
    return [
        name
        for slot in range(g.leaves)
        for name in (f"PMD {slot}", *(f"page {slot * g.leaf + i}" for i in range(g.leaf)))
    ]


def shots(run: Rerun) -> Iterator[tuple[Line, ...]]:
    """All entries before the first step, then after each."""
    for state in (run.start, *(done.after for done in run.steps)):
        yield tuple(_lines(run.forest.model, state))


def _lines(model: Model, state: State) -> Iterator[Line]:
    leaf = model.geometry.leaf
    pmds = model.rows[state.contents[PMD_FRAME]]
    for slot in range(model.geometry.leaves):
        yield Line(entry_text(model, pmds[slot], 1), _kept(model, state, LEVEL1 + slot, 1))
        above = model.meaning(pmds[slot], 1)
        for index in range(leaf):
            yield Line(
                _page_text(model, state, above, index), _kept(model, state, slot * leaf + index, 0)
            )


def _page_text(model: Model, state: State, above: Meaning, index: int) -> str:
    """What entry number `index` under the upper entry `above` says."""
    if above.kind == "none":
        return "nothing above"
    if above.kind == "leaf":
        return f"in the block, frame {above.frame + index}"
    return entry_text(model, model.rows[state.contents[above.frame]][index], 0)


def _kept(model: Model, state: State, key: int, level: int) -> tuple[str, ...]:
    return tuple(
        sorted({entry_text(model, held[1], level) for held in state.stale if held[0] == key})
    )
