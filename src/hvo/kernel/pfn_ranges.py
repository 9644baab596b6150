"""A set of page frame numbers kept as disjoint ranges: what memory a zone has."""

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.int64]


class PfnRanges:
    """Disjoint ranges of frames, ascending and never adjacent; few, so that changing them may copy
    them.
    """

    def __init__(self) -> None:
        self.starts: Frames = np.empty(0, np.int64)
        self.ends: Frames = np.empty(0, np.int64)

    @property
    def frames(self) -> int:
        """How many frames the ranges have together."""
        return int((self.ends - self.starts).sum())

    def contain(self, pfns: Frames, length: int = 1) -> NDArray[np.bool_]:
        """Which of the spans of `length` frames that begin at `pfns` lie in a range."""
        if not len(self.starts):
            return np.zeros(len(pfns), np.bool_)
        if len(self.starts) == 1:
            return (pfns >= self.starts[0]) & (pfns <= self.ends[0] - length)
        at = np.searchsorted(self.starts, pfns, side="right") - 1
        return (at >= 0) & (pfns <= self.ends[at] - length)

    def contain_range(self, start: int, end: int) -> bool:
        """Whether all frames `start` to `end` (at least one) lie in one range."""
        return end > start and bool(self.contain(np.array([start], np.int64), end - start)[0])

    def overlap_range(self, start: int, end: int) -> bool:
        """Whether any of the frames `start` to `end` lies in a range."""
        return bool(((self.starts < end) & (self.ends > start)).any())

    def clip(self, start: int, end: int) -> list[tuple[int, int]]:
        """What of the frames `start` to `end` is there, as ranges, ascending."""
        hit = (self.starts < end) & (self.ends > start)
        pairs = zip(self.starts[hit].tolist(), self.ends[hit].tolist(), strict=True)
        return [(max(first, start), min(last, end)) for first, last in pairs]

    def add(self, start: int, end: int) -> None:
        """Put in frames none of which is there; ranges that touch become one."""
        touching = (self.starts == end) | (self.ends == start)
        joined_start = min([start, *self.starts[touching].tolist()])
        joined_end = max([end, *self.ends[touching].tolist()])
        self._set(self.starts[~touching], self.ends[~touching], [(joined_start, joined_end)])

    def remove(self, start: int, end: int) -> None:
        """Take out frames all of which lie in one range."""
        hit = (self.starts <= start) & (self.ends >= end)
        pieces = [(int(self.starts[hit][0]), start), (end, int(self.ends[hit][0]))]
        self._set(
            self.starts[~hit], self.ends[~hit], [piece for piece in pieces if piece[0] < piece[1]]
        )

    def _set(self, starts: Frames, ends: Frames, more: list[tuple[int, int]]) -> None:
        starts = np.concatenate((starts, np.array([start for start, _ in more], np.int64)))
        ends = np.concatenate((ends, np.array([end for _, end in more], np.int64)))
        by_address = np.argsort(starts)
        self.starts, self.ends = starts[by_address], ends[by_address]
