"""Building page tables for a range of addresses, as the kernel does at boot."""

from collections.abc import Callable

import numpy as np

from hvo.memory.interface import WritableMemory
from hvo.mmu.format import Format
from hvo.mmu.shape import Words
from hvo.mmu.walk import NoTable, entry_locations


def map_range(
    memory: WritableMemory,
    format: Format,
    root: int,
    start: int,
    physical: int | Words,
    size: int,
    level: int,
    allocate: Callable[[int], Words],
    *,
    writable: bool = True,
) -> Words:
    """Map `size` bytes from the virtual `start` with leaves at `level`, and return the tables that
    it took (uint64).

    `physical` is where the range lies, or the address of each leaf's memory (one for each
    `format.span(level)` bytes). `allocate(n)` gives the physical addresses of n zeroed frames. A
    leaf that is there already is replaced; raises `NoTable` when a larger one is in the way, and
    `ValueError` unless `start`, `size` and `physical` fit the leaves.
    """
    span = format.span(level)
    virtual = _strided(start, size, span)
    outputs = physical if isinstance(physical, np.ndarray) else _strided(physical, size, span)
    if (
        (start | size) % span
        or outputs.shape != virtual.shape
        or (outputs & np.uint64(span - 1)).any()
    ):
        raise ValueError(
            f"a mapping with leaves of {span:#x} bytes needs addresses and sizes that are multiples"
            " of it"
        )
    tables = [
        _add_tables(memory, format, root, start, size, upper, allocate)
        for upper in range(format.top, level, -1)
    ]
    locations = entry_locations(memory, format, root, virtual, level)
    memory.write_words(locations, format.make_leaf(outputs, level, writable=writable))
    return np.concatenate(tables) if tables else np.zeros(0, np.uint64)


def _add_tables(
    memory: WritableMemory,
    format: Format,
    root: int,
    start: int,
    size: int,
    level: int,
    allocate: Callable[[int], Words],
) -> Words:
    """See that every entry at `level` in the range points at a table; returns the new tables."""
    span = format.span(level)
    first = start // span * span
    virtual = _strided(first, start + size - first, span)
    locations = entry_locations(memory, format, root, virtual, level)
    entries = memory.read_words(locations)
    missing = ~format.is_valid(entries)
    blocked = ~missing & ~format.is_table(entries, level)
    if blocked.any():
        raise NoTable(virtual[blocked], level - 1)
    count = int(np.count_nonzero(missing))
    tables = allocate(count) if count else np.zeros(0, np.uint64)
    memory.write_words(locations[missing], format.make_table(tables))
    return tables


def _strided(start: int, size: int, step: int) -> Words:
    """Addresses of the pieces of `step` bytes that make `size` bytes from `start`; the range may
    end at 2**64.
    """
    return np.uint64(start) + np.arange(-(-size // step), dtype=np.uint64) * np.uint64(step)
