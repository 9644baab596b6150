"""Reading the same few words of many structures: from each start `count` words, `step` bytes apart."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from hvo.memory.interface import Memory, Words


@runtime_checkable
class StridedMemory(Protocol):
    """Memory that reads strides faster than word by word."""

    def read_strided(self, starts: Words, count: int, step: int) -> Words:
        """As `read_strided`; each stride lies in one frame."""
        ...


def read_strided(memory: Memory, starts: Words, count: int, step: int) -> Words:
    """The words at physical `starts[i] + j * step` for j < `count`, shape (starts, count); each stride lies in one frame.

    Starts and step are multiples of 8. Raises `MemoryFault` that names the addresses which are not there.
    """
    if isinstance(memory, StridedMemory):
        return memory.read_strided(starts, count, step)
    return memory.read_words(starts[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(step))
