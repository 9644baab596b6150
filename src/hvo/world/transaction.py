"""Changes to a machine that can still be taken back, all of them at once."""

from collections.abc import Callable

import numpy as np

from hvo.kernel.zones import Zones
from hvo.memory.interface import Pfns
from hvo.memory.simulated import SimulatedMemory


class Transaction:
    """What has to be done to undo everything since it was begun.

    Frames of unmovable zones return by the zones' own marks. Whatever else changes something adds
    what undoes it; frames that were allocated hold nothing afterwards.
    """

    def __init__(self, memory: SimulatedMemory, zones: Zones) -> None:
        self._memory = memory
        self._marks = [(zone, zone.mark()) for zone in zones.zones if not zone.movable]
        self._changes: list[Callable[[], None]] = []
        self._frames: list[Pfns] = []

    def add(self, undo: Callable[[], None]) -> None:
        """Something was changed that `undo` changes back."""
        self._changes.append(undo)

    def took(self, frames: Pfns) -> None:
        """These frames were allocated, and may be written."""
        self._frames.append(frames.ravel())

    def rollback(self) -> None:
        """Undo everything, the last change first."""
        for undo in reversed(self._changes):
            undo()
        for zone, mark in self._marks:
            zone.rollback(mark)
        self._memory.forget(np.concatenate([np.zeros(0, np.int64), *self._frames]))
