"""A set of blocks of one order that costs memory only where it has members.

One bit a block, in words of 64 and groups of 64 words, with a count for each group. The bitmap is
zero-filled memory of the operating system, committed when first written, so that the set of single
frames of a 16 TiB machine (4 G of them) costs nothing until frames are put into it. Counts per
group let a search skip what is empty.
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.int64]
_Value = TypeVar("_Value", np.int32, np.uint64)

_WORD = 6  # log2 of the bits in a word
_GROUP = 12  # log2 of the bits in a group
_WORDS = 1 << (_GROUP - _WORD)  # words in a group
_UNPACKED = 256  # groups unpacked at once: 1 M bits, one byte each
_BATCH = 1 << 16  # elements worked on at once: what is computed of them stays in the cache
_ONE = np.uint64(1)
_ADD = np.int32(1)  # of the counts' own type: `add.at` is 30 times slower when it has to convert


class BlockSet:
    """Set of blocks of `1 << order` frames between the frames `start` and `end`, each named by its
    first frame.

    Arguments and results are int64 arrays of one dimension. The caller keeps two promises, because
    checking them is what the allocator does anyway: what it adds is not a member (nor twice in the
    array), what it discards is one.
    """

    def __init__(self, start: int, end: int, order: int = 0) -> None:
        self.order = order
        self._base = start >> order
        groups = (((end >> order) - self._base) >> _GROUP) + 1
        self._words = np.zeros(groups * _WORDS, np.uint64)
        self._counts = np.zeros(groups, np.int32)
        self._first = groups  # no group below this one has a member
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pfns: Frames) -> None:
        """Put the blocks at `pfns` in; none may be a member."""
        for part in batches(pfns):
            numbers = self._numbers(part)
            # Adding a bit that is clear sets it and carries nothing; `bitwise_or.at` has no fast
            # loop.
            np.add.at(self._words, numbers >> _WORD, _bits(numbers))
            np.add.at(self._counts, numbers >> _GROUP, _ADD)
            self._first = min(self._first, int(numbers.min()) >> _GROUP)
        self._count += len(pfns)

    def discard(self, pfns: Frames) -> None:
        """Take the blocks at `pfns` out; each must be a member."""
        for part in batches(pfns):
            numbers = self._numbers(part)
            np.subtract.at(self._words, numbers >> _WORD, _bits(numbers))
            np.subtract.at(self._counts, numbers >> _GROUP, _ADD)
        self._count -= len(pfns)

    def contains(self, pfns: Frames) -> NDArray[np.bool_]:
        """Which of the blocks that hold the frames `pfns` are members."""
        found = np.zeros(len(pfns), np.bool_)
        if self._count:
            for part, result in zip(batches(pfns), batches(found), strict=True):
                result[:] = self._contains(self._numbers(part))
        return found

    def _contains(self, numbers: Frames) -> NDArray[np.bool_]:
        shifted = self._words[numbers >> _WORD] >> (numbers & 63).view(np.uint64)
        return (shifted & _ONE).astype(np.bool_)

    def overlaps(self, pfns: Frames, order: int) -> NDArray[np.bool_]:
        """Which of the aligned blocks of `order`, at least this set's own, at `pfns` have a member
        in them.
        """
        found = np.zeros(len(pfns), np.bool_)
        if self._count:
            for part, result in zip(batches(pfns), batches(found), strict=True):
                result[:] = self._overlaps(self._numbers(part), order - self.order)
        return found

    def _overlaps(self, firsts: Frames, order: int) -> NDArray[np.bool_]:
        if order >= _GROUP:
            groups = _rows(self._counts, firsts >> _GROUP, order - _GROUP)
            return np.bitwise_or.reduce(groups, axis=1) != 0
        found: NDArray[np.bool_] = self._counts[firsts >> _GROUP] > 0
        near = firsts[found]
        if order < _WORD:
            shifted = self._words[near >> _WORD] >> (near & 63).view(np.uint64)
            found[found] = (shifted & np.uint64((1 << (1 << order)) - 1)) != 0
        else:
            found[found] = (
                np.bitwise_or.reduce(_rows(self._words, near >> _WORD, order - _WORD), axis=1) != 0
            )
        return found

    def lowest(self, count: int) -> Frames:
        """The `count` lowest members, ascending; all of them where there are fewer."""
        count = min(count, self._count)
        if count <= 0:
            return np.empty(0, np.int64)
        found = [self._unpack(groups) for groups in batches(self._nonempty(count), _UNPACKED)]
        return np.concatenate(found)[:count]

    def members(self) -> Frames:
        """All members, ascending."""
        return self.lowest(self._count)

    def _nonempty(self, count: int) -> Frames:
        """The groups with members, ascending, as many as hold `count` of them."""
        if self._first < len(self._counts) and int(self._counts[self._first]) >= count:
            return np.array([self._first], np.int64)
        groups = np.flatnonzero(self._counts[self._first :]) + self._first
        self._first = int(groups[0])
        return groups[: int(np.searchsorted(np.cumsum(self._counts[groups]), count)) + 1]

    def _unpack(self, groups: Frames) -> Frames:
        words = self._words.reshape(-1, _WORDS)[groups].reshape(-1)
        used = np.flatnonzero(words)
        bits = np.flatnonzero(
            np.unpackbits(words[used].astype("<u8").view(np.uint8), bitorder="little")
        )
        of_word = used[bits >> _WORD]
        numbers = (
            (groups[of_word >> (_GROUP - _WORD)] << _GROUP)
            + ((of_word & (_WORDS - 1)) << _WORD)
            + (bits & 63)
        )
        return (numbers + self._base) << self.order

    def _numbers(self, pfns: Frames) -> Frames:
        return (pfns >> self.order) - self._base


_Item = TypeVar("_Item", np.int64, np.bool_)


def batches(array: NDArray[_Item], size: int = _BATCH) -> Iterator[NDArray[_Item]]:
    """Views of `array` of at most `size` elements, one after the other."""
    for start in range(0, len(array), size):
        yield array[start : start + size]


def _bits(numbers: Frames) -> NDArray[np.uint64]:
    return _ONE << (numbers & 63).view(np.uint64)


def _rows(values: NDArray[_Value], firsts: Frames, order: int) -> NDArray[_Value]:
    """`1 << order` consecutive `values` from each of `firsts`, one row each."""
    return values[firsts[:, None] + np.arange(1 << order)]
