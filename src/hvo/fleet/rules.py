"""What makes a row of an inventory one that cannot be right: each rule has a number, which rejected
rows carry, and a sentence.

Rules of a row are expressions over typed rows. Those of a kind are asked once for all rows that
agree in architecture, kernel and sizes (`hvo.fleet.kinds`), those of a host need all its rows
(`hvo.fleet.several`).
"""

from typing import Any

import ibis
from ibis import _

from hvo.fleet.columns import COLUMNS, KINDS, MALFORMED
from hvo.fleet.expressions import first_known

_MOST_MEMORY = 1 << 52  # no architecture has physical addresses of more than 52 bits
_LEAST_PAGE = 1 << 10
# A huge page is a power of two, so that the product of floats is exact; as integers it might not
# fit.
_POOL = _.pages.cast("float64") * _.hugepage_size.cast("float64")
_LOW, _HIGH = (
    first_known(_.optimized, _.optimized_min, 0),
    first_known(_.optimized, _.optimized_max, _.pages, 0),
)
_BROKEN: tuple[tuple[str, Any], ...] = (
    ("host: it is missing", _.host.isnull() | (_.host == "")),
    *(
        (f"{name}: it is missing", _[name].isnull())
        for name in ("arch", "kernel", "page_size", "memory")
    ),
    ("memory: expected from 1KiB to 4PiB", ~_.memory.between(_LEAST_PAGE, _MOST_MEMORY)),
    (
        "pages: there are some, and no hugepage_size",
        (_.hugepage_size.fill_null(0) == 0) & (_.pages != 0),
    ),
    ("pages: it is missing", _.hugepage_size.notnull() & _.pages.isnull()),
    ("pages: fewer than none", _.pages < 0),
    ("pages: the pool is larger than memory", _.memory.cast("float64") < _POOL),
    ("node: below 0", _.node < 0),
    (
        "optimized: expected 0 <= optimized_min <= optimized <= optimized_max <= pages",
        (_LOW < 0)
        | (_LOW > _HIGH)
        | (_.pages.fill_null(0) < _HIGH)
        | (_.optimized < _.optimized_min)
        | (_.optimized > _.optimized_max),
    ),
    (
        "self_hosted: expected 0 to pages",
        (_.self_hosted < 0) | (_.self_hosted > _.pages.fill_null(0)),
    ),
)
(
    NO_ARCH,
    NO_VERSION,
    PAGE_SIZE,
    NO_BASE_PAGE,
    STRUCT_PAGE_SIZE,
    HUGEPAGE_SIZE,
    NO_SUCH_SIZE,
    NOT_OPTIMIZABLE,
) = range(101, 109)
"""Rules of a kind."""
DIFFERENT_HOSTS, SAME_POOL_TWICE, ALL_AND_SINGLE_NODES, POOLS_LARGER_THAN_MEMORY = range(201, 205)
"""Rules of a host."""
_MALFORMED = -1
_FIRST = 1 + len(COLUMNS)
SENTENCES = {
    _MALFORMED: "the line is no row",
    **{
        number: f"{column.name}: expected {KINDS[column.kind]}"
        for number, column in enumerate(COLUMNS, 1)
        if column.kind != "text"
    },
    **{_FIRST + number: sentence for number, (sentence, _broken) in enumerate(_BROKEN)},
    NO_ARCH: "arch: it is missing",
    NO_VERSION: "kernel: expected a release that begins with a version, such as 6.12.94-amd64",
    PAGE_SIZE: "page_size: expected a power of two from 1KiB to 1MiB",
    NO_BASE_PAGE: "page_size: the architecture has no such base page",
    STRUCT_PAGE_SIZE: "struct_page_size: expected from 1 byte to one base page",
    HUGEPAGE_SIZE: "hugepage_size: expected a power of two larger than page_size",
    NO_SUCH_SIZE: "hugepage_size: the architecture has no such HugeTLB page with this base page",
    NOT_OPTIMIZABLE: "optimized: pages of this size cannot be optimised by any kernel",
    DIFFERENT_HOSTS: (
        "host: its rows differ in arch, kernel, page_size, struct_page_size, memory, group,"
        " supported or gate"
    ),
    SAME_POOL_TWICE: "host: two rows for the same pool, or two without a pool",
    ALL_AND_SINGLE_NODES: "host: rows for all nodes and for single nodes of the same pool",
    POOLS_LARGER_THAN_MEMORY: "host: its pools together are larger than memory",
}
"""What is said of a row that breaks a rule, by the number of the rule."""


def problem() -> Any:
    """The number of the first rule that a typed row breaks, 0 where it breaks none: a deferred
    expression.
    """
    tests = [(broken, _FIRST + number) for number, (_sentence, broken) in enumerate(_BROKEN)]
    return ibis.cases((_.unreadable != 0, _.unreadable), *tests, else_=0).cast("int32")


def reason(number: Any, rows: ibis.Table) -> Any:
    """The sentence of a column of rule numbers; of a line that is no row, what its reader said."""
    said = ibis.cases(
        *((number == each, sentence) for each, sentence in SENTENCES.items()), else_=""
    )
    return first_known(rows[MALFORMED], said) if MALFORMED in rows.columns else said
