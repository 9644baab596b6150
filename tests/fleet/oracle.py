"""Another way to the same answer: host by host in plain Python, with the amounts of
`hvo.layout.plan`, and no engine.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hvo.fleet.kinds import judge
from hvo.layout.geometry import GEOMETRIES

AMOUNTS = (
    "memory",
    "memmap",
    "pool_bytes",
    "cost",
    "saved",
    "possible",
    "unknown",
    "impossible",
    "table_cost",
)
ACTIONS = ("switch_on", "convert", "find_out", "upgrade", "change_size")


def amounts_of_pool(row: dict[str, Any]) -> dict[str, int]:
    """The amounts of one row, which breaks no rule."""
    huge, pages, struct = (
        row.get("hugepage_size") or 0,
        row.get("pages") or 0,
        row.get("struct_page_size") or 64,
    )
    kind = judge(row["arch"], row["kernel"], row["page_size"], struct, huge)
    low = row.get("optimized", row.get("optimized_min", 0))
    high = row.get("optimized", row.get("optimized_max", pages))
    has = row["supported"] if row.get("supported") is not None else low > 0 or kind.offered
    can, gate = has and kind.freed > 0, row.get("gate")
    shape = GEOMETRIES.get((kind.name, row["page_size"]))
    found = dict.fromkeys((*AMOUNTS, *ACTIONS), 0)
    found |= {"pool_bytes": pages * huge, "cost": pages * kind.cost}
    if can:
        found |= {
            "saved": low * kind.freed,
            "unknown": (high - low) * kind.freed,
            "possible": (pages - high) * kind.freed,
        }
        leaf = shape.vmemmap_leaf if shape else None
        found["table_cost"] = (
            -(-pages * huge // (leaf // struct * row["page_size"])) * row["page_size"]
            if leaf
            else 0
        )
    else:
        found["impossible"] = pages * (kind.newest or kind.cost)
        found["upgrade"] = pages * kind.newest if not has and kind.upgrade else 0
    if can and kind.defect:
        found["upgrade"] = found["possible"]
    elif can:
        found["convert" if gate else "find_out" if gate is None else "switch_on"] = found[
            "possible"
        ]
        found["upgrade"] = pages * (kind.newest - kind.freed)
    found["find_out"] += found["unknown"]
    if has and not kind.defect and 0 < huge < kind.largest:
        found["change_size"] = (
            pages * huge // kind.largest * (kind.largest_freed - kind.largest // huge * kind.freed)
        )
    return found


def of_host(row: dict[str, Any]) -> tuple[int, int]:
    """Memory and the struct pages of a host: whole sections are described, where they are known."""
    name = judge(row["arch"], row["kernel"], row["page_size"], 64, 0).name
    shape = GEOMETRIES.get((name, row["page_size"]))
    unit = shape.section_size if shape else row["page_size"]
    memory, struct = (
        row["memory"] // row["page_size"] * row["page_size"],
        row.get("struct_page_size") or 64,
    )
    plain = replace(GEOMETRIES["x86_64", 4096], page_size=row["page_size"], struct_page_size=struct)
    return memory, plain.cost_bytes(-(-row["memory"] // unit) * unit)


def add_up(rows: Iterable[dict[str, Any]], key: str | None = None) -> dict[Any, dict[str, int]]:
    """The sums of rows that are all sound, by a column or in all (`None`); `hosts` and what is of a
    host count once a host.
    """
    sums: dict[Any, dict[str, int]] = defaultdict(
        lambda: dict.fromkeys((*AMOUNTS, *ACTIONS, "hosts"), 0)
    )
    seen: set[tuple[Any, str]] = set()
    for row in rows:
        name = row.get(key) if key else None
        total = sums[name]
        for amount, value in amounts_of_pool(row).items():
            total[amount] += value
        if (name, row["host"]) not in seen:
            seen.add((name, row["host"]))
            memory, memmap = of_host(row)
            total["hosts"] += 1
            total["memory"] += memory
            total["memmap"] += memmap
    return dict(sums)
