"""The one interface through which every room reads physical memory: simulated, a core file, or a
running kernel.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError

Words = NDArray[np.uint64]
Pfns = NDArray[np.int64]
"""Page frame numbers."""


class MemoryFault(HvoError):
    """Physical addresses that this memory does not have; `addresses` holds them (uint64, one
    dimension).
    """

    def __init__(self, message: str, addresses: Words) -> None:
        super().__init__(message)
        self.addresses = addresses


class Memory(Protocol):
    """Physical memory that can be read; addresses are physical, in bytes."""

    @property
    def page_size(self) -> int:
        """Size of a frame in bytes."""
        ...

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at `address`; raises `MemoryFault` when any of them is not there."""
        ...

    def read_words(self, addresses: Words) -> Words:
        """The 8-byte little-endian words at `addresses` (multiples of 8, any shape), in the same
        shape.

        Raises `MemoryFault` that names the addresses which are not there.
        """
        ...

    def readable(self, addresses: Words) -> NDArray[np.bool_]:
        """Which of `addresses` (any shape) lie in frames that this memory has."""
        ...


class WritableMemory(Memory, Protocol):
    """Physical memory that can be written as well."""

    def write(self, address: int, data: bytes) -> None:
        """Store `data` at `address`."""
        ...

    def write_words(self, addresses: Words, values: Words) -> None:
        """Store `values` at `addresses` (same shape, or `values` broadcasts); a later duplicate
        wins.
        """
        ...
