"""Page tables read whole, and summed up as runs of neighbours that a page-table dump would print as
one line.

A dump visits every entry that maps a range, from the top table down (mm/ptdump.c over
mm/pagewalk.c): it notes leaves and empty entries, and each entry of a last-level table whatever it
is; above that an entry that is neither empty, a leaf nor a table is passed over.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Memory
from hvo.mmu.format import Format
from hvo.mmu.shape import WORD, Flags, Words

_AT_ONCE = 1 << 18  # entries read at once: 2 MiB


class Grouping(NamedTuple):
    """What tells runs apart: masks of 64-bit entries. The methods take ints or uint64 arrays.

    `own`: bits that equal entries share. `inherited_all`: bits that count only where every table
    above has them too, `inherited_any`: those that count where any has. `ignored`: bits that an
    empty entry above the last level may have.
    """

    own: int
    inherited_all: int = 0
    inherited_any: int = 0
    ignored: int = 0

    def effective(self, above: Any, entry: Any) -> Any:
        """The inherited bits that hold at `entry`, when `above` are those that hold at the table it
        is in.
        """
        return (above & entry & self.inherited_all) | ((above | entry) & self.inherited_any)

    def is_empty(self, entry: Any, level: int) -> Any:
        """Whether nothing is mapped there (`pmd_none` and its like)."""
        return (entry & (WORD ^ self.ignored if level else WORD)) == 0


@dataclass(frozen=True)
class Runs:
    """Neighbours of equal level, bits and inherited bits, ascending; every array has one element a
    run.

    `start`: uint64, virtual address; a run ends where the next one starts, the last one at `end`.
    `level`: int8, 0 = PTE. `bits`: uint64, the grouping's own bits of its entries, 0 for holes;
    `effective`: uint64, the inherited bits that hold.
    """

    start: Words
    level: NDArray[np.int8]
    bits: Words
    effective: Words
    end: int

    @property
    def ends(self) -> Words:
        """Where each run ends; the end of the address space is 0."""
        return np.append(self.start[1:], np.uint64(self.end & WORD))[: len(self.start)]

    def merged(self) -> "Runs":
        """The same with equal neighbours made one."""
        differs = (
            (self.level[1:] != self.level[:-1])
            | (self.bits[1:] != self.bits[:-1])
            | (self.effective[1:] != self.effective[:-1])
        )
        first = np.flatnonzero(
            np.concatenate((np.ones(min(1, len(self.start)), np.bool_), differs))
        )
        return Runs(
            self.start[first], self.level[first], self.bits[first], self.effective[first], self.end
        )


class Note(NamedTuple):
    """One entry that a dump notes: virtual address, level, own bits and inherited bits."""

    address: int
    level: int
    bits: int
    effective: int


def runs_of(notes: list[Note], end: int) -> Runs:
    """The runs that `notes` (ascending) make up; the last one ends at `end`."""
    address, level, bits, effective = (
        np.array([note[i] for note in notes], np.uint64) for i in range(4)
    )
    return Runs(address, level.astype(np.int8), bits, effective, end).merged()


def read_runs(
    memory: Memory, format: Format, root: int, start: int, end: int, grouping: Grouping
) -> Runs:
    """The runs in the virtual range [`start`, `end`) of the tables at the physical address `root`.

    An entry that begins before `start` is left out, one that ends behind `end` is whole. Raises
    `MemoryFault` for a table that is not there.
    """
    reader = _Reader(memory, format, grouping, start, end, [])
    reader.read(root, format.top, first_address(format, start), grouping.inherited_all)
    pieces = reader.pieces
    if not pieces:
        return runs_of([], start)
    columns = [
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("start", "level", "bits", "effective")
    ]
    return Runs(*columns, end=pieces[-1].end).merged()


def first_address(format: Format, start: int) -> int:
    """The lowest address of the half of the address space that `start` is in: what entry 0 of the
    top table maps.
    """
    return start >> format.va_bits << format.va_bits


def overlapping(format: Format, level: int, base: int, start: int, end: int) -> range:
    """Indices of the entries of a table of `level`, whose first entry maps `base`, that map
    something of [`start`, `end`).
    """
    first = max(start - base, 0) >> format.shift(level)
    last = -(-max(end - base, 0) >> format.shift(level))
    return range(first, min(last, format.table_entries(level)))


@dataclass(frozen=True)
class _Reader:
    """Reads tables from the top down, and collects the runs of each piece in order."""

    memory: Memory
    format: Format
    grouping: Grouping
    start: int
    end: int
    pieces: list[Runs]

    def read(self, table: int, level: int, base: int, above: int) -> None:
        """Note the entries of the table of `level` at the physical address `table`, whose first
        entry maps `base`, and all below.
        """
        indices = overlapping(self.format, level, base, self.start, self.end)
        if not len(indices):
            return
        index = np.arange(indices.start, indices.stop, dtype=np.uint64)
        addresses = np.uint64(base) + index * np.uint64(self.format.span(level))
        entries = self.memory.read_words(np.uint64(table) + index * np.uint64(8))
        tables = self.format.is_table(entries, level)
        for first, last in _stretches(tables):
            self._stretch(
                bool(tables[first]), level, addresses[first:last], entries[first:last], above
            )

    def _stretch(
        self, tables: bool, level: int, addresses: Words, entries: Words, above: int
    ) -> None:
        """Neighbours in one table that are all tables, or none of them."""
        if not tables:
            self._note(
                addresses, level, entries, self.grouping.effective(np.uint64(above), entries)
            )
        elif level == 1:
            self._last_level(addresses, entries, above)
        else:
            for address, entry in zip(addresses.tolist(), entries.tolist(), strict=True):
                self.read(
                    self.format.output_address(entry, level),
                    level - 1,
                    address,
                    self.grouping.effective(above, entry),
                )

    def _last_level(self, addresses: Words, entries: Words, above: int) -> None:
        """The last-level tables that `entries` point to, many at once."""
        inside = np.arange(self.format.table_entries(0), dtype=np.uint64)
        step = max(1, _AT_ONCE // len(inside))
        for i in range(0, len(entries), step):
            tables = self.format.output_address(entries[i : i + step], 1)
            children = self.memory.read_words(tables[:, None] + inside * np.uint64(8))
            mapped = addresses[i : i + step, None] + inside * np.uint64(self.format.page_size)
            inherited = self.grouping.effective(np.uint64(above), entries[i : i + step])
            effective = self.grouping.effective(inherited[:, None], children)
            wanted = (mapped >= np.uint64(self.start)) & (mapped < np.uint64(self.end))
            self._note(mapped[wanted], 0, children[wanted], effective[wanted])

    def _note(self, addresses: Words, level: int, entries: Words, effective: Words) -> None:
        """Sum up the entries of one level, neighbours in address, that point at no table."""
        empty = self.grouping.is_empty(entries, level)
        noted = addresses >= np.uint64(self.start)
        if level:
            noted &= empty | self.format.is_leaf(entries, level)
        bits = np.where(empty, np.uint64(0), entries & np.uint64(self.grouping.own))
        effective = np.where(empty, np.uint64(0), effective)
        if noted.any():
            levels = np.full(int(noted.sum()), level, np.int8)
            last = int(addresses[-1]) + self.format.span(level)
            self.pieces.append(
                Runs(addresses[noted], levels, bits[noted], effective[noted], last).merged()
            )


def _stretches(flags: Flags) -> list[tuple[int, int]]:
    """First and one behind the last of each stretch of equal `flags`."""
    cuts = (np.flatnonzero(flags[1:] != flags[:-1]) + 1).tolist()
    return list(pairwise([0, *cuts, len(flags)]))
