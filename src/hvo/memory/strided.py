"""Reading the same few words of many structures: from each start `count` words, `step` bytes
apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.memory.core import CoreMemory
from hvo.memory.interface import Memory, MemoryFault, Words


def read_strided(memory: Memory, starts: Words, count: int, step: int) -> Words:
    """The words at physical `starts[i] + j * step` for j < `count`, shape (starts, count); each
    stride lies in one frame.

    Starts and step are multiples of 8. Raises `MemoryFault` that names the addresses which are not
    there.
    """
    if isinstance(memory, CoreMemory):
        return memory.read_strided(starts, count, step)
    return memory.read_words(starts[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(step))


class Strides(NamedTuple):
    """`words`, shape (starts, count), zeros where they are not `there` (bool, one a start)."""

    words: Words
    there: NDArray[np.bool_]


def read_what_is_there(memory: Memory, starts: Words, count: int, step: int) -> Strides:
    """As `read_strided`, but what the memory lacks is no error."""
    try:
        return Strides(read_strided(memory, starts, count, step), np.ones(len(starts), np.bool_))
    except MemoryFault:
        there = memory.readable(starts)
        words = np.zeros((len(starts), count), np.uint64)
        words[there] = read_strided(memory, starts[there], count, step)
        return Strides(words, there)
