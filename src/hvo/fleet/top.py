"""The hosts where most is possible.

Their rows are alike to others that have been judged, so it is known beforehand what to look for, and the inventory is read only for these.
"""

from typing import Any

import ibis
from ibis import _

from hvo.fleet.amounts import AMOUNTS, with_amounts
from hvo.fleet.columns import COLUMNS, HOSTS
from hvo.fleet.engine import Engine
from hvo.fleet.rows import measured, numbered
from hvo.fleet.tally import Tally, known, single_rows
from hvo.fleet.typed import value

_SHOWN = ("host", "group", "kernel", "name", "memory", *AMOUNTS)
_ORDER = (ibis.desc("possible"), ibis.desc("unknown"), "host")
_LOOKED_AT = ("memory", "hugepage_size", "pages")
_FEW = 1000


def top_hosts(engine: Engine, tally: Tally, most: int) -> list[dict[str, Any]]:
    """The `most` hosts with most that is possible, as rows with `AMOUNTS`; fewer where on fewer anything is."""
    found = _alike(engine, tally, most)
    if tally.several is not None:
        found = found.union(tally.several.hosts.filter(_.possible > 0).select(*_SHOWN))
    return engine.rows(found.order_by(*_ORDER).limit(most))


def _alike(engine: Engine, tally: Tally, most: int) -> ibis.Table:
    """The hosts with a single row that may be among them."""
    judged = tally.alike.filter((_.problem == 0) & (_.possible > 0))
    cells = engine.rows(judged.select("possible", HOSTS).order_by(ibis.desc("possible")).limit(most))
    least = _least(cells, most)
    looked_for = judged.filter(_.possible >= least).select(*_LOOKED_AT).distinct().limit(_FEW + 1)
    values = engine.rows(looked_for)
    rows = single_rows(tally.raw, None if tally.several is None else tally.several.names)
    narrow = _like(rows, values) if len(values) <= _FEW else rows
    hosts = with_amounts(known(measured(numbered(narrow)), tally.kinds))
    return hosts.filter((_.problem == 0) & (_.possible >= least)).select(*_SHOWN)


def _least(cells: list[dict[str, Any]], most: int) -> int:
    """What the last of them has at least; `cells` are in falling order."""
    for cell in cells:
        most -= cell[HOSTS]
        if most <= 0:
            return cell["possible"]
    return 1


def _like(rows: ibis.Table, values: list[dict[str, Any]]) -> ibis.Table:
    """Rows whose numbers are among those looked for: a quick test, which nearly all others fail."""
    there = [column for column in COLUMNS if column.name in _LOOKED_AT and column.name in rows.columns]
    tests = [value(rows, column).isin(sorted({row[column.name] for row in values})) for column in there]
    return rows.filter(*tests) if values else rows.limit(0)
