"""The questions that are put to an engine about a fleet: few enough for ten million hosts, everything else is asked of their answers.

Most hosts have one row, and many of these rows are alike in all but the host: they are judged once. The few hosts with several rows are
brought together first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ibis
from ibis import _

from hvo.fleet.amounts import ACTIONS, AMOUNTS, with_amounts
from hvo.fleet.columns import HOSTS, MALFORMED, NAMES
from hvo.fleet.engine import Engine
from hvo.fleet.expressions import COUNT, grouped
from hvo.fleet.kinds import KEYS, kinds_table
from hvo.fleet.rows import HOST, measured, numbered
from hvo.fleet.several import conflicts, one_row_each, repeated, shown_by_one

COUNTS = ("hosts", *(f"{action}_hosts" for action in ACTIONS))
"""Numbers of hosts: all, and those where an action gains something."""
_POOL = ("host", *HOST, "name", "defect", "hugepage_size", "node", "pages", "because", "why", "problem", *AMOUNTS)


@dataclass(frozen=True)
class Tally:
    """What the engine answered; the rest is there to be asked again of single hosts."""

    raw: ibis.Table
    """The inventory as it is stored."""
    kinds: ibis.Table
    """What is known of each kind, by `KEYS`."""
    alike: ibis.Table
    """Hosts with a single row: what it says, what is known of it, and `AMOUNTS` of each of so many hosts (`HOSTS`). Also rows that break a
    rule, whose number is `problem`."""
    several: "Several | None"


@dataclass(frozen=True)
class Several:
    """Hosts with several rows."""

    names: ibis.Table
    """All of them."""
    conflicts: ibis.Table
    """Those whose rows contradict each other: `host`, `problem`."""
    pools: ibis.Table
    """A row for each of their pools, with `AMOUNTS` and `problem`."""
    hosts: ibis.Table
    """A row for each of them that has no conflict, with `AMOUNTS`."""


def tally(engine: Engine, raw: ibis.Table, phase: Callable[[str], None]) -> Tally:
    """Ask the engine about `raw`, an inventory as it is stored; `phase` is told what is being done."""
    phase("looking for hosts with several rows")
    names = engine.keep(repeated(raw))
    several = names if engine.number(names.count()) else None
    phase("adding up")
    rows = [engine.keep(measured(numbered(each))) for each in _divided(raw, several)]
    phase("judging")
    kinds = _kinds(engine, rows)
    alike = engine.keep(with_amounts(known(rows[0], kinds)))
    return Tally(raw, kinds, alike, None if several is None else _several(engine, several, known(rows[1], kinds)))


def _divided(raw: ibis.Table, several: ibis.Table | None) -> Iterator[ibis.Table]:
    """Rows of hosts that have one, those that are alike as one; then, if there are any, those of hosts with several."""
    yield _alike(single_rows(raw, several))
    if several is not None:
        yield raw.semi_join(several, "host")


def single_rows(raw: ibis.Table, several: ibis.Table | None) -> ibis.Table:
    """The rows of hosts that have one."""
    return raw if several is None else raw.anti_join(several, "host")


def _alike(raw: ibis.Table) -> ibis.Table:
    """Rows that agree in all but the host as one, which counts its `HOSTS` and names one of them, or none where they have no name."""
    said = [name for name in raw.columns if name in (*NAMES, MALFORMED) and name != "host"]
    nameless = _.host.isnull() | (_.host == "")
    return grouped(raw.mutate(nameless=nameless), *said, "nameless", host=_.host.min(), **{HOSTS: COUNT})


def known(rows: ibis.Table, kinds: ibis.Table) -> ibis.Table:
    """The rows with what is known of their kinds."""
    return rows.left_join(kinds, KEYS).drop(*(f"{name}_right" for name in KEYS))


def _kinds(engine: Engine, tables: list[ibis.Table]) -> ibis.Table:
    """What is known of every kind in `tables`."""
    sound = [table.filter(_.problem == 0).select(*KEYS).distinct() for table in tables]
    return engine.store(kinds_table(sorted({tuple(row[name] for name in KEYS) for table in sound for row in engine.rows(table)})))


def _several(engine: Engine, names: ibis.Table, known: ibis.Table) -> Several:
    """Bring the rows of each host together."""
    pools = engine.keep(with_amounts(shown_by_one(known)).select(*_POOL))
    sound = pools.filter(_.problem == 0)
    hosts = engine.keep(one_row_each(sound))
    against = engine.keep(conflicts(hosts, sound))
    agreed = hosts if not engine.number(against.count()) else engine.keep(hosts.anti_join(against, "host"))
    return Several(names, against, pools, agreed)
