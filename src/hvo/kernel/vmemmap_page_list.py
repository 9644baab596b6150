"""An actor's list of frames: a stack, kept as arrays since it may hold millions."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.int64]


class VmemmapPageList:
    """A stack of frame numbers."""

    def __init__(self) -> None:
        self._parts: list[Frames] = []

    def __len__(self) -> int:
        return sum(part.size for part in self._parts)

    def push(self, pfns: Frames) -> None:
        """Put `pfns` on top, one after the other."""
        if pfns.size:
            self._parts.append(pfns)

    def take_parts(self) -> Iterator[Frames]:
        """Take everything, in pieces: the top first, in each piece and from piece to piece."""
        while self._parts:
            yield self._parts.pop()[::-1]

    def take(self, count: int | None = None) -> Frames:
        """Take the `count` frames on top (all: None), the top first."""
        whole = np.concatenate([*self._parts, np.zeros(0, np.int64)])
        keep = 0 if count is None else whole.size - count
        self._parts = [whole[:keep]] if keep else []
        return whole[keep:][::-1]
