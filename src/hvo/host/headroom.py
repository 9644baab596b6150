"""The restore headroom: what free memory giving optimised pages back needs first.

Before the kernel can give an optimised HugeTLB page back, it allocates the frames of its vmemmap
again: on the page's node, from memory that kernel pages may use. When it cannot, the page stays in
the pool as surplus (mm/hugetlb_vmemmap.c `hugetlb_vmemmap_restore_folio()`).
"""

from dataclasses import dataclass

from hvo.host import procfs
from hvo.host.kernel import Kernel
from hvo.host.optimized import Estimate, of_node
from hvo.host.pools import Pool
from hvo.host.tree import Tree
from hvo.layout.deal import deal
from hvo.layout.units import format_size


@dataclass(frozen=True)
class Headroom:
    """One node's need, in bytes."""

    node: int
    pages: int
    """HugeTLB pages that leave the node."""
    needed: int
    """At most: as many of them as may be optimised are counted."""
    available: int
    """Free memory outside movable zones, above their low watermarks."""

    @property
    def enough(self) -> bool:
        """Whether every page can be restored without reclaiming anything."""
        return self.needed <= self.available

    @property
    def sentence(self) -> str:
        """What is short, for people."""
        need, have = format_size(self.needed), format_size(self.available)
        need_sentence = (
            f"node {self.node}: giving {self.pages} pages back may need {need} for their struct"
            " pages"
        )
        return f"{need_sentence}, and {have} are free outside movable zones"


def restore_headroom(
    tree: Tree, kernel: Kernel, total: Pool, known: Estimate, leaving: dict[int, Pool], pages: int
) -> list[Headroom]:
    """The need of each node when `pages` free pages are given back from the pools `leaving`, the
    kernel taking one from each in turn.
    """
    available = available_per_node(tree, kernel)
    found: list[Headroom] = []
    for node, count in deal({number: pool.free for number, pool in leaving.items()}, pages).items():
        on_node = of_node(known, leaving[node], total.pages)
        needed = min(count, on_node.high) * kernel.freed_pages(total.size) * kernel.page_size
        found.append(Headroom(node, count, needed, available.get(node, 0)))
    return found


def available_per_node(tree: Tree, kernel: Kernel) -> dict[int, int]:
    """Free bytes of each node in zones that kernel pages may come from, above the low watermark."""
    free: dict[int, int] = {}
    for zone in procfs.zones(tree):
        if zone.holds_kernel_pages:
            free[zone.node] = (
                free.get(zone.node, 0) + max(0, zone.free - zone.low) * kernel.page_size
            )
    return free
