"""What `hvo check` shows on a terminal, and a run as a sequence diagram: one lane a CPU, time downwards."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvo.check.jobs import Result
from hvo.check.mutants import MutantRow
from hvo.check.proposals import Row
from hvo.check.scenario import Scenario
from hvo.check.trace import TraceStep

_PIPED_WIDTH = 180
_STYLE = {"safe": "green", "unsafe": "bold red", "unfinished": "yellow"}


def console() -> Console:
    """Where to print: as wide as the terminal, and wide enough where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def print_results(results: Sequence[Result], out: Console) -> None:
    """One line a job; for a violation how, and the word that replays it."""
    table = Table(box=None, pad_edge=False)
    for name in ("hazard", "protocol", "arch", "scenario", "verdict", "property", "steps", "states", "seconds"):
        table.add_column(name, justify="right" if name in ("steps", "states", "seconds") else "left")
    for result in results:
        case, first = result.case, result.findings[0] if result.findings else None
        table.add_row(
            case.hazard, case.protocol, case.rules.name, case.scenario.name, Text(result.verdict, _STYLE[result.verdict]),
            first.property if first else "", str(first.steps) if first else "", str(result.states), f"{result.seconds:.2f}",
        )  # fmt: skip
    out.print(table)
    for bound in dict.fromkeys(result.bounds for result in results):
        out.print(Text(f"within: {bound}", style="dim"))


def print_violations(results: Iterable[Result], out: Console) -> None:
    """The shortest run of every job that found something."""
    for result in results:
        if result.findings:
            first = result.findings[0]
            out.print()
            out.print(Text(f"{result.case.hazard} {result.case.protocol} on {result.case.rules.name}: {first.property}", style="bold red"))
            out.print(f"{first.message} ({first.steps} steps, {first.turns} turns)")
            out.print(f"hvo check --replay {first.token}", soft_wrap=True)


def print_trace(scenario: Scenario, trace: Sequence[TraceStep], out: Console) -> None:
    """A run step by step, each in the lane of its CPU, with what it changed below it."""
    table = Table(show_lines=False, pad_edge=False)
    table.add_column("", justify="right")
    for number, actor in enumerate(scenario.actors):
        table.add_column(f"CPU {number + 1}: {actor.letter} {actor.role}")
    for number, step in enumerate(trace, 1):
        cells = [Text() for _ in scenario.actors]
        cells[step.cpu] = _cell(step)
        table.add_row(str(number), *cells)
    out.print(table)


def _cell(step: TraceStep) -> Text:
    text = Text(step.text, style="bold red" if step.violated else "")
    for change in step.changes:
        text.append(f"\n  {change}", style="dim")
    for rule, message in step.violated:
        text.append(f"\n! {rule}: {message}", style="bold red")
    return text


def mermaid(scenario: Scenario, trace: Sequence[TraceStep]) -> str:
    """The run as a Mermaid sequence diagram."""
    lines = ["sequenceDiagram"]
    lines += [f"  participant C{i} as {actor.letter} {_plain(actor.role)}" for i, actor in enumerate(scenario.actors)]
    lines.append("  participant M as memory and TLBs")
    for step in trace:
        lines.append(f"  C{step.cpu}->>M: {_plain(step.text)}")
        lines += [f"  Note over M: {_plain(change)}" for change in step.changes]
        lines += [f"  Note over C{step.cpu},M: VIOLATED {rule} - {_plain(message)}" for rule, message in step.violated]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Without what Mermaid takes for its own."""
    return text.replace(";", ",").replace(":", " ").replace("#", " ")


def print_proposals(rows: Sequence[Row], out: Console) -> None:
    """The proposals for arm64, one line each."""
    table = Table(box=None, pad_edge=False)
    for name in ("", "proposal", "verdict", "why", "needs", "invalidations", "CPU stops", "steps held", "steps broken", "fails half-way"):
        table.add_column(name)
    for row in rows:
        found = [f"{v.property}: {v.message}" for _, result in row.results for v in result.violations[:1]]
        verdict = "safe" if row.safe else "unsafe"
        counts = [str(n) for n in (row.invalidations, row.stops, row.held, row.broken)]
        table.add_row(
            row.letter, row.title, Text(verdict, _STYLE[verdict]), "; ".join(found), row.needs, *counts, "yes" if row.partial else "no"
        )
    out.print(table)


def print_mutants(rows: Sequence[MutantRow], out: Console) -> None:
    """Each mutant: noticed by what, or what is believed."""
    table = Table(box=None, pad_edge=False)
    for name in ("protocol", "without", "noticed", "where, or what is believed"):
        table.add_column(name)
    for row in rows:
        noticed = Text(", ".join(row.noticed), style="green") if row.noticed else Text("no", style="yellow")
        table.add_row(row.protocol, row.mutant, noticed, row.scenario or row.believed)
    out.print(table)
