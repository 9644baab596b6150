"""Rows that cannot be right: counted by reason, and written to a table with the line they stand on.
None is dropped silently.
"""

from dataclasses import dataclass
from pathlib import Path

import ibis
from ibis import _

from hvo.fleet import rules
from hvo.fleet.collect import write_inventory
from hvo.fleet.columns import FILE, HOSTS, LINE, NAMES
from hvo.fleet.engine import Engine
from hvo.fleet.expressions import COUNT, grouped, null, total
from hvo.fleet.tally import SAID, Tally, meant


@dataclass(frozen=True)
class Reject:
    """A reason, and how many rows were rejected for it."""

    reason: str
    rows: int


def rejects(engine: Engine, tally: Tally) -> tuple[Reject, ...]:
    """Every reason for which rows were rejected, the most frequent first."""
    counted = grouped(tally.alike.filter(_.problem != 0), "problem", rows=total(_[HOSTS]))
    if tally.several is not None:
        counted = counted.union(grouped(_of_several(tally), "problem", rows=COUNT))
    rows = engine.rows(
        grouped(counted, "problem", rows=total(_.rows)).order_by(ibis.desc("rows"), "problem")
    )
    return tuple(Reject(rules.SENTENCES[row["problem"]], row["rows"]) for row in rows)


def _of_several(tally: Tally) -> ibis.Table:
    """`problem` of each rejected row of a host with several rows: of all its rows when they
    contradict each other.
    """
    assert tally.several is not None
    return _with_hosts(tally.several.pools.select("host", "problem"), tally).filter(_.problem != 0)


def _with_hosts(rows: ibis.Table, tally: Tally) -> ibis.Table:
    """Rows with the `problem` of their host where they have none of their own."""
    if tally.several is None:
        return rows
    joined = rows.left_join(tally.several.conflicts.rename(of_host="problem"), "host")
    return joined.mutate(
        problem=ibis.ifelse(_.problem != 0, _.problem, _.of_host.fill_null(0))
    ).drop("of_host", "host_right")


def rejected_rows(tally: Tally) -> ibis.Table:
    """Every rejected row: `file` and `line` where it stands, the `reason`, and what it says, as
    texts; ordered by file and line.
    """
    rows = _with_hosts(meant(tally.stored, tally.meaning), tally).filter(_.problem != 0)
    places = {
        name: rows[column] if column in rows.columns else null("string")
        for name, column in (("file", FILE), ("line", LINE))
    }
    stored = {name: f"{SAID}{name}" for name in NAMES} | {"host": "host"}
    said = {
        name: rows[column].cast("string")
        for name, column in stored.items()
        if column in tally.stored.columns
    }
    return rows.select(**places, reason=rules.reason(rows.problem, rows), **said).order_by(
        "file", "line"
    )


def write_rejects(engine: Engine, tally: Tally, path: Path) -> None:
    """Write `rejected_rows` as CSV, or as Parquet where the name ends so; raises `HvoError` where
    that cannot be.
    """
    write_inventory(engine.table(rejected_rows(tally)), path)
