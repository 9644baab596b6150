"""Pictures of a memory map: which vmemmap frames are kept, shared and given back, as rows of marked
cells for a terminal or a page.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from hvo.layout.units import format_size
from hvo.machine.run.memmap import Memmap
from hvo.machine.run.results import RunResult

ROW = 64
"""Cells in a row."""


@dataclass(frozen=True)
class Mark:
    """How one kind of frame is drawn: a character and a colour, which rich and CSS both know."""

    character: str
    colour: str


KEPT, SHARED, GIVEN_BACK = Mark("█", "blue"), Mark("▒", "orange"), Mark("░", "green")
Cells = list[tuple[Mark, int]]
"""A row: marks and how many cells of each."""


def parts(memmap: Memmap) -> Iterator[Cells]:
    """The whole vmemmap from its start, in parts of equal size: most of its pages have a frame of
    their own, or are on a shared one.
    """
    for start in range(0, len(memmap.own), ROW):
        yield _runs(own > 0.5 for own in memmap.own[start : start + ROW])


def _runs(kept: Iterable[bool]) -> Cells:
    return [(KEPT if own else SHARED, len(list(group))) for own, group in groupby(kept)]


def bar(total: int, memmap: Memmap) -> Cells:
    """All frames of the memory map as built (`total`): kept, shared, given back; a kind that is
    there has a cell at least.
    """
    shared = _cells(memmap.shared, total)
    kept = min(_cells(memmap.frames, total), ROW - shared)
    return [(KEPT, kept), (SHARED, shared), (GIVEN_BACK, ROW - kept - shared)]


def _cells(count: int, total: int) -> int:
    return max(round(ROW * count / total), 1) if count else 0


def page_rows(result: RunResult) -> Iterator[Cells]:
    """The first huge pages of the pool, one after the other: their vmemmap pages, with a frame of
    their own or on the shared one.
    """
    for row in result.sample:
        yield _runs(row)


def memmap_line(name: str, memmap: Memmap) -> tuple[str, str, str, str, str]:
    """A row of the table: when, bytes of memory map, frames, frames shared by all, pages that are
    read-only.
    """
    return (
        name,
        format_size(memmap.bytes),
        str(memmap.frames),
        str(memmap.shared),
        str(memmap.read_only),
    )


MEMMAP_COLUMNS = ("", "memory map", "frames", "shared tails", "read-only pages")
"""Headings of that table."""


def summary(result: RunResult) -> list[tuple[str, str]]:
    """What was run and what came out: names and values."""
    machine, pool, seconds = result.machine, result.pool, result.seconds
    page = format_size(pool.size)
    time = {
        "build": seconds.build,
        "optimise": seconds.optimize,
        "restore": seconds.restore,
        "count": seconds.audit,
    }
    return [
        (
            "machine",
            (
                f"{machine.arch}, {format_size(machine.page_size)} pages,"
                f" {format_size(machine.memory)}, as kernels of {result.era}"
            ),
        ),
        ("pool", f"{pool.pages} pages of {page}, {pool.optimized} of them optimised"),
        (
            "saved",
            f"{format_size(result.saved)} of {format_size(result.before.bytes)} of memory map",
        ),
        ("tables", f"{format_size(result.table_cost)} for split leaves"),
        ("time", ", ".join(f"{what} {took:.2f} s" for what, took in time.items())),
    ]


def states(result: RunResult) -> list[tuple[str, Memmap]]:
    """The memory map at each of its moments."""
    return [("before", result.before), ("optimised", result.after), ("restored", result.restored)]
