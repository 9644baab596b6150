"""The entries that pages of a run break, and for how many steps."""

from typing import NamedTuple

import numpy as np

from hvo.machine.batch.conflicts import Lanes
from hvo.memory.interface import Words
from hvo.mmu.format import Format
from hvo.steps.base import one_answer
from hvo.steps.entries import WriteEntry
from hvo.world.costs import CostCounts


class _Key(NamedTuple):
    """Entries that pages broke in one step: the first and the last one, and whose they are."""

    first: int
    last: int
    lanes: tuple[int, ...]


class BrokenEntries:
    """Entries of a run that are invalid now, with the step since when; and counts of those that
    are valid again.
    """

    def __init__(self, format: Format | None) -> None:
        self._format = format
        self._since: dict[_Key, tuple[Words, int]] = {}
        self.counts = CostCounts()

    def __len__(self) -> int:
        return len(self._since)

    def written(self, step: WriteEntry, lanes: Lanes, clock: int) -> None:
        """The pages `lanes` wrote entries, as the step number `clock` of each."""
        if self._format is None:
            return
        locations = np.broadcast_to(np.asarray(step.location, np.uint64), lanes.shape)
        valid = one_answer(np.asarray(self._format.is_valid(np.asarray(step.value, np.uint64))))
        ends = (int(locations[0]), int(locations[-1]))
        key = _Key(*ends, (int(lanes[0]), int(lanes[-1]), lanes.size))
        if not valid:
            self._since[key] = locations, clock
        elif key in self._since and np.array_equal(self._since[key][0], locations):
            steps = clock - self._since.pop(key)[1]
            count = lanes.size
            self.counts = self.counts.plus(CostCounts(0, 0, count, count * steps, steps))
