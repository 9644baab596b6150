"""HugeTLB pools as sysfs shows them, per size and per node.

Sources: Documentation/admin-guide/mm/hugetlbpage.rst; mm/hugetlb.c `set_max_huge_pages()`: what is
read from `nr_hugepages` counts surplus pages too, what is written to it does not.
"""

import re
from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.host.procfs import table
from hvo.host.tree import Tree
from hvo.layout.units import format_size

_SIZES = "/sys/kernel/mm/hugepages"
_MM = "/sys/kernel/mm"
_NODES = "/sys/devices/system/node"
_NAME = re.compile(r"hugepages-([1-9][0-9]{0,11})kB")

Place = tuple[int, int | None]
"""A HugeTLB size in bytes, and a node or `None` for all."""


@dataclass(frozen=True)
class Pool:
    """The pages of one HugeTLB size, on one node or (`node` is `None`) on all."""

    size: int
    """Bytes of one page."""
    node: int | None
    pages: int
    """All pages, surplus ones too."""
    free: int
    surplus: int
    reserved: int | None
    """Free pages promised to mappings that have not touched them; the kernel counts them for all
    nodes together only.
    """
    overcommit: int | None
    """How many surplus pages may be taken beyond the pool; `None` for a node."""

    @property
    def in_use(self) -> int:
        """Pages that somebody has mapped or filled."""
        return self.pages - self.free

    @property
    def busy(self) -> int:
        """Pages that are in use or reserved: nobody may take them away."""
        return self.in_use + (self.reserved or 0)

    @property
    def persistent(self) -> int:
        """Pages that the pool was set to: what is written to `nr_hugepages`."""
        return self.pages - self.surplus

    @property
    def path(self) -> str:
        """The file that sets the pool."""
        return f"{directory(self.size, self.node)}/nr_hugepages"


def directory(size: int, node: int | None) -> str:
    """The sysfs directory of a size, on one node or on all."""
    base = _SIZES if node is None else f"{_NODES}/node{node}/hugepages"
    return f"{base}/hugepages-{size >> 10}kB"


def sizes(tree: Tree) -> list[int]:
    """Bytes of every HugeTLB size that the kernel offers, smallest first; raises `HvoError` where
    that cannot be seen.
    """
    names = (_NAME.fullmatch(name) for name in tree.names(_SIZES))
    found = sorted(int(match.group(1)) << 10 for match in names if match)
    if not found:
        _require_visible(tree)
    return found


def _require_visible(tree: Tree) -> None:
    """Raise `HvoError` unless there really are no pools: containers hide sysfs, or parts of it.

    `/sys/kernel/mm` is there in every kernel that has sysfs; `/proc/meminfo` says `Hugepagesize`
    where there are HugeTLB pages.
    """
    why = tree.hidden(_MM)
    if why is None and "Hugepagesize" not in table(tree.read_or("/proc/meminfo", "")):
        return
    why = why or tree.hidden(_SIZES) or "no size in it, and /proc/meminfo has Hugepagesize"
    raise HvoError(
        f"{tree.path(_SIZES)}: HugeTLB pools cannot be seen ({why}): mount sysfs, or run outside"
        " the container that hides it"
    )


def nodes(tree: Tree, size: int) -> list[int]:
    """The nodes that have pools of `size`; none where the kernel is not built for NUMA."""
    names = (re.fullmatch(r"node([0-9]{1,6})", name) for name in tree.names(_NODES))
    numbers = {int(match.group(1)) for match in names if match}
    return sorted(node for node in numbers if tree.exists(directory(size, node)))


def read_pool(tree: Tree, size: int, node: int | None = None) -> Pool:
    """One pool as it is now; raises `HvoError` that names what there is when the kernel has no such
    size or node.
    """
    place = directory(size, node)
    if not tree.exists(place):
        raise HvoError(_unknown(tree, size, node))
    values = [tree.number(f"{place}/{name}_hugepages") for name in ("nr", "free", "surplus")]
    if node is not None:
        return Pool(size, node, *values, reserved=None, overcommit=None)
    reserved, overcommit = (
        tree.number(f"{place}/{name}_hugepages") for name in ("resv", "nr_overcommit")
    )
    return Pool(size, node, *values, reserved=reserved, overcommit=overcommit)


def _unknown(tree: Tree, size: int, node: int | None) -> str:
    known = sizes(tree)
    if size not in known:
        return (
            f"HugeTLB size {format_size(size)}: this kernel has"
            f" {', '.join(map(format_size, known)) or 'none'}"
        )
    return f"node {node}: this host has {', '.join(map(str, nodes(tree, size))) or 'no nodes'}"


def read_pools(tree: Tree) -> list[Pool]:
    """Every pool: per size the one of all nodes, then each node's where there is more than one."""
    found: list[Pool] = []
    for size in sizes(tree):
        found.append(read_pool(tree, size))
        numbers = nodes(tree, size)
        found += [read_pool(tree, size, node) for node in numbers if len(numbers) > 1]
    return found


def settable(tree: Tree, size: int, node: int | None) -> list[Pool]:
    """The pools that a change of `size` is done on: the node asked for, else every node, else the
    one of all where there are no nodes.
    """
    if not sizes(tree) or node is not None:
        return [read_pool(tree, size, node)]
    return [read_pool(tree, size, number) for number in nodes(tree, size)] or [
        read_pool(tree, size)
    ]


def stuck(pools: list[Pool], total: Pool) -> int:
    """Surplus pages that nobody uses or was promised, of the `pools` that `settable` gives: the
    kernel could not give them back.

    A surplus page goes when its last user does. It stays, free, only when its struct pages could
    not be allocated again; `total` says how many free pages are promised.
    """
    return min(
        max(0, total.free - (total.reserved or 0)),
        sum(min(pool.surplus, pool.free) for pool in pools),
    )


def default_size(tree: Tree) -> int:
    """Bytes of the kernel's default HugeTLB size; raises `HvoError` when it has none."""
    size = table(tree.read("/proc/meminfo")).get("Hugepagesize")
    if size is None:
        raise HvoError(
            f"{tree.path('/proc/meminfo')}: expected Hugepagesize; this kernel has no HugeTLB pages"
        )
    return size
