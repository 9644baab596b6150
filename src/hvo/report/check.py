"""What `hvo check` shows on a terminal."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvo.check.check import Finding, Result
from hvo.check.matrix import Matrix, matrix_of
from hvo.check.mutants.run import MutantRow
from hvo.report import terminal
from hvo.vmemmap.hazards.registry import hazard_title

_PIPED_WIDTH = 180
_STYLE = {"safe": "green", "unsafe": "bold red", "unfinished": "yellow"}
_MUTANT_STYLE = {
    "killed": "green",
    "equivalent": "",
    "model gap": "yellow",
    "unexplained": "bold red",
}


def console() -> Console:
    """Where to print: as wide as the terminal, and wide enough where there is none."""
    return terminal.console(piped_width=_PIPED_WIDTH)


_GLYPHS = {
    "safe": ("✓", "green"),
    "unsafe": ("✗", "bold red"),
    "unfinished": ("?", "yellow"),
    None: ("", ""),
}


def print_matrix(results: Sequence[Result], out: Console) -> None:
    """Protocols down, hazards across, in as many parts as the width asks for; nothing where one
    line says it all.
    """
    matrix = matrix_of(results)
    if len(matrix.rows) * len(matrix.columns) < 2:
        return
    first = max(len(f"{protocol} {machine}") for protocol, machine in matrix.rows) + 3
    each = max(len(column) for column in matrix.columns) + 2
    fit = max((out.width - first) // each, 1)
    for start in range(0, len(matrix.columns), fit):
        out.print(_part(matrix, matrix.columns[start : start + fit]))
    out.print(Text("✓ safe  ✗ unsafe  ? unfinished", style="dim"))
    out.print()


def _part(matrix: Matrix, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("protocol", "machine", *columns):
        table.add_column(name, no_wrap=True)
    for row in matrix.rows:
        verdicts = [matrix.verdict(row, column) for column in columns]
        if any(verdicts):
            table.add_row(*row, *(Text(*_GLYPHS[verdict]) for verdict in verdicts))
    return table


def print_results(results: Sequence[Result], out: Console) -> None:
    """One line a job; for a violation how, and the word that replays it."""
    table = Table(box=None, pad_edge=False)
    for name in (
        "hazard",
        "protocol",
        "arch",
        "scenario",
        "verdict",
        "property",
        "steps",
        "states",
        "seconds",
    ):
        table.add_column(
            name, justify="right" if name in ("steps", "states", "seconds") else "left"
        )
    for result in results:
        case, first = result.case, result.findings[0] if result.findings else None
        table.add_row(
            case.hazard,
            case.protocol,
            case.hardware.name,
            case.scenario.name,
            Text(result.verdict, _STYLE[result.verdict]),
            first.property if first else "",
            str(first.steps) if first else "",
            str(result.states),
            f"{result.seconds:.2f}",
        )
    out.print(table)
    for bound in dict.fromkeys(result.bounds for result in results):
        out.print(Text(f"within: {bound}", style="dim"))


def violation_title(result: Result, finding: Finding) -> str:
    """`H04 (Two splits of one leaf), 5.14 on x86_64: access-freed`."""
    case = result.case
    title = hazard_title(case.hazard)
    about = f"{case.hazard} ({title})" if title else case.hazard
    return f"{about}, {case.protocol} on {case.hardware.name}: {finding.property}"


def print_violations(results: Iterable[Result], out: Console) -> None:
    """The shortest run of every job that found something."""
    for result in results:
        if result.findings:
            first = result.findings[0]
            out.print()
            out.print(Text(violation_title(result, first), style="bold red"))
            out.print(f"{first.message} ({first.steps} steps, {first.turns} turns)")
            out.print(f"hvo check --replay {first.token}", soft_wrap=True)


def print_mutants(rows: Sequence[MutantRow], out: Console) -> None:
    """A table for each protocol: which mutants were killed, where, and why others survive."""
    for protocol in dict.fromkeys(row.protocol for row in rows):
        table = Table(
            box=None, pad_edge=False, title=protocol, title_justify="left", title_style="bold"
        )
        for name in (
            "role",
            "mutant",
            "verdict",
            "violates",
            "steps",
            "scenario, or why it survives",
        ):
            table.add_column(name, justify="right" if name == "steps" else "left")
        for row in rows:
            if row.protocol == protocol:
                verdict = Text(row.verdict, _MUTANT_STYLE[row.verdict])
                steps, where = (
                    "" if row.steps is None else str(row.steps),
                    row.scenario or row.explanation or "",
                )
                table.add_row(row.role, row.mutant, verdict, ", ".join(row.killed_by), steps, where)
        out.print(table)
    counted = Counter(row.verdict for row in rows)
    out.print(", ".join(f"{count} {verdict}" for verdict, count in counted.items()))
