"""The map of an audited vmemmap: a cell for each part of it, marked by what is worst or most in
it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.audit.cells import KINDS
from hvo.audit.result import Cells


class Mark(NamedTuple):
    """How a kind of cell is drawn: a character, its colour on a terminal, and the class of the
    style sheet in a page.
    """

    name: str
    character: str
    style: str
    css: str


_OUTSIDE, _OWN, _SHARED, _FINDING, _HOLE = range(len(KINDS))
MARKS = (
    Mark("no huge page", "·", "dim", "outside"),
    Mark("huge, not optimised", "█", "blue", "own"),
    Mark("mixed", "▓", "cyan", "mixed"),
    Mark("optimised", "░", "green", "optimised"),
    Mark("finding", "✗", "bold red", "finding"),
    Mark("not mapped", " ", "default", "unmapped"),
)
"""Kinds of cells, by the numbers that `kinds` gives."""
ROW = 64
"""Cells in a row."""


def kinds(cells: Cells) -> NDArray[np.int64]:
    """The number in `MARKS` of each part: a finding however small, else what HugeTLB pages make of
    it, else nothing.
    """
    shares = cells.shares
    huge = shares[:, _OWN] + shares[:, _SHARED]
    plain = np.where(shares[:, _SHARED] > 0.5 * huge, 3, np.where(shares[:, _SHARED] > 0, 2, 1))
    kind = np.where(huge > 0, plain, np.where(shares[:, _HOLE] > 0.5, 5, 0))
    return np.where(shares[:, _FINDING] > 0, 4, kind)


class Row(NamedTuple):
    """Consecutive cells: frame number of the first, and the `kinds` of all."""

    start: int
    kinds: Sequence[int]


def rows(cells: Cells, most: int) -> Iterator[Row]:
    """The map in rows of at most 64 cells; a row ends where memory has a hole; neighbours are
    joined until about `most` rows are left.
    """
    found = kinds(cells)
    joined = max(1, -(-len(found) // (ROW * most)))
    for first, last in _stretches(cells):
        for at in range(first, last, ROW * joined):
            parts = found[at : min(at + ROW * joined, last)].tolist()
            yield Row(
                int(cells.start[at]),
                [_worst(parts[i : i + joined]) for i in range(0, len(parts), joined)],
            )


def _worst(kinds_joined: list[int]) -> int:
    """What several cells are as one: a finding, or what most are; optimised and not is mixed."""
    found = set(kinds_joined)
    if 4 in found:
        return 4
    if 2 in found or {1, 3} <= found:
        return 2
    return max(found & {1, 3}, default=max(found, key=kinds_joined.count))


def _stretches(cells: Cells) -> list[tuple[int, int]]:
    """First and one behind the last of parts with no hole between."""
    cuts = (np.flatnonzero(np.diff(cells.start) != cells.frames) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(cells.start)], strict=True))


def legend(cells: Cells) -> list[Mark]:
    """The marks that occur."""
    return [MARKS[number] for number in np.unique(kinds(cells)).tolist()]
