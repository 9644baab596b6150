"""Memory blocks that host their own vmemmap (`memory_hotplug.memmap_on_memory`, 5.14): the kernel
optimises no HugeTLB page in them, so nothing is possible there.

sysfs says that blocks may be such, not which are. Only hot-added memory can be; from 6.11 on the
kernel counts the memory map that it had at boot: the rest is hot-added. While the optimisation is
on the kernel optimises every page that it allocates elsewhere, so the pages that are not optimised
are taken for such as far as that memory has room.
"""

from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.host import procfs
from hvo.host.kernel import Kernel
from hvo.host.memmap_on_memory import is_on
from hvo.host.optimized import Estimate
from hvo.host.pools import Pool
from hvo.host.tree import Tree
from hvo.layout.units import format_size

WHY = "memory blocks that host their own vmemmap (memmap_on_memory), which no kernel optimises"
"""What such pages lie in."""


@dataclass(frozen=True)
class Hosted:
    """How many pages of a pool lie in such blocks, at least and at most, and how many are taken
    for such.
    """

    low: int
    high: int
    presumed: int


def hosted(tree: Tree, kernel: Kernel, pool: Pool, known: Estimate) -> Hosted:
    """The pages of `pool`, of which `known` are optimised, that lie in such blocks."""
    if known.self_hosted is not None:
        return Hosted(known.self_hosted, known.self_hosted, known.self_hosted)
    if not is_on(tree) or not kernel.freed_pages(pool.size):
        return Hosted(0, 0, 0)
    most = min(pool.pages - known.low, _room(tree, kernel, pool.size, known.high))
    least = min(most, pool.pages - known.high) if kernel.enabled else 0
    return Hosted(least, most, most if kernel.enabled else 0)


def _room(tree: Tree, kernel: Kernel, size: int, optimized: int) -> int:
    """How many pages of `size` bytes fit into memory that was hot-added; all of memory where the
    kernel does not count its memory map. What `optimized` pages gave back is counted no more.
    """
    present = procfs.present_memory(tree, kernel.page_size) or 0
    boot = procfs.counters(tree, kernel.page_size).boot
    if boot is None:
        return present // size
    boot += optimized * kernel.vmemmap_pages(size) * kernel.page_size
    return max(0, present - kernel.described(boot)) // size


def refuse_hosted(
    tree: Tree, kernel: Kernel, pool: Pool, known: Estimate, action: str, *, force: bool
) -> None:
    """Raise `HvoError` when every page of `pool` that is not optimised lies in such blocks, as far
    as can be told, unless the caller insists.
    """
    missing = pool.pages - known.low
    if force or not missing or hosted(tree, kernel, pool, known).high < missing:
        return
    raise HvoError(
        f"{action}: the {missing} pages of {format_size(pool.size)} that are not optimised lie in"
        f" {WHY}: nothing would be gained; --force does it all the same"
    )
