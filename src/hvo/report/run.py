"""What `hvo run` shows on a terminal."""

from dataclasses import astuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hvo.machine.run.results import RunResult
from hvo.machine.scenario.scenario import Snapshot
from hvo.report import memory_map as picture
from hvo.report.memory_map import Cells
from hvo.report.terminal import console
from hvo.world.costs import CostCounts

_STYLE = {"blue": "blue", "orange": "yellow", "green": "green"}


def print_run(result: RunResult) -> None:
    """Print the result on standard output: the memory map before and after, the counts, snapshots,
    and the guarantees.
    """
    out = console()
    parts = [
        _summary(result),
        Text(),
        _maps(result),
        Text(),
        _counts(result),
        Text(),
        _guarantees(result),
    ]
    if result.costs is not None:
        parts[-1:-1] = [_costs(*result.costs), Text()]
    if result.snapshots is not None:
        parts[-1:-1] = [_snapshots(result.snapshots), Text()]
    out.print(Group(*parts))


def _summary(result: RunResult) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in picture.summary(result):
        table.add_row(Text(name, style="bold"), value)
    return table


def _row(cells: Cells) -> Text:
    return Text.assemble(*((mark.character * count, _STYLE[mark.colour]) for mark, count in cells))


def _maps(result: RunResult) -> Group:
    lines: list[Text] = []
    for name, memmap in picture.states(result)[:2]:
        lines += [Text(f"vmemmap {name}", style="bold"), *map(_row, picture.parts(memmap)), Text()]
        lines += [
            Text(f"its frames {name}", style="bold"),
            _row(picture.bar(result.before.frames, memmap)),
            Text(),
        ]
    lines += [
        Text("vmemmap pages of the first huge pages, optimised", style="bold"),
        *map(_row, picture.page_rows(result)),
        Text(),
    ]
    legend = (
        ("kept", picture.KEPT),
        ("shared", picture.SHARED),
        ("given back", picture.GIVEN_BACK),
    )
    lines.append(
        Text.assemble(
            *(
                piece
                for name, mark in legend
                for piece in ((mark.character, _STYLE[mark.colour]), f" {name}  ")
            )
        )
    )
    return Group(*lines)


def _counts(result: RunResult) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(picture.MEMMAP_COLUMNS):
        table.add_column(heading, justify="right" if number else "left")
    for name, memmap in picture.states(result):
        table.add_row(*picture.memmap_line(name, memmap))
    return table


def _costs(*costs: CostCounts) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "interrupts", "invalidations", "entries broken", "steps", "longest"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, counts in zip(("optimise", "restore"), costs, strict=True):
        table.add_row(name, *map(str, astuple(counts)))
    return table


def _snapshots(snapshots: tuple[Snapshot, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("counter", no_wrap=True)
    for name, _ in snapshots:
        table.add_column(name, justify="right")
    for counter in snapshots[0].counters:
        table.add_row(counter, *(str(counters[counter]) for _, counters in snapshots))
    return table


_TICKS = {
    True: Text("✓", style="bold green"),
    False: Text("✗", style="bold red"),
    None: Text("-", style="dim"),
}


def _guarantees(result: RunResult) -> Table:
    table = Table.grid(padding=(0, 1))
    for guarantee in result.guarantees:
        table.add_row(
            _TICKS[guarantee.holds],
            Text(guarantee.id, style="bold"),
            Group(Text(guarantee.statement), Text(guarantee.evidence, style="dim")),
        )
    return table
