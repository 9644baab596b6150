"""The proposals for arm64 as a table, on a terminal and in `docs/arm64.md`."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvo.check.proposals.compare import LISTED, Row, Work

COLUMNS = (
    "",
    "proposal",
    "verdict",
    "needs",
    "invalidations",
    "interrupts",
    "faults",
    "longest hold",
    "to restore",
    "can fail half-way",
)
LEGEND = f"""Counted in runs for huge pages of 8 vmemmap pages (2 MiB) whose leaf is split already; "list" is a list of {LISTED} huge pages.
invalidations, interrupts: for one huge page (in a list: for each page of it, on average); + what a leaf to split adds, once for 64 pages.
interrupts: each goes to every other CPU. faults: what accesses to one page's vmemmap can take, at most; hw: access flags set by hardware.
longest hold: steps for which another CPU stands still or waits for one entry; how much longer with each page more of the list."""  # noqa: E501
"""What the columns mean."""


def cells(row: Row) -> list[str]:
    """One row, a text for each of `COLUMNS`."""
    work = row.optimize
    return [
        row.letter,
        row.title,
        "safe" if row.safe else "unsafe",
        row.needs,
        _rate(work, "invalidations"),
        _rate(work, "stops"),
        _faults(work),
        _hold(work),
        _restore(row),
        _failure(row),
    ]


def _rate(work: Work, name: str) -> str:
    """A count for one page, in a list, and for a leaf."""
    one, listed, split = (int(getattr(part, name)) for part in (work.one, work.listed, work.split))
    if not one and not listed and not split:
        return "0"
    leaf = f" + {split} a leaf" if split else ""
    return f"{one}, list {listed / LISTED:g}{leaf}"


def _faults(work: Work) -> str:
    if work.one.updates:
        return f"0 ({work.one.updates} hw)"
    return str(work.one.faults)


def _hold(work: Work) -> str:
    """Steps, and how they grow."""
    if not work.listed.held:
        return "0"
    growth = f"+{work.growth:g} a page" if work.growth else "per page"
    return f"{work.one.held}, list {work.listed.held} ({growth})"


def _restore(row: Row) -> str:
    """What differs on the way back."""
    if row.restore is None:
        return "cannot"
    if row.restore == row.optimize._replace(split=row.restore.split):
        return "the same"
    back = row.restore
    return (
        f"invalidations {_rate(back, 'invalidations')}; interrupts {_rate(back, 'stops')}; hold"
        f" {_hold(back)}"
    )


def _failure(row: Row) -> str:
    parts: list[str] = []
    if row.can_fail:
        parts.append("no memory: nothing changes")
    if row.partial:
        parts.append("entry in use: -EAGAIN, in part")
    return "; ".join(parts) or "no"


def reasons(row: Row) -> Iterator[str]:
    """Why a proposal is not safe: each property once, with the scenario that shows it."""
    for scenario, found in row.results:
        for violation in found.violations:
            yield (
                f"{row.letter}: {violation.property}, {scenario.name}: {violation.message}"
                f" ({violation.steps} steps)"
            )


def print_proposals(rows: Sequence[Row], out: Console) -> None:
    """The table, what its columns mean, and why what is unsafe is so."""
    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name)
    for row in rows:
        texts = cells(row)
        table.add_row(*texts[:2], Text(texts[2], "green" if row.safe else "bold red"), *texts[3:])
    out.print(table)
    out.print(Text(LEGEND, style="dim"))
    for row in rows:
        for reason in reasons(row):
            out.print(Text(reason, style="red"))


def markdown(rows: Sequence[Row]) -> str:
    """The same for a page."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    said = "".join(f"* {reason}\n" for row in rows for reason in reasons(row))
    return f"{table}\n\n{LEGEND}\n\n{said}"
