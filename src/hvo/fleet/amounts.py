"""Bytes paid, saved, possible and impossible of each row, and what each action would gain on it."""

from typing import Any

import ibis
from ibis import _

from hvo.fleet import rules
from hvo.fleet.expressions import given

ACTIONS = ("switch_on", "convert", "find_out", "upgrade", "change_size")
"""What can be done; each is the only one on its rows but `change_size`, which comes on top."""
AMOUNTS = (
    "memory_kib",
    "pool_kib",
    "memmap",
    "cost",
    "saved",
    "possible",
    "unknown",
    "impossible",
    "table_cost",
    *ACTIONS,
)
"""Bytes, but memory and pools, which are in KiB: in bytes their sums would not fit in 64 bits.

`memmap`: struct pages of all memory, nothing optimised; `cost`: those of pools alone, of which
`saved` are given back, `possible` would be, `unknown` are one or the other, and `impossible` cannot
be. The actions are what each would gain.
"""
HOST_ONLY = ("memory_kib", "memmap")
"""Amounts that are of a host and not of a pool."""


def with_amounts(rows: ibis.Table) -> ibis.Table:
    """`measured` rows, joined with what is known of their kind, with `AMOUNTS`, and `because` and
    `why` of what is impossible.

    `problem` becomes the rule of a kind where a row breaks only such a one; `unexpected` is whether
    its kernel optimises though it is not known to.
    """
    shown = (_.optimized_low > 0) & (_.newest == 0) & (_.largest > 0)
    problem = ibis.cases(
        (_.problem != 0, _.problem),
        (_.broken != 0, _.broken),
        (shown, rules.NOT_OPTIMIZABLE),
        else_=0,
    ).cast("int32")
    rows = rows.mutate(problem=problem, unexpected=_.has & ~_.offered).mutate(
        has=ibis.coalesce(_.has, _.offered)
    )
    rows = rows.mutate(can=_.has & (_.freed > 0))
    rows = rows.mutate(hosted=ibis.least(_.self_hosted, _.pages - _.optimized_high))
    rows = rows.mutate(
        because=_reason("memory", _.because, "kernel"),
        why=_reason(
            "it lies in memory that hosts its own vmemmap",
            _.why,
            "the host says that its kernel cannot",
        ),
        memory_kib=_.base_pages * (_.page_size // 1024),
        pool_kib=_.pages * (_.hugepage_size // 1024),
        memmap=_.described * _.struct_page_size,
        cost=_.pages * _.cost,
        saved=given(_.can, _.optimized_low * _.freed),
        possible=given(_.can, (_.pages - _.optimized_high - _.hosted) * _.freed),
        unknown=given(_.can, (_.optimized_high - _.optimized_low) * _.freed),
        impossible=ibis.ifelse(
            _.can,
            _.hosted * _.freed,
            _.pages * ibis.ifelse(_.newest > 0, _.newest, _.cost),
        ),
        table_cost=given(_.can, _.tables * _.page_size),
    )
    return rows.mutate(**_gains())


def _reason(of_memory: str, known: Any, otherwise: str) -> Any:
    """Why some of a pool is impossible, "" for none: what is `known` of its kind, or its memory."""
    return ibis.cases(
        (_.can & (_.hosted > 0), of_memory),
        (_.can | (_.pages == 0), ""),
        else_=known.nullif("").fill_null(otherwise),
    )


def _gains() -> dict[str, Any]:
    """What each action would gain.

    A kernel with a defect that loses pages is to be replaced before anything else is done on it.
    """
    sound, newer = _.can & (_.defect == ""), _.pages * (_.newest - _.freed)
    upgrade = ibis.cases(
        (~_.has & _.upgrade, _.pages * _.newest),
        (_.can & (_.defect != ""), _.possible),
        (_.can, newer),
        else_=0,
    )
    return {
        "switch_on": given(sound & (_.gate == False), _.possible),  # noqa: E712 - null is not false
        "convert": given(sound & _.gate, _.possible),
        "find_out": given(sound & _.gate.isnull(), _.possible) + _.unknown,
        "upgrade": upgrade,
        "change_size": given(
            _.has & (_.defect == "") & (_.largest > _.hugepage_size) & (_.hugepage_size > 0),
            _.larger * _extra(),
        ),
    }


def _extra() -> Any:
    """What one of the largest pages gives back more than the pages in its place."""
    return _.largest_freed - _.largest // _.hugepage_size.nullif(0) * _.freed
