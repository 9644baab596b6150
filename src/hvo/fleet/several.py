"""Hosts with several rows, brought together: what is said of a host counts once, and what its rows
say must agree.
"""

from typing import Any

import ibis
from ibis import _

from hvo.fleet import rules
from hvo.fleet.amounts import AMOUNTS, HOST_ONLY
from hvo.fleet.expressions import COUNT, grouped, total
from hvo.fleet.rows import HOST


def nameless(raw: ibis.Table) -> Any:
    """Whether a row does not say its host."""
    return raw.host.isnull() | (raw.host.cast("string") == "")


def repeated(raw: ibis.Table) -> ibis.Table:
    """`host` of those that stand in more than one row of an inventory, and of rows that do not say
    one.
    """
    hosts = grouped(raw, "host", rows=COUNT)
    return hosts.filter((_.rows > 1) | nameless(hosts)).select("host")


def one_row_each(pools: ibis.Table) -> ibis.Table:
    """A row for each host: what all its rows say, and the amounts of its pools added up; several
    rows where they contradict each other.
    """
    sums = {name: _[name].max() if name in HOST_ONLY else total(_[name]) for name in AMOUNTS}
    return grouped(pools, "host", *HOST, "name", "defect", **sums)


def conflicts(hosts: ibis.Table, pools: ibis.Table) -> ibis.Table:
    """`host` and `problem` of those whose rows cannot all be right; `hosts` are from
    `one_row_each`.
    """
    places = grouped(pools, "host", "hugepage_size", "node", rows=COUNT)
    sizes = grouped(
        places,
        "host",
        "hugepage_size",
        twice=_.rows.max() > 1,
        mixed=_.node.isnull().any() & (COUNT > 1),
    )
    nodes = grouped(sizes, "host", twice=_.twice.any(), mixed=_.mixed.any())
    differ = grouped(
        hosts, "host", differ=COUNT > 1, kib=_.pool_kib.sum(), memory_kib=_.memory_kib.max()
    )
    tests = (
        (_.differ, rules.DIFFERENT_HOSTS),
        (_.twice, rules.SAME_POOL_TWICE),
        (_.mixed, rules.ALL_AND_SINGLE_NODES),
        (_.kib > _.memory_kib, rules.POOLS_LARGER_THAN_MEMORY),
    )
    found = differ.join(nodes, "host").mutate(problem=ibis.cases(*tests, else_=0).cast("int32"))
    return found.filter(_.problem != 0).select("host", "problem")
