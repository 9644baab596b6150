"""Finding the section of many frames at once, by a table where that is small: a search for each of
millions of frames takes longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.sections import Pfns, Sections

_LARGEST = 1 << 22
"""Elements of a table: enough for 512 TiB in sections of 128 MiB."""


@dataclass(frozen=True)
class SectionTable:
    """Which element of `sections` a frame lies in."""

    sections: Sections

    @cached_property
    def _shift(self) -> int:
        return self.sections.pages.bit_length() - 1

    @cached_property
    def _table(self) -> NDArray[np.int32] | None:
        numbers = self.sections.numbers
        last = int(numbers[-1])
        if last >= _LARGEST:
            return None
        table = np.full(last + 2, -1, np.int32)  # the last element is for all numbers behind
        table[numbers] = np.arange(len(numbers), dtype=np.int32)
        return table

    def of(self, pfns: Pfns) -> NDArray[np.intp]:
        """Index of the section of each of `pfns` (any shape), -1 where there is none."""
        number = pfns >> self._shift
        table = self._table
        if table is not None:
            return table[np.clip(number, -1, len(table) - 1)].astype(np.intp)
        at = np.minimum(
            np.searchsorted(self.sections.numbers, number), len(self.sections.numbers) - 1
        )
        return np.where(self.sections.numbers[at] == number, at, -1)
