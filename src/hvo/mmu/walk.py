"""One page-table walker for every format, over arrays of virtual addresses.

Addresses that share a table share the read of the entry that points at it, so that walking every
page of a range reads each upper entry once. The work is cut into pieces small enough for their
temporaries to stay in the CPU's cache.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.memory.interface import Memory
from hvo.mmu.descend import descend, tables_of
from hvo.mmu.fault import Fault, FaultCode
from hvo.mmu.format import Format
from hvo.mmu.shape import Flags, Words

Scalar = TypeVar("Scalar", bound=np.generic)

_PIECE = 1 << 16
"""Addresses in a piece: 512 KiB for each temporary."""


@dataclass(frozen=True)
class Walk:
    """Where the walks of `virtual` ended; every array has its shape."""

    format: Format
    virtual: Words
    level: NDArray[np.int8]
    """Level of the entry where the walk ended: of the leaf, of the faulting entry, or the one it
    was to stop at.
    """
    entry: Words
    """That entry; 0 where it could not be read."""
    location: Words
    """Physical address of that entry."""
    valid: Flags
    """Whether a leaf was reached."""
    address: Words
    """Physical address that the virtual one is translated to, offset included; 0 where not valid.
    """
    writable: Flags
    """Whether the leaf and every table entry on the way to it allow to write; the access flag is
    another question.
    """
    fault: NDArray[np.uint8]
    """A `FaultCode`; `NONE` also where the walk stopped, as asked, at an entry that points at a
    table.
    """


class NoTable(HvoError):
    """The walk ended above the level that was asked for: `addresses` are the virtual ones (uint64,
    one dimension).
    """

    def __init__(self, addresses: Words, level: int) -> None:
        more = f" and {addresses.size - 1} more" if addresses.size > 1 else ""
        super().__init__(
            f"virtual address {int(addresses[0]):#x}{more}: mapped by no table of level {level}; "
            "expected a range that has tables down to there"
        )
        self.addresses = addresses
        self.level = level


class PathEntry(NamedTuple):
    """One entry that the hardware reads on its way to a translation."""

    level: int
    location: int
    entry: int


def walk(
    memory: Memory, format: Format, root: int, addresses: Words, *, stop_level: int = 0
) -> Walk:
    """Translate the virtual `addresses` (uint64, any shape) through the tables at the physical
    address `root`.

    The walk goes no further down than `stop_level`. It never raises for what it finds in the
    tables: see `Walk.fault`.
    """
    virtual = np.ascontiguousarray(addresses, np.uint64)
    flat = virtual.reshape(-1)
    result = _empty(format, flat)
    for start in range(0, flat.size, _PIECE):
        _walk_piece(memory, root, stop_level, result, slice(start, start + _PIECE))
    return _shaped(result, virtual)


def entry_locations(
    memory: Memory, format: Format, root: int, addresses: Words, level: int
) -> Words:
    """Physical addresses of the entries at `level` that map the virtual `addresses` (any shape),
    without reading them.

    Raises `NoTable` where an entry above is a leaf or a fault.
    """
    virtual = np.ascontiguousarray(addresses, np.uint64)
    flat = virtual.reshape(-1)
    result = np.empty(flat.shape, np.uint64)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        tables, found = tables_of(memory, format, root, piece, level)
        if found is not None:
            raise NoTable(piece[~found], level)
        result[start : start + _PIECE] = format.entry_location(tables, piece, level)
    return result.reshape(virtual.shape)


def explain(walk: Walk, i: int) -> Fault:
    """What stopped the walk of the `i`-th address (counted as in a flat array), and how far the
    hole goes.
    """
    format = walk.format
    address, level = int(walk.virtual.flat[i]), int(walk.level.flat[i])
    code = FaultCode(int(walk.fault.flat[i]))
    # A table that is not there is a hole as large as all its entries together.
    span = format.span(level) * (
        format.table_entries(level) if code is FaultCode.OUTSIDE_MEMORY else 1
    )
    skip = span - address % span
    if code is FaultCode.NON_CANONICAL:
        skip = (1 << 64) - (1 << format.va_bits - format.sign_extended) - address
    return Fault(address, code, level, int(walk.location.flat[i]), int(walk.entry.flat[i]), skip)


def path(
    memory: Memory, format: Format, table: int, address: int, *, level: int | None = None
) -> tuple[PathEntry, ...]:
    """The entries that a walk of the virtual `address` reads one after the other, the last of them
    leaf or fault.

    It begins in the table at the physical address `table`, which is of `level` (the root's when not
    given): a CPU may begin anywhere if it has kept a pointer to a table. Raises `MemoryFault` for a
    table outside memory.
    """
    entries: list[PathEntry] = []
    for current in range(format.top if level is None else level, -1, -1):
        location = format.entry_location(table, address, current)
        entry = int(memory.read_words(np.array([location], np.uint64))[0])
        entries.append(PathEntry(current, location, entry))
        if not format.is_table(entry, current):
            break
        table = format.output_address(entry, current)
    return tuple(entries)


def _empty(format: Format, virtual: Words) -> Walk:
    def array(kind: type[Scalar]) -> NDArray[Scalar]:
        return np.empty(virtual.shape, kind)

    return Walk(
        format,
        virtual,
        level=array(np.int8),
        entry=array(np.uint64),
        location=array(np.uint64),
        valid=array(np.bool_),
        address=array(np.uint64),
        writable=array(np.bool_),
        fault=array(np.uint8),
    )


def _shaped(result: Walk, virtual: Words) -> Walk:
    """`result` with the shape of `virtual`."""

    def shaped(array: NDArray[Scalar]) -> NDArray[Scalar]:
        return array.reshape(virtual.shape)

    return Walk(
        result.format,
        virtual,
        level=shaped(result.level),
        entry=shaped(result.entry),
        location=shaped(result.location),
        valid=shaped(result.valid),
        address=shaped(result.address),
        writable=shaped(result.writable),
        fault=shaped(result.fault),
    )


def _walk_piece(memory: Memory, root: int, stop_level: int, result: Walk, piece: slice) -> None:
    format, virtual = result.format, result.virtual[piece]
    reached = descend(memory, format, root, virtual, stop_level)
    result.entry[piece] = reached.entry
    result.location[piece] = reached.location
    result.level[piece] = stop_level if reached.levels is None else reached.levels
    result.valid[piece] = reached.leaf
    result.fault[piece] = FaultCode.NONE if reached.fault is None else reached.fault
    writable = reached.leaf & format.is_writable(reached.entry)
    result.writable[piece] = (
        writable if reached.protected is None else writable & ~reached.protected
    )
    if reached.levels is None:
        address = format.translate(reached.entry, stop_level, virtual)
    else:
        address = _translated(format, reached.entry, reached.levels, virtual)
    result.address[piece] = address if reached.leaf.all() else address * reached.leaf


def _translated(format: Format, entry: Words, levels: NDArray[np.int8], virtual: Words) -> Words:
    """`Format.translate` where the entries are of different levels."""
    address = np.zeros_like(entry)
    for level in range(format.levels):
        rows = np.flatnonzero(levels == level)
        if rows.size:
            address[rows] = format.translate(entry[rows], level, virtual[rows])
    return address
