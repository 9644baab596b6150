"""Did pages that ran at once touch words in an order that page by page would not?

Every access of a run is logged: for each page a start and, for all, one length in bytes. Two
accesses of which one is a write must have happened in the order of their pages wherever they meet.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Words

Lanes = NDArray[np.int64]


@dataclass
class Access:
    """What the pages `lanes` (ascending) touched in one step: `length` bytes from `starts` (one a
    page).
    """

    starts: Words
    length: int
    lanes: Lanes
    write: bool
    low: int = field(init=False)
    high: int = field(init=False)
    ascending: bool = field(init=False)

    def __post_init__(self) -> None:
        self.ascending = bool((self.starts[1:] >= self.starts[:-1]).all())
        ends = (
            self.starts[[0, -1]]
            if self.ascending
            else np.array([self.starts.min(), self.starts.max()])
        )
        self.low, self.high = int(ends[0]), int(ends[1]) + self.length

    @property
    def overlaps_itself(self) -> bool:
        """Whether two pages wrote the same words."""
        if not self.write:
            return False
        starts = self.starts if self.ascending else np.sort(self.starts)
        return bool((starts[1:] - starts[:-1] < np.uint64(self.length)).any())


def out_of_order(log: list[Access]) -> bool:
    """Whether any two accesses in `log` (in the order they happened) met in another order than that
    of their pages.
    """
    return any(
        _misordered(earlier, later)
        for i, later in enumerate(log)
        for earlier in log[:i]
        if earlier.write or later.write
    )


def written(points: Words, log: list[Access]) -> NDArray[np.bool_]:
    """Which of `points` some write in `log` covers."""
    out = np.zeros(points.shape, np.bool_)
    for access in log:
        if access.write:
            out |= _owners(points, access)[0] >= 0
    return out


def _misordered(earlier: Access, later: Access) -> bool:
    if earlier.high <= later.low or later.high <= earlier.low:
        return False
    if earlier.lanes is later.lanes and _neighbours_clear(earlier, later):
        return False
    longer = earlier.length > later.length or (earlier.length == later.length and earlier.write)
    extents, points = (earlier, later) if longer else (later, earlier)
    for edge in {0, points.length - 8}:
        owner, order = _owners(points.starts + np.uint64(edge), extents, last=extents is earlier)
        met = owner >= 0
        theirs = extents.lanes[owner[met] if order is None else order[owner[met]]]
        before, after = (
            (theirs, points.lanes[met]) if extents is earlier else (points.lanes[met], theirs)
        )
        if (before > after).any():
            return True
    return False


def _neighbours_clear(one: Access, other: Access) -> bool:
    """For ascending extents of the same pages: no page's extent in one touches another page's in
    the other.
    """
    if not (one.ascending and other.ascending):
        return False
    left = one.starts[:-1] + np.uint64(one.length) <= other.starts[1:]
    right = other.starts[:-1] + np.uint64(other.length) <= one.starts[1:]
    return bool(left.all() and right.all())


def _owners(points: Words, access: Access, *, last: bool = True) -> tuple[Lanes, Lanes | None]:
    """Index (in ascending order of starts) of the extent that each point lies in, -1 for none; and
    that order where it is another one. Of equal extents, which only reads are, the `last` page's or
    the first page's.
    """
    order = None if access.ascending else np.argsort(access.starts, kind="stable")
    starts = access.starts if order is None else access.starts[order]
    at = np.searchsorted(starts, points, side="right") - 1
    inside = (at >= 0) & (points - starts[np.maximum(at, 0)] < np.uint64(access.length))
    if not last:
        at = np.searchsorted(starts, starts[np.maximum(at, 0)], side="left")
    return np.where(inside, at, -1).astype(np.int64), order


def first_of_each(points: Words) -> NDArray[np.bool_]:
    """For each value the first place where it stands."""
    steps = points[1:] != points[:-1]
    if (points[1:] >= points[:-1]).all():
        return np.concatenate([np.ones(min(1, points.size), np.bool_), steps])
    out = np.zeros(points.shape, np.bool_)
    out[np.unique(points, return_index=True)[1]] = True
    return out
