"""The first-in-first-out queue of single frames that stands in front of the buddy lists: the
kernel's per-CPU list.
"""

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.int64]

_SMALLEST = 1 << 12


class FrameQueue:
    """A ring of page frame numbers that can take back what was popped.

    Positions count from the first frame ever appended: `head` is the next to be popped, `tail` the
    next to be written.
    """

    def __init__(self) -> None:
        self._ring = np.empty(_SMALLEST, np.int64)
        self._kept = 0  # positions below this one may be overwritten
        self.head = 0
        self.tail = 0
        self._keeping = False

    def __len__(self) -> int:
        return self.tail - self.head

    def append(self, frames: Frames) -> None:
        """Put `frames` at the tail, in their order."""
        if self.tail + len(frames) - self._oldest() > len(self._ring):
            self._resize(self.tail + len(frames) - self._oldest())
        self._write(self.tail, frames)
        self.tail += len(frames)

    def _write(self, start: int, frames: Frames) -> None:
        at = start & (len(self._ring) - 1)
        before_wrap = min(len(frames), len(self._ring) - at)
        self._ring[at : at + before_wrap] = frames[:before_wrap]
        self._ring[: len(frames) - before_wrap] = frames[before_wrap:]

    def pop(self, count: int) -> Frames:
        """The `count` frames at the head, taken out; the queue must hold as many."""
        frames = self.read(self.head, self.head + count)
        self.head += count
        if not len(self) and not self._keeping and len(self._ring) > _SMALLEST:
            self._ring = np.empty(_SMALLEST, np.int64)
        return frames

    def read(self, start: int, end: int) -> Frames:
        """A copy of the frames at the positions `start` to `end`, which are queued or kept."""
        at = start & (len(self._ring) - 1)
        before_wrap = min(end - start, len(self._ring) - at)
        return np.concatenate(
            (self._ring[at : at + before_wrap], self._ring[: end - start - before_wrap])
        )

    def keep(self) -> None:
        """From now on keep what is popped, so that `rewind` can bring it back."""
        if not self._keeping:
            self._keeping, self._kept = True, self.head

    def forget(self) -> None:
        """Stop keeping what was popped."""
        self._keeping = False

    def rewind(self, head: int, tail: int) -> None:
        """Go back to the positions of an earlier moment since `keep`."""
        self.head, self.tail = head, tail

    def _oldest(self) -> int:
        return self._kept if self._keeping else self.head

    def _resize(self, need: int) -> None:
        oldest = self._oldest()
        frames = self.read(oldest, self.tail)
        self._ring = np.empty(max(_SMALLEST, 1 << (need - 1).bit_length()), np.int64)
        self._write(oldest, frames)
