"""Where each physical address of a core lies in its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Words


class Located(NamedTuple):
    """`offsets` (uint64) into the file and `present` (bool), both in the shape of the addresses
    asked for.
    """

    offsets: Words
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class Segments:
    """Physical ranges `starts` to `ends` (exclusive) found at file `offsets`: uint64 arrays,
    ascending, disjoint.
    """

    starts: Words
    ends: Words
    offsets: Words

    @classmethod
    def of(cls, starts: Words, lengths: Words, offsets: Words) -> Segments:
        """Ranges in any order, cut so that none overlaps and each ends with a whole word.

        `/proc/vmcore` has the kernel's text twice, with equal bytes: as itself and as a part of
        memory.
        """
        order = np.argsort(starts, kind="stable")
        first, last = starts[order], (starts[order] + lengths[order]) & ~np.uint64(7)
        reached = np.concatenate(([np.uint64(0)], np.maximum.accumulate(last)))[:-1]
        cut = np.maximum(first, reached)
        keep = cut < last
        return cls(cut[keep], last[keep], (offsets[order] + (cut - first))[keep])

    def locate(self, addresses: Words) -> Located:
        """Where `addresses` (any shape) lie; the offset of an address that is not present means
        nothing.
        """
        if not self.starts.size:
            return Located(np.zeros_like(addresses), np.zeros(addresses.shape, np.bool_))
        which = np.maximum(np.searchsorted(self.starts, addresses, side="right") - 1, 0)
        starts = self.starts[which]
        present = (addresses >= starts) & (addresses < self.ends[which])
        return Located(self.offsets[which] + (addresses - starts), present)
