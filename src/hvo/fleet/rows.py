"""Rows of an inventory, judged: each is one pool of a host, or a host without any, or any number of
such that agree in all but the host.
"""

from collections.abc import Callable
from typing import Any

import ibis
from ibis import _

from hvo.fleet import rules
from hvo.fleet.expressions import first_known, given
from hvo.fleet.kinds import ALIASES
from hvo.fleet.typed import typed
from hvo.layout.geometry import GEOMETRIES, Geometry

HOST = ("group", "arch", "kernel", "page_size", "struct_page_size", "memory", "supported", "gate")
"""What is said of a host, and must be the same in all its rows."""


def numbered(raw: ibis.Table) -> ibis.Table:
    """Stored rows with types, what is absent filled in, and `problem`: the rule of a row that one
    breaks, or 0.

    The numbers of a row that breaks one are 0.
    """
    rows = typed(raw).mutate(problem=rules.problem())
    numbers = {
        "memory": _.memory,
        "pages": _.pages,
        "optimized_low": first_known(_.optimized, _.optimized_min),
        "optimized_high": first_known(_.optimized, _.optimized_max, _.pages),
        "self_hosted": _.self_hosted,
    }
    absent = {
        name: first_known(_[name], value)
        for name, value in (("group", ""), ("hugepage_size", 0), ("struct_page_size", 64))
    }
    return rows.mutate(
        **{name: first_known(given(_.problem == 0, number), 0) for name, number in numbers.items()},
        **absent,
    )


def measured(rows: ibis.Table) -> ibis.Table:
    """`numbered` rows with what follows from architecture and sizes.

    `base_pages` of memory, `described` ones that have a struct page (memory is described in whole
    sections), `tables` for the vmemmap leaves of the pool, how many of the `larger` HugeTLB pages
    it could be, and `has`: whether the host has said or shown that its kernel optimises.
    """
    pool, page = _.pages * _.hugepage_size, _.page_size.nullif(0)
    section = _of_shape(lambda shape: shape.section_size).fill_null(page)
    covers = (
        _of_shape(lambda shape: shape.vmemmap_leaf) // _.struct_page_size.nullif(0) * _.page_size
    ).nullif(0)
    return rows.mutate(shape=_shape()).mutate(
        base_pages=_.memory // page,
        described=_whole(_.memory, section) * (section // page),
        tables=_whole(pool, covers).fill_null(0),
        larger=(pool // _of_shape(lambda shape: shape.hugepages[-1].size)).fill_null(0),
        has=first_known(_.supported, ibis.ifelse(_.optimized_low > 0, True, None)),
    )


def _whole(amount: Any, unit: Any) -> Any:
    """How many units hold an amount."""
    return (amount + unit - 1) // unit


def _shape() -> Any:
    """The number of a row's architecture and base page in `GEOMETRIES`, null where it is not
    there.
    """
    spelled = {
        name: [name, *(alias for alias, meant in ALIASES.items() if meant == name)]
        for name, _page in GEOMETRIES
    }
    tests = (
        ((_.page_size == page) & _.arch.isin(spelled[name]), number)
        for number, (name, page) in enumerate(GEOMETRIES)
    )
    return ibis.cases(*tests).cast("int32")


def _of_shape(what: Callable[[Geometry], int | None]) -> Any:
    """A figure of a row's architecture and base page, null where there is none."""
    figures = ((number, what(shape)) for number, shape in enumerate(GEOMETRIES.values()))
    return ibis.cases(
        *((_.shape == number, figure) for number, figure in figures if figure is not None)
    )
