"""The descent through the levels of a page table, for one piece of an array of addresses.

The usual case is that every walk goes down to the level asked for; arrays that say otherwise are
then `None`, so that nothing is spent on them.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Memory, MemoryFault
from hvo.mmu.fault import FaultCode
from hvo.mmu.format import Format
from hvo.mmu.shape import Flags, Words

Indices = NDArray[np.intp]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Reached:
    """The entries that walks have reached; arrays of one dimension."""

    levels: NDArray[np.int8] | None
    """Level of each entry; `None`: all are at the level that was asked for."""
    entry: Words
    location: Words
    leaf: Flags
    table: Flags
    """Whether the entry is at the level that was asked for and points at a table."""
    fault: NDArray[np.uint8] | None
    """`FaultCode` of each; `None`: no fault."""
    protected: Flags | None
    """Whether a table entry above forbids to write; `None`: nowhere."""


def descend(memory: Memory, format: Format, root: int, addresses: Words, level: int) -> Reached:
    """Walk the virtual `addresses` down to their entries at `level`, or to where the walk ends
    above it.
    """
    if level == format.top:
        return _from_root(memory, format, root, addresses)
    groups = _Groups(format.prefix(addresses, level + 1))
    above = descend(memory, format, root, addresses[groups.first], level + 1)
    above = replace(above, protected=_protected(format, above))
    if not above.table.all():
        return _go_on(memory, format, groups.expand_all(above, level + 1), addresses, level)
    reached = _look(memory, format, groups.expand(format.decode(above.entry)), addresses, level)
    return (
        reached
        if above.protected is None
        else replace(reached, protected=groups.expand(above.protected))
    )


def tables_of(
    memory: Memory, format: Format, root: int, addresses: Words, level: int
) -> tuple[Words, Flags | None]:
    """Physical addresses of the tables of `level` that map `addresses`, and which were found
    (`None`: all).
    """
    if level == format.top:
        return np.full(addresses.shape, root, np.uint64), None
    groups = _Groups(format.prefix(addresses, level + 1))
    above = descend(memory, format, root, addresses[groups.first], level + 1)
    found = None if above.table.all() else groups.expand(above.table)
    return groups.expand(format.decode(above.entry)), found


class _Groups:
    """Rows with the same key: the first row of each, and how to give every row what was found for
    that first one.
    """

    def __init__(self, keys: Words) -> None:
        starts = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        self.first: Indices = np.concatenate((np.zeros(min(keys.size, 1), np.intp), starts))
        runs = keys[self.first]
        self._counts: Indices = np.diff(self.first, append=keys.size)
        self._inverse: Indices | None = None
        if not (runs[1:] > runs[:-1]).all():
            # Not sorted: sorting costs less than to read the same entry again for each row.
            _, self.first, self._inverse = np.unique(keys, return_index=True, return_inverse=True)

    def expand(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """`values` of the first rows, for every row."""
        return np.repeat(values, self._counts) if self._inverse is None else values[self._inverse]

    def expand_all(self, above: Reached, level: int) -> Reached:
        """What was reached at `level` or above it, for every row."""
        levels = (
            np.full(above.entry.shape, level, np.int8) if above.levels is None else above.levels
        )
        fault = np.zeros(above.entry.shape, np.uint8) if above.fault is None else above.fault
        protected = (
            np.zeros(above.entry.shape, np.bool_) if above.protected is None else above.protected
        )
        return Reached(
            self.expand(levels),
            self.expand(above.entry),
            self.expand(above.location),
            self.expand(above.leaf),
            self.expand(above.table),
            self.expand(fault),
            self.expand(protected),
        )


def _from_root(memory: Memory, format: Format, root: int, addresses: Words) -> Reached:
    """The entries of the root table; an address that is not canonical reaches none."""
    canonical = format.is_canonical(addresses)
    if canonical.all():
        return _look(
            memory, format, np.full(addresses.shape, root, np.uint64), addresses, format.top
        )
    nothing = np.zeros(addresses.shape, np.bool_)
    zeros = np.zeros(addresses.shape, np.uint64)
    levels = np.full(addresses.shape, format.top, np.int8)
    fault = np.where(canonical, FaultCode.NONE, FaultCode.NON_CANONICAL).astype(np.uint8)
    above = Reached(levels, zeros, zeros.copy(), nothing, nothing.copy(), fault, nothing.copy())
    rows = np.flatnonzero(canonical)
    found = _look(memory, format, np.full(rows.shape, root, np.uint64), addresses[rows], format.top)
    return _merged(above, rows, found, format.top)


def _go_on(memory: Memory, format: Format, above: Reached, addresses: Words, level: int) -> Reached:
    """Go on to `level` from those rows of `above` that reached a table; the walks of the others are
    over.
    """
    rows = np.flatnonzero(above.table)
    found = _look(memory, format, format.decode(above.entry[rows]), addresses[rows], level)
    return _merged(replace(above, table=np.zeros_like(above.table)), rows, found, level)


def _merged(above: Reached, rows: Indices, found: Reached, level: int) -> Reached:
    """`above`, whose arrays are this walk's own, with `rows` of it replaced by what was found at
    `level`.
    """
    assert above.levels is not None
    assert above.fault is not None
    above.levels[rows] = level
    above.entry[rows] = found.entry
    above.location[rows] = found.location
    above.leaf[rows] = found.leaf
    above.table[rows] = found.table
    above.fault[rows] = FaultCode.NONE if found.fault is None else found.fault
    return above


def _look(memory: Memory, format: Format, tables: Words, addresses: Words, level: int) -> Reached:
    """Read and judge the entries at `level` in `tables`, one for each of `addresses`."""
    location = format.entry_location(tables, addresses, level)
    entry, present = _read(memory, location)
    leaf = format.is_leaf(entry, level)
    if leaf.all() and not format.checks_leaves(level):
        return Reached(None, entry, location, leaf, ~leaf, None, None)
    table = format.is_table(entry, level)
    fault = _faults(format, entry, level, present)
    return Reached(None, entry, location, leaf & (fault == 0), table & (fault == 0), fault, None)


def _read(memory: Memory, location: Words) -> tuple[Words, Flags | None]:
    """The words at `location`, 0 where there is no memory, and which were there (`None`: all)."""
    try:
        return memory.read_words(location), None
    except MemoryFault:
        present = memory.readable(location)
        entry = np.zeros(location.shape, np.uint64)
        entry[present] = memory.read_words(location[present])
        return entry, present


def _faults(format: Format, entry: Words, level: int, present: Flags | None) -> NDArray[np.uint8]:
    fault = np.zeros(entry.shape, np.uint8)
    fault[~format.is_valid(entry)] = FaultCode.NOT_PRESENT
    fault[format.is_malformed(entry, level)] = FaultCode.MALFORMED
    if present is not None:
        fault[~present] = FaultCode.OUTSIDE_MEMORY
    return fault


def _protected(format: Format, above: Reached) -> Flags | None:
    """Which rows' tables are read-only because of the entries read so far; `None`: no row's."""
    if not format.table_write_bit:
        return None
    protecting = above.table & format.is_write_protecting(above.entry)
    if not protecting.any():
        return above.protected
    return protecting if above.protected is None else protecting | above.protected
