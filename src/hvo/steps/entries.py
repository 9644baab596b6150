"""Steps on page tables and kernel variables: words at physical locations."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from hvo.memory.interface import Pfns, Words
from hvo.mmu.format import Format
from hvo.mmu.runs import Grouping, Note, Runs, first_address, overlapping, runs_of
from hvo.steps.base import Composite, Step, Steps, Value
from hvo.steps.ordering import WriteBarrier
from hvo.steps.struct_pages import CopyFrame, CopyTailWords


class EntryKind(Enum):
    """What a page-table entry is."""

    NONE = "none"
    LEAF = "leaf"
    TABLE = "table"


class Entry(NamedTuple):
    """A page-table entry that was read: its kind and its value."""

    kind: EntryKind
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Locate(Step[Words]):
    """Where the entry of `level` (0 = PTE, 1 = PMD) that translates `address` lies -> its location.

    Not an access that can race: above the PMD the tables of the vmemmap never change (`pmd_off_k`,
    include/linux/pgtable.h).
    """

    address: Value
    level: int


@dataclass(frozen=True, slots=True, eq=False)
class ReadEntry(Step[Entry]):
    """Read the entry of `level` at `location` -> Entry."""

    location: Value
    level: int


@dataclass(frozen=True, slots=True, eq=False)
class WriteEntry(Step[None]):
    """Write `value` as the entry at `location` (of `level`, translating `address`) -> None."""

    location: Value
    value: Value
    level: int
    address: Value


@dataclass(frozen=True, slots=True, eq=False)
class ReadPointer(Step[int | Pfns | None]):
    """Read the kernel variable at `location` -> its value, None when it is null."""

    location: Value


@dataclass(frozen=True, slots=True, eq=False)
class WritePointer(Step[None]):
    """Store `value` in the kernel variable at `location` -> None."""

    location: Value
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class PublishPointer(Step[int | Pfns | None]):
    """Compare-and-swap the kernel variable at `location` from null to `value` -> None when it
    worked, else the value found.
    """

    location: Value
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class StoreTableEntry(Step[None]):
    """Store `value` as entry `index` of the table in frame `table`, which no CPU walks yet ->
    None.
    """

    table: Value
    index: int
    value: Value


RESET_STRUCT_PAGES = 3
"""How many struct pages of a restored vmemmap page are reset (NR_RESET_STRUCT_PAGE,
mm/hugetlb_vmemmap.c of 5.18).
"""


@dataclass(frozen=True, slots=True, eq=False)
class RemapEntries(Composite[Words]):
    """Exchange the PTEs at `locations` (last axis; they translate the pages from `address` on) for
    `values` -> the old values.
    """

    locations: Words
    values: Words
    address: Value
    page_size: int

    def parts(self) -> Steps[Words]:
        """Entry by entry: read the old one, write the new one."""
        old: list[int] = []
        values = np.broadcast_to(self.values, self.locations.shape).tolist()
        for i, (location, value) in enumerate(zip(self.locations.tolist(), values, strict=True)):
            entry = yield from ReadEntry(location, 0)
            old.append(int(entry.value))
            yield from WriteEntry(location, value, 0, int(self.address) + i * self.page_size)
        return np.array(old, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class RestoreEntries(Composite[None]):
    """Give the pages mapped by the PTEs at `locations` (last axis) frames of their own again:
    `frames`, in that order -> None.

    Each frame first gets a copy of what is mapped at `source` (None: of what the page maps now);
    with `reset`, its first struct pages are overwritten with clean tails (`vmemmap_restore_pte` and
    `reset_struct_pages`, mm/hugetlb_vmemmap.c).
    """

    locations: Words
    frames: Pfns
    values: Words
    source: Value | None
    address: Value
    page_size: int
    struct_pages: int
    reset: bool

    def parts(self) -> Steps[None]:
        """Entry by entry: copy, reset, barrier, write the entry."""
        for i, (location, frame, value) in enumerate(
            zip(self.locations.tolist(), self.frames.tolist(), self.values.tolist(), strict=True)
        ):
            address = int(self.address) + i * self.page_size
            yield from CopyFrame(
                address if self.source is None else self.source, frame, self.struct_pages
            )
            reset = min(RESET_STRUCT_PAGES, self.struct_pages // 2) if self.reset else 0
            for index in range(reset):
                yield from CopyTailWords(frame, reset + index, index)
            yield from WriteBarrier()
            yield from WriteEntry(location, value, 0, address)


@dataclass(frozen=True, slots=True, eq=False)
class FillTable(Composite[None]):
    """Store `values` (last axis) as the entries of the table in frame `table`, which no CPU walks
    yet -> None.
    """

    table: Value
    values: Words

    def parts(self) -> Steps[None]:
        """Entry by entry."""
        for index, value in enumerate(self.values.tolist()):
            yield from StoreTableEntry(self.table, index, value)


@dataclass(frozen=True, slots=True, eq=False)
class TableIsEmpty(Composite[bool]):
    """Look at the `entries` entries of the table of `level` at the physical address `table` ->
    whether all are 0.
    """

    table: int
    level: int
    entries: int

    def parts(self) -> Steps[bool]:
        """Entry by entry, up to the first that is not 0 (`free_empty_pte_table`,
        arch/arm64/mm/mmu.c; `free_pte_table` of x86).
        """
        for index in range(self.entries):
            entry = yield from ReadEntry(self.table + 8 * index, self.level)
            if int(entry.value):
                return False
        return True


@dataclass(frozen=True, slots=True, eq=False)
class CompareExchangeEntry(Step[bool]):
    """Atomically write `value` as the entry at `location` (of `level`, translating `address`) if it
    is `expected` -> whether it was.
    """

    location: Value
    expected: Value
    value: Value
    level: int
    address: Value


@dataclass(frozen=True, slots=True, eq=False)
class AllowFaults(Step[None]):
    """From now on (`allowed`) a kernel access that meets an invalid entry waits until it is valid,
    or (not) is an error again -> None.
    """

    allowed: bool


@dataclass(frozen=True, slots=True, eq=False)
class ReadRuns(Composite[Runs]):
    """Read every entry that maps [`start`, `end`) in the tables at the physical address `root` ->
    `hvo.mmu.runs.Runs`.
    """

    format: Format
    root: int
    start: int
    end: int
    grouping: Grouping

    def parts(self) -> Steps[Runs]:
        """Entry by entry; a table is read before the entry behind the one that points to it
        (`walk_pgd_range`, mm/pagewalk.c).
        """
        notes: list[Note] = []
        base = first_address(self.format, self.start)
        end = yield from self._table(
            self.root, self.format.top, base, self.grouping.inherited_all, notes
        )
        return runs_of(notes, end if notes else self.start)

    def _table(
        self, table: int, level: int, base: int, above: int, notes: list[Note]
    ) -> Steps[int]:
        """Read the table of `level` whose first entry maps `base` -> the address behind what it
        maps.
        """
        end = base
        for index in overlapping(self.format, level, base, self.start, self.end):
            address = base + index * self.format.span(level)
            end = address + self.format.span(level)
            kind, value = yield from ReadEntry(table + 8 * index, level)
            entry = int(value)
            effective = self.grouping.effective(above, entry)
            if kind is EntryKind.TABLE:
                end = yield from self._table(
                    self.format.output_address(entry, level), level - 1, address, effective, notes
                )
            elif address >= self.start and (
                level == 0 or kind is EntryKind.LEAF or self.grouping.is_empty(entry, level)
            ):
                filled = not self.grouping.is_empty(entry, level)
                notes.append(
                    Note(address, level, (entry & self.grouping.own) * filled, effective * filled)
                )
        return end
