"""Steps on whole page tables."""

from dataclasses import dataclass

from hvo.mmu.format import Format
from hvo.mmu.runs import Grouping, Note, first_address, overlapping, runs_of
from hvo.steps.composite import Composite
from hvo.steps.vocabulary import EntryKind, ReadEntry, Steps


@dataclass(frozen=True, slots=True, eq=False)
class ReadRuns(Composite):
    """Read every entry that maps [`start`, `end`) in the tables at the physical address `root` ->
    `hvo.mmu.runs.Runs`.
    """

    format: Format
    root: int
    start: int
    end: int
    grouping: Grouping

    def parts(self) -> Steps:
        """Entry by entry; a table is read before the entry behind the one that points to it
        (`walk_pgd_range`, mm/pagewalk.c).
        """
        notes: list[Note] = []
        base = first_address(self.format, self.start)
        end = yield from self._table(
            self.root, self.format.top, base, self.grouping.inherited_all, notes
        )
        return runs_of(notes, end if notes else self.start)

    def _table(self, table: int, level: int, base: int, above: int, notes: list[Note]) -> Steps:
        """Read the table of `level` whose first entry maps `base` -> the address behind what it
        maps.
        """
        end = base
        for index in overlapping(self.format, level, base, self.start, self.end):
            address = base + index * self.format.span(level)
            end = address + self.format.span(level)
            kind, value = yield ReadEntry(table + 8 * index, level)
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
