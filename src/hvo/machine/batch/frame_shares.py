"""Pfns shared out to pages before they run, so that each gets what it would get page by page."""

import numpy as np

from hvo.memory.interface import Pfns


class FrameShares:
    """Page k gets `counts[k]` of `frames`, page after page."""

    def __init__(self, counts: Pfns, frames: Pfns) -> None:
        self._ends = np.cumsum(counts)
        self._next = self._ends - counts
        self._frames = frames

    def take(self, pages: Pfns, count: int) -> Pfns:
        """The next `count` frames of each of `pages`, shape (pages, count); a page that asks for
        more than its share gets -1.
        """
        at = self._next[pages][:, None] + np.arange(count)
        short = at >= self._ends[pages][:, None]
        self._next[pages] += count
        return np.where(short, -1, self._frames[np.where(short, 0, at)])

    @property
    def used_up(self) -> bool:
        """Whether every page took exactly its share."""
        return bool((self._next == self._ends).all())
