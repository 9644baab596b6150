"""From frame numbers to slots of arrays, without a dictionary: a two-level table whose rows exist
only where something was stored.
"""

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

_ROW_SHIFT = 15
_ROW = 1 << _ROW_SHIFT
_GROWTH = 3  # rows that were never used cost address space, not memory
_FEW = 1 << 12


class SlotTable:
    """A sparse map from frame number to a 32-bit code; what was never set reads as 0."""

    def __init__(self) -> None:
        self._directory = np.zeros(64, np.int64)
        self._rows = np.zeros(_ROW, np.int32)  # row 0 stays empty: every absent row points to it
        self._used = 1

    def get(self, pfns: NDArray[np.int64]) -> NDArray[np.int32]:
        """The codes of `pfns` (any shape)."""
        high = pfns >> _ROW_SHIFT
        if high.size and int(high.max()) >= self._directory.size:
            known = high < self._directory.size
            return np.where(known, self.get(np.where(known, pfns, 0)), 0).astype(np.int32)
        return self._rows.take(self._places(high, pfns))

    def set(self, pfns: NDArray[np.int64], codes: NDArray[np.int32] | int) -> None:
        """Store `codes` (broadcast) for `pfns`; a later duplicate wins."""
        if pfns.size == 0:
            return
        high = pfns >> _ROW_SHIFT
        self._make_rows(high)
        self._rows[self._places(high, pfns)] = codes

    def items(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """All frame numbers that have a code other than 0, ascending, and the codes."""
        high = np.flatnonzero(self._directory)
        rows = self._rows.reshape(-1, _ROW)[self._directory[high]]
        row, low = np.nonzero(rows)
        return (high[row].astype(np.int64) << _ROW_SHIFT) + low, rows[row, low]

    def _places(self, high: NDArray[np.int64], pfns: NDArray[np.int64]) -> NDArray[np.int64]:
        places = self._directory.take(high)
        places <<= _ROW_SHIFT
        places += pfns & (_ROW - 1)
        return places

    def _make_rows(self, high: NDArray[np.int64]) -> None:
        top = int(high.max())
        if top >= self._directory.size:
            grown = np.zeros(max(top + 1, 2 * self._directory.size), np.int64)
            grown[: self._directory.size] = self._directory
            self._directory = grown
        absent = self._directory.take(high) == 0
        if absent.any():
            missing = np.unique(high[absent])
            self._directory[missing] = np.arange(self._used, self._used + missing.size)
            self._used += missing.size
            self._make_room(self._used * _ROW)

    def _make_room(self, need: int) -> None:
        if need > self._rows.size:
            grown = np.zeros(_GROWTH * need, np.int32)
            grown[: self._rows.size] = self._rows
            self._rows = grown


class Slab(Generic[Scalar]):
    """Rows of one dtype that are handed out by index and taken back.

    It grows by multiples; past a few rows, at once to `room`: what is not used yet costs address
    space only, and nothing is copied again.
    """

    def __init__(self, width: int, dtype: type[Scalar], room: int = 0) -> None:
        self._room = room
        self.rows: NDArray[Scalar] = np.zeros((0, width), dtype)
        self._used = 0
        self._spare: list[NDArray[np.int32]] = []

    def take(self, count: int) -> NDArray[np.int32]:
        """Indices of `count` rows; their contents are whatever was there before."""
        got: list[NDArray[np.int32]] = []
        while count and self._spare:
            last = self._spare.pop()
            got.append(last[:count])
            if last.size > count:
                self._spare.append(last[count:])
            count -= got[-1].size
        if count:
            self._grow(self._used + count)
            got.append(np.arange(self._used, self._used + count, dtype=np.int32))
            self._used += count
        return np.concatenate(got) if got else np.zeros(0, np.int32)

    def give_back(self, indices: NDArray[np.int32]) -> None:
        """Make the rows `indices` available again."""
        if indices.size:
            self._spare.append(indices)

    def _grow(self, need: int) -> None:
        if need > len(self.rows):
            size = max(need, _GROWTH * len(self.rows), self._room if need > _FEW else 0)
            grown: NDArray[Scalar] = np.zeros((size, self.rows.shape[1]), self.rows.dtype)
            grown[: self._used] = self.rows[: self._used]
            self.rows = grown
