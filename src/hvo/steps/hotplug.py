"""Steps of memory hotplug: RAM that comes and goes, its struct pages, and blocks of frames."""

from dataclasses import dataclass

from hvo.steps.composite import Composite
from hvo.steps.vocabulary import ReadEntry, Step, Steps


@dataclass(frozen=True, slots=True, eq=False)
class AddMemory(Step):
    """The frames [`start`, `end`) are RAM from now on (`memblock_add`) -> None."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class RemoveMemory(Step):
    """The frames [`start`, `end`) are gone, with what they held (`memblock_remove`) -> None."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class OnlinePages(Step):
    """Give the frames [`start`, `end`) to the movable zone of `node`, all free but the first
    `hosted`, which stay reserved -> None.
    """

    start: int
    end: int
    node: int
    hosted: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OfflinePages(Step):
    """Take the frames [`start`, `end`), the first `hosted` of which are reserved, out of their zone
    -> whether all others were free.
    """

    start: int
    end: int
    hosted: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class InitPage(Step):
    """Make the struct page of `pfn` that of a page of the movable zone of `node` that nobody uses
    (`__init_single_page`) -> None.
    """

    pfn: int
    node: int


@dataclass(frozen=True, slots=True, eq=False)
class InitPages(Composite):
    """Do that for the frames [`start`, `end`), whose struct pages fill whole frames of their own
    (`memmap_init_range`) -> None.
    """

    start: int
    end: int
    node: int

    def parts(self) -> Steps:
        """Struct page by struct page."""
        for pfn in range(self.start, self.end):
            yield InitPage(pfn, self.node)


@dataclass(frozen=True, slots=True, eq=False)
class AllocateBlock(Step):
    """Allocate a block of `order` of unmovable memory on `node` that will hold struct pages -> its
    first pfn, None when there is none.
    """

    order: int
    node: int


@dataclass(frozen=True, slots=True, eq=False)
class FreeBlock(Step):
    """Give the block of `order` at `pfn`, which held struct pages, back -> None (`free_pagetable`,
    `free_hotplug_page_range`).

    Frames that are reserved since boot go back one by one.
    """

    pfn: int
    order: int


@dataclass(frozen=True, slots=True, eq=False)
class TableIsEmpty(Composite):
    """Look at the `entries` entries of the table of `level` at the physical address `table` ->
    whether all are 0.
    """

    table: int
    level: int
    entries: int

    def parts(self) -> Steps:
        """Entry by entry, up to the first that is not 0 (`free_empty_pte_table`,
        arch/arm64/mm/mmu.c; `free_pte_table` of x86).
        """
        for index in range(self.entries):
            entry = yield ReadEntry(self.table + 8 * index, self.level)
            if int(entry.value):
                return False
        return True
