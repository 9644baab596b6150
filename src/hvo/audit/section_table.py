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
    def _table(self) -> NDArray[np.intp] | None:
        numbers = self.sections.numbers
        last = int(numbers[-1])
        if last >= _LARGEST:
            return None
        table = np.full(last + 2, -1, np.intp)  # the last element is for all numbers behind
        table[numbers] = np.arange(len(numbers), dtype=np.intp)
        return table

    @cached_property
    def _one_range(self) -> tuple[int, int] | None:
        """First frame and one behind the last, where no section is missing between."""
        numbers, pages = self.sections.numbers, self.sections.pages
        if int(numbers[-1] - numbers[0]) + 1 != len(numbers):
            return None
        return int(numbers[0]) * pages, (int(numbers[-1]) + 1) * pages

    def contain(self, pfns: Pfns) -> bool:
        """Whether all of `pfns` (at least one) lie in sections."""
        if self._one_range is None:
            return bool((self.of(pfns) >= 0).all())
        first, behind = self._one_range
        return first <= int(pfns.min()) and int(pfns.max()) < behind

    def of(self, pfns: Pfns) -> NDArray[np.intp]:
        """Index of the section of each of `pfns` (any shape), -1 where there is none."""
        number = pfns >> self._shift
        table = self._table
        if table is not None:
            np.minimum(number, len(table) - 1, out=number)
            np.maximum(number, -1, out=number)
            return table[number]
        at = np.minimum(
            np.searchsorted(self.sections.numbers, number), len(self.sections.numbers) - 1
        )
        return np.where(self.sections.numbers[at] == number, at, -1)
