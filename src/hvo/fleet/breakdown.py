"""Sums over a fleet: in all, and by what its hosts or its pools have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
from ibis import _

from hvo.fleet.amounts import ACTIONS, AMOUNTS
from hvo.fleet.columns import HOSTS
from hvo.fleet.engine import Engine
from hvo.fleet.expressions import given, grouped, one, total
from hvo.fleet.tally import Tally

_KIB = {"memory_kib": "memory", "pool_kib": "pool_bytes"}
_GAINED = tuple(f"{action}_hosts" for action in ACTIONS)
_SUMS = ("hosts", *AMOUNTS, *_GAINED)
_LARGEST_FIRST = tuple(
    ibis.desc(name) for name in ("possible", "unknown", "saved", "cost", "hosts")
)


@dataclass(frozen=True)
class Sum:
    """What some hosts or pools pay, save and still could."""

    name: Any
    """What they have in common; None: the others, which were too many to list."""
    merged: int
    """How many names are summed up here: 1 but for the others."""
    sums: dict[str, int]
    """`hosts`, amounts in bytes (of `AMOUNTS`, `memory` and `pool_bytes` for what is in KiB), and
    the hosts where each action gains.
    """

    def __getitem__(self, name: str) -> int:
        return self.sums[name]

    @property
    def kept(self) -> int:
        """Struct pages of pools that the mechanism keeps in any case."""
        return self["cost"] - sum(
            self[name] for name in ("saved", "possible", "unknown", "impossible")
        )

    @property
    def paid(self) -> int:
        """What struct pages take now, at most: as much less may be as is `unknown`."""
        return self["memmap"] - self["saved"]


def by_host(engine: Engine, tally: Tally) -> ibis.Table:
    """Sums of hosts by all that they are told apart by: `group`, `kernel`, `arch` and `defect`."""
    keys = ("group", "kernel", "name", "defect")
    hosts = tally.alike.filter(_.problem == 0).select(*keys, HOSTS, *AMOUNTS)
    if tally.several is not None:
        hosts = hosts.union(
            tally.several.hosts.mutate(**{HOSTS: one()}).select(*keys, HOSTS, *AMOUNTS)
        )
    gained = {
        name: given(_[action] > 0, _[HOSTS]) for name, action in zip(_GAINED, ACTIONS, strict=True)
    }
    return engine.keep(
        grouped(hosts, *keys, **_totals(hosts=_[HOSTS], **_amounts(), **gained)).rename(arch="name")
    )


def by_pool(tally: Tally, *keys: str) -> ibis.Table:
    """Sums of pools by `keys`, each of their hosts counted once; actions and what is of a host and
    not of a pool are not in it.
    """
    pools = grouped(
        tally.alike.filter((_.problem == 0) & (_.hugepage_size > 0)),
        *keys,
        **_totals(hosts=_[HOSTS], **_amounts()),
    )
    if tally.several is None:
        return pools
    more = tally.several.pools.filter((_.problem == 0) & (_.hugepage_size > 0)).anti_join(
        tally.several.conflicts, "host"
    )
    more = grouped(
        more, *keys, hosts=_.host.nunique(), **_totals(**{name: _[name] for name in AMOUNTS})
    )
    return grouped(
        pools.union(more), *keys, **_totals(**{name: _[name] for name in ("hosts", *AMOUNTS)})
    )


def _amounts() -> dict[str, Any]:
    return {name: _[name] * _[HOSTS] for name in AMOUNTS}


def _totals(**amounts: Any) -> dict[str, Any]:
    return {name: total(amount) for name, amount in amounts.items()}


def whole(engine: Engine, hosts: ibis.Table) -> Sum:
    """The sum of all; `hosts` are from `by_host`."""
    return _sum(
        None, engine.rows(grouped(hosts, **_totals(**{name: _[name] for name in _SUMS})))[0]
    )


def largest(engine: Engine, sums: ibis.Table, key: str, most: int) -> list[Sum]:
    """The sums by `key`, those with most that is possible first; more than `most` are summed up in
    one behind them.
    """
    there = [name for name in _SUMS if name in sums.columns]
    found = grouped(sums, key, **_totals(**{name: _[name] for name in there}))
    rows = engine.rows(found.order_by(*_LARGEST_FIRST, key))
    shown = [_sum(row[key], row) for row in rows[:most]]
    return [*shown, _merged(rows[most:])] if len(rows) > most else shown


def _sum(name: object, row: dict[str, Any]) -> Sum:
    """In bytes, and as Python's numbers, which have no end."""
    numbers = {key: value or 0 for key, value in row.items() if key in _SUMS}
    kib = {_KIB[key]: numbers.pop(key) << 10 for key in _KIB if key in numbers}
    return Sum(name, 1, numbers | kib)


def _merged(rows: Sequence[dict[str, Any]]) -> Sum:
    """Rows that are too many to list, as one."""
    together = {name: sum(row[name] for row in rows) for name in rows[0] if name in _SUMS}
    return Sum(None, len(rows), _sum(None, together).sums)
