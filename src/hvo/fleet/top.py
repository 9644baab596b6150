"""The hosts where most is possible.

Their rows are alike to others that have been judged, so it is known beforehand what to look for,
and the inventory is read only for these.
"""

from typing import Any

import ibis
from ibis import _

from hvo.fleet.amounts import AMOUNTS
from hvo.fleet.columns import HOSTS
from hvo.fleet.engine import Engine
from hvo.fleet.tally import SAID, Tally, meant, single_rows

_SHOWN = ("host", "group", "kernel", "name", "memory", *AMOUNTS)
_ORDER = (ibis.desc("possible"), ibis.desc("unknown"), "host")
_FEW = 1000


def top_hosts(engine: Engine, tally: Tally, most: int) -> list[dict[str, Any]]:
    """The `most` hosts with most that is possible, as rows with `AMOUNTS`; fewer where on fewer
    anything is.
    """
    found = _alike(engine, tally, most)
    if tally.several is not None:
        found = found.union(tally.several.hosts.filter(_.possible > 0).select(*_SHOWN))
    return engine.rows(found.order_by(*_ORDER).limit(most))


def _alike(engine: Engine, tally: Tally, most: int) -> ibis.Table:
    """The hosts with a single row that may be among them."""
    meanings = tally.alike.filter((_.problem == 0) & (_.possible > 0))
    counted = engine.rows(
        meanings.select("possible", HOSTS).order_by(ibis.desc("possible")).limit(most)
    )
    largest = engine.keep(meanings.filter(_.possible >= _least(counted, most)))
    return meant(_narrowed(engine, single_rows(tally), largest), largest).select(*_SHOWN)


def _least(counted: list[dict[str, Any]], most: int) -> int:
    """What the last of them has at least; `counted` are in falling order."""
    for row in counted:
        most -= row[HOSTS]
        if most <= 0:
            return row["possible"]
    return 1


def _narrowed(engine: Engine, rows: ibis.Table, largest: ibis.Table) -> ibis.Table:
    """Rows that have pools of as many pages as some of the `largest`: a quick test, which most
    others fail.
    """
    pages = f"{SAID}pages"
    values = (
        [row[pages] for row in engine.rows(largest.select(pages).distinct().limit(_FEW + 1))]
        if pages in rows.columns
        else []
    )
    return rows.filter(rows[pages].isin(values)) if 0 < len(values) <= _FEW else rows
