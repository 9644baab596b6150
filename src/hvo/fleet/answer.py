"""The answer about a fleet: what is paid, saved, still possible, impossible and why, and which one
action gains most.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import ibis
from ibis import _

from hvo.fleet.amounts import ACTIONS
from hvo.fleet.breakdown import Sum, by_host, by_pool, largest, whole
from hvo.fleet.columns import require_columns
from hvo.fleet.defects import DefectHosts, defects
from hvo.fleet.engine import Engine
from hvo.fleet.rejects import Reject, rejected_rows, rejects
from hvo.fleet.tally import Tally, tally
from hvo.fleet.top import top_hosts
from hvo.layout.units import format_size

_POOL = ("pool_bytes", "cost", "saved", "possible", "unknown", "impossible")
_HOST = ("memory", "memmap", "paid", *_POOL)
_WHAT = {
    "switch_on": (
        "switch the optimisation on, then rebuild the pools or boot again",
        "hvo enable --persist; hvo convert",
    ),
    "convert": (
        "rebuild pools that were filled before the optimisation was on, once their pages are free",
        "hvo convert",
    ),
    "find_out": (
        "the switch, or how many pages are optimised, is not known",
        "hvo status --json; hvo audit live",
    ),
    "upgrade": (
        (
            "install a kernel that has the optimisation, gives one page more back, or is without a"
            " known defect"
        ),
        None,
    ),
    "change_size": (
        "use the largest HugeTLB pages instead: beyond what the pages of now could give back",
        None,
    ),
}
"""What each action is, and the commands that do it."""
_SOME = 5


@dataclass(frozen=True)
class Action:
    """One thing to do wherever it gains something, and what it gains in all, at most."""

    action: str
    what: str
    command: str | None
    hosts: int
    gain: int


@dataclass(frozen=True)
class Answer:
    """All that is said of a fleet."""

    rows: int
    rejects: tuple[Reject, ...]
    whole: Sum
    by: dict[str, list[Sum]]
    """The sums by group, kernel, architecture and HugeTLB size."""
    impossible: list[Sum]
    """The sums by the reason why it is impossible."""
    actions: tuple[Action, ...]
    """What gains something, the most first."""
    defects: tuple[DefectHosts, ...]
    top: tuple[dict[str, Any], ...]
    """The hosts where most is possible."""
    first_rejects: tuple[dict[str, Any], ...]
    """Some rejected rows: `file`, `line`, `host` and `reason`."""

    @property
    def rejected(self) -> int:
        """Rows that were rejected."""
        return sum(each.rows for each in self.rejects)

    def to_json(self) -> dict[str, Any]:
        """The contract of `hvo fleet --json`; sizes in bytes."""
        return {
            "rows": self.rows,
            "rejected": self.rejected,
            "rejects": [asdict(each) for each in self.rejects],
            "first_rejects": list(self.first_rejects),
            "hosts": self.whole["hosts"],
            **_amounts(self.whole, _HOST),
            "table_cost": self.whole["table_cost"],
            "actions": [asdict(action) for action in self.actions],
            "by": {key: [_row(key, each) for each in sums] for key, sums in self.by.items()},
            "impossible_because": [
                {
                    "reason": each.name,
                    "merged": each.merged,
                    "hosts": each["hosts"],
                    "impossible": each["impossible"],
                }
                for each in self.impossible
            ],
            "defects": [asdict(defect) for defect in self.defects],
            "top": list(self.top),
        }


def _amounts(sums: Sum, names: tuple[str, ...]) -> dict[str, int]:
    """Amounts by name, and what must be free before all optimised pages can be given back: now, and
    when all that is possible is saved.
    """
    now = sums["saved"] + sums["unknown"]
    known = {name: sums.paid if name == "paid" else sums[name] for name in names}
    return {
        **known,
        "kept": sums.kept,
        "restore_headroom": now,
        "restore_headroom_after": now + sums["possible"],
    }


def _row(key: str, sums: Sum) -> dict[str, Any]:
    size = {"size": sums.name} if key == "size" else {}
    name = format_size(sums.name) if key == "size" and sums.name is not None else sums.name
    return {
        "name": name,
        **size,
        "merged": sums.merged,
        "hosts": sums["hosts"],
        **_amounts(sums, _POOL if key == "size" else _HOST),
    }


def answer(
    engine: Engine, raw: ibis.Table, where: str, most: int, phase: Callable[[str], None]
) -> tuple[Answer, Tally]:
    """The answer about the inventory `raw`, read from `where`, with at most so many rows in each
    list -> it, and what it is made of.

    Raises `HvoError` where a column is missing that must be there, and where the engine fails.
    `phase` is told what is being done.
    """
    require_columns(raw.columns, where)
    found = tally(engine, raw, phase)
    phase("looking for the hosts where most is possible")
    hosts = by_host(engine, found)
    by = {key: largest(engine, hosts, key, most) for key in ("group", "kernel", "arch")}
    by["size"] = largest(engine, by_pool(found, "hugepage_size"), "hugepage_size", most)
    impossible = largest(engine, by_pool(found, "why").filter(_.why != ""), "why", most)
    total, rejected = whole(engine, hosts), rejects(engine, found)
    first = (
        tuple(
            engine.rows(rejected_rows(found).select("file", "line", "host", "reason").limit(_SOME))
        )
        if rejected
        else ()
    )
    return (
        Answer(
            engine.number(raw.count()),
            rejected,
            total,
            by,
            impossible,
            _actions(total),
            defects(engine, hosts, found),
            tuple(map(_top, top_hosts(engine, found, most))),
            first,
        ),
        found,
    )


def _actions(total: Sum) -> tuple[Action, ...]:
    """What gains something, the most first; finding out gains nothing yet."""
    found = (
        Action(name, *_WHAT[name], total[f"{name}_hosts"], total[name])
        for name in ACTIONS
        if total[name]
    )
    return tuple(sorted(found, key=lambda action: (action.action == "find_out", -action.gain)))


def _top(row: dict[str, Any]) -> dict[str, Any]:
    """A host, and the one thing to do there."""
    action = next((name for name in ACTIONS if name != "change_size" and row[name]), None)
    shown = {name: row[name] for name in ("host", "group", "kernel")}
    amounts = {name: row[name] for name in ("saved", "possible", "unknown", "impossible")}
    return {
        **shown,
        "arch": row["name"],
        "memory": row["memory"],
        "paid": row["memmap"] - row["saved"],
        **amounts,
        "action": action,
    }
