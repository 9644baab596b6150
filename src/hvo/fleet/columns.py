"""The columns of an inventory: one row is a host without HugeTLB pages, or one pool of a host.

What is said of a host (architecture, kernel, memory, switch, group) stands in each of its rows, and
is counted once.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from hvo.errors import HvoError


class Column(NamedTuple):
    """One column: `kind` of its values, whether it must be there, and what its values and their
    absence mean.
    """

    name: str
    kind: Literal["text", "size", "count", "switch"]
    required: bool
    meaning: str
    absent: str


COLUMNS = (
    Column("host", "text", True, "Name of the host.", "the row is rejected"),
    Column(
        "group",
        "text",
        False,
        "Group for breakdowns: a site, a role, an owner.",
        "the group without a name",
    ),
    Column(
        "arch",
        "text",
        True,
        "Architecture: `x86_64`, `arm64`, `riscv64`, `loongarch64` or another.",
        "the row is rejected",
    ),
    Column(
        "kernel",
        "text",
        True,
        "Release of the kernel, as `uname -r` prints it.",
        "the row is rejected",
    ),
    Column("page_size", "size", True, "Base page size.", "the row is rejected"),
    Column("struct_page_size", "size", False, "`sizeof(struct page)`.", "64"),
    Column("memory", "size", True, "Memory of the host.", "the row is rejected"),
    Column(
        "hugepage_size", "size", False, "HugeTLB page size of the pool.", "a host without a pool"
    ),
    Column(
        "pages",
        "count",
        False,
        "Pages of the pool, on `node` or on all nodes.",
        "0 without a pool, else the row is rejected",
    ),
    Column("node", "count", False, "NUMA node of the pool.", "all nodes together"),
    Column(
        "supported",
        "switch",
        False,
        "Whether the kernel can optimise, as the host reports it.",
        "looked up by kernel and arch",
    ),
    Column("gate", "switch", False, "Whether `vm.hugetlb_optimize_vmemmap` is on.", "not known"),
    Column(
        "optimized",
        "count",
        False,
        "Optimised pages of the pool, if known exactly.",
        "between the two bounds below",
    ),
    Column("optimized_min", "count", False, "Lower bound of the optimised pages.", "0"),
    Column(
        "optimized_max",
        "count",
        False,
        "Upper bound of the optimised pages.",
        "all pages of the pool",
    ),
    Column(
        "self_hosted",
        "count",
        False,
        "Pages of the pool in memory blocks that host their own vmemmap (`memmap_on_memory`), which"
        " no kernel optimises.",
        "0",
    ),
)
"""Every column, in the order in which inventories are written."""
NAMES = tuple(column.name for column in COLUMNS)
"""The names alone."""
LINE, FILE, MALFORMED, HOSTS = "hvo_line", "hvo_file", "hvo_malformed", "hvo_hosts"
"""What is added to a row: its line, from 1, and its file, why it is no row at all, and of how many
hosts it is.
"""
ADDED = "hvo_"
"""How the names of such columns begin."""
KINDS = {
    "text": "text",
    "size": "bytes, as a number or as `2MiB`",
    "count": "a whole number",
    "switch": "true or false, also `on`, `off`, 1, 0, `yes`, `no`",
}
"""What values of each kind look like, for people."""


def require_columns(found: Iterable[str], where: str) -> None:
    """Raise `HvoError` that lists what is missing unless an inventory has every required column."""
    there = list(found)
    missing = [column.name for column in COLUMNS if column.required and column.name not in there]
    if missing:
        has = ", ".join(name for name in there if not name.startswith(ADDED)) or "none"
        raise HvoError(
            f"{where}: no column {', '.join(missing)} (it has {has}); docs/inventory.md says what"
            " an inventory is"
        )
