"""A run as a sequence diagram, one lane a CPU, time downwards, and the page tables that it leaves
behind, read from their bytes.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvo.actors.ptdump import Region
from hvo.check.model.geometry import BASE, PAGE
from hvo.check.trace.replica import Replica
from hvo.check.trace.rerun import Rerun
from hvo.check.trace.token import TraceStep
from hvo.mmu.walk import path
from hvo.report.hazards import print_titles
from hvo.report.ptdump_text import dump_text


def print_trace(run: Rerun, out: Console) -> None:
    """A run step by step, each in the lane of its CPU, with what it changed below it, and what is
    violated in the end.
    """
    scenario, trace = run.case.scenario, run.trace
    print_titles([run.case.hazard], out)
    table = Table(show_lines=False, pad_edge=False)
    table.add_column("", justify="right")
    for number, actor in enumerate(scenario.actors):
        table.add_column(f"CPU {number + 1}: {actor.letter} {actor.role}")
    for number, step in enumerate(trace, 1):
        cells = [Text() for _ in scenario.actors]
        cells[step.cpu] = _cell(step)
        table.add_row(str(number), *cells)
    out.print(table)
    for rule, message in run.ending:
        out.print(Text(f"! in the end {rule}: {message}", style="bold red"))


def _cell(step: TraceStep) -> Text:
    text = Text(step.text, style="bold red" if step.violated else "")
    for change in step.changes:
        text.append(f"\n  {change}", style="dim")
    for rule, message in step.violated:
        text.append(f"\n! {rule}: {message}", style="bold red")
    return text


def mermaid(run: Rerun) -> str:
    """The run as a Mermaid sequence diagram."""
    scenario, trace = run.case.scenario, run.trace
    lines = ["sequenceDiagram"]
    lines += [
        f"  participant C{i} as {actor.letter} {_plain(actor.role)}"
        for i, actor in enumerate(scenario.actors)
    ]
    lines.append("  participant M as memory and TLBs")
    for step in trace:
        lines.append(f"  C{step.cpu}->>M: {_plain(step.text)}")
        lines += [f"  Note over M: {_plain(change)}" for change in step.changes]
        lines += [
            f"  Note over C{step.cpu},M: VIOLATED {rule} - {_plain(message)}"
            for rule, message in step.violated
        ]
    lines += [
        f"  Note over C0,M: IN THE END {rule} - {_plain(message)}" for rule, message in run.ending
    ]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Without what Mermaid takes for its own."""
    return text.replace(";", ",").replace(":", " ").replace("#", " ")


# -- the page tables in the end --


def entries(replica: Replica) -> list[dict[str, Any]]:
    """What a walk of the tables in memory finds for each vmemmap page: `level` and `entry` where it
    ends, `location` of that, and the `frame` that the page is mapped to (None: to none) and whether
    it is `writable`."""
    return [_entry(replica, page) for page in range(replica.model.geometry.vmemmap_pages)]


def _entry(replica: Replica, page: int) -> dict[str, Any]:
    world, address = replica.world, BASE + page * PAGE
    f = world.vmemmap.format
    steps = path(world.memory, f, world.root, address)
    level, location, entry = steps[-1]
    mapped = f.is_leaf(entry, level)
    frame = int(f.translate(entry, level, address)) // PAGE if mapped else None
    return {
        "page": page,
        "level": level,
        "location": location,
        "entry": entry,
        "frame": frame,
        "writable": mapped and f.is_writable(entry),
    }


def tables_text(replica: Replica) -> str:
    """The tables as the kernel's page-table dump prints them, then entry by entry."""
    world = replica.world
    heading = (
        ("Vmemmap", "vmemmap end")
        if replica.model.hardware.arch == "x86_64"
        else ("vmemmap start", "vmemmap end")
    )
    region = Region(BASE, BASE + replica.model.geometry.vmemmap_pages * PAGE, *heading)
    lines = [
        f"page {row['page']:3}  level {row['level']}  at {row['location']:#010x}  entry"
        f" {row['entry']:#018x}  {_target(row)}\n"
        for row in entries(replica)
    ]
    return dump_text(world.memory, world.vmemmap.format, world.root, region) + "".join(lines)


def _target(row: dict[str, Any]) -> str:
    if row["frame"] is None:
        return "not mapped"
    return f"frame {row['frame']} {'rw' if row['writable'] else 'ro'}"


def run_json(run: Rerun, replica: Replica, different: Sequence[str]) -> dict[str, Any]:
    """The run for `hvo check --replay --json`: its steps, and the page tables in the end,
    `different` where bytes and checker differ.
    """
    steps = [asdict(step) for step in run.trace]
    tables = {"entries": entries(replica), "different": list(different)}
    case = {
        "protocol": run.case.protocol,
        "arch": run.case.hardware.name,
        "scenario": run.case.scenario.name,
    }
    return case | {
        "steps": steps,
        "ending": [list(found) for found in run.ending],
        "tables": tables,
    }


def print_replica(replica: Replica, different: Sequence[str], out: Console) -> None:
    """Whether the bytes end as the checker's state does."""
    end = different[0] if different else "the page tables end the same"
    out.print(Text(f"run again on bytes: {end}", style="bold red" if different else ""))
