"""What `hvo audit` shows on a terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hvo.audit.result import Audit
from hvo.layout.units import format_size
from hvo.report.audit_table import POOL_COLUMNS, pool_rows, summary, verdict
from hvo.report.terminal import console
from hvo.report.vmemmap_map import MARKS, legend, rows

_MAP_ROWS = 24
_STYLES = {"error": "red", "warning": "yellow", "info": "cyan"}
_SHOWN = 40
"""Findings that are printed; there may be hundreds of thousands, and `--json` has all."""


def print_audit(audit: Audit) -> None:
    """Print the result on standard output: summary, map, pools and findings."""
    out = console()
    out.print(
        Group(_summary(audit), Text(), vmemmap_map(audit, _MAP_ROWS), Text(), _pools(audit), Text())
    )
    out.print(Text(verdict(audit), style="bold green" if audit.sound else "bold red"))
    for finding in audit.findings[:_SHOWN]:
        style = _STYLES[finding.severity]
        out.print(Text.assemble((finding.id, style), " ", finding.message), soft_wrap=True)
    if len(audit.findings) > _SHOWN:
        out.print(f"... and {len(audit.findings) - _SHOWN} more: --json has them all")


def _summary(audit: Audit) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in summary(audit):
        table.add_row(Text(name, style="bold"), value)
    return table


def vmemmap_map(audit: Audit, most: int) -> Group:
    """The map of the vmemmap, in about `most` rows of 79 characters, under its scale and over its
    legend.
    """
    cells = audit.cells
    lines = [
        Text(
            f"vmemmap, a cell for {format_size(cells.frames * audit.page_size)} of memory or a"
            " multiple of it",
            style="bold",
        )
    ]
    for start, kinds in rows(cells, most):
        marks = [(MARKS[kind].character, MARKS[kind].style) for kind in kinds]
        lines.append(Text.assemble((f"{start * audit.page_size:#14x} ", "dim"), *marks))
    return Group(
        *lines,
        Text.assemble(
            *(
                piece
                for mark in legend(cells)
                for piece in ((mark.character, mark.style), f" {mark.name}  ")
            )
        ),
    )


def _pools(audit: Audit) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(POOL_COLUMNS):
        table.add_column(heading, justify="right" if number > 1 else "left")
    for row in pool_rows(audit):
        table.add_row(*row)
    return table
