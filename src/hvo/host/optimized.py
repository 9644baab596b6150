"""How many pages of each pool are optimised, as far as the kernel's counters tell.

Each optimised page of a size takes a fixed number of pages out of `nr_memmap_pages +
nr_memmap_boot_pages` (6.11 and later), and what the sum is with none optimised follows from the
present memory. With one size in use that is one equation with one unknown. Otherwise, and on older
kernels, the answer is an interval, and says why.
"""

import re
from dataclasses import dataclass

from hvo.host import procfs
from hvo.host.kernel import Kernel
from hvo.host.memmap_on_memory import uncounted_blocks
from hvo.host.pools import Pool
from hvo.host.tree import Tree

# Boot parameters that give every section a page_ext table, which the kernel counts as memory map as
# well (mm/page_ext.c).
_PAGE_EXT = re.compile(r"\b(page_owner|page_table_check|sysctl\.vm\.mem_profiling)=(on|1)\b")
_PAGE_EXT_OPTIONS = (
    "CONFIG_MEM_ALLOC_PROFILING_ENABLED_BY_DEFAULT",
    "CONFIG_PAGE_TABLE_CHECK_ENFORCED",
)

CONTRADICTION = "the memory map counters do not fit the pools: something else is counted with them"
"""The reason of an estimate when no number of optimised pages explains the counters."""


@dataclass(frozen=True)
class Estimate:
    """Between how many and how many pages of a pool are optimised, and how that is known."""

    low: int
    high: int
    source: str
    """`kernel`, `counters`, or `none` where nothing tells."""
    reason: str
    self_hosted: int | None = None
    """Pages in memory blocks that host their own vmemmap, None if nothing tells."""

    @property
    def exact(self) -> int | None:
        """The number, when it is certain."""
        return self.low if self.low == self.high else None


def estimate(tree: Tree, kernel: Kernel, totals: list[Pool]) -> dict[int, Estimate]:
    """The estimate of every size; `totals` are the pools of all nodes, one a size."""
    weights = {pool.size: kernel.freed_pages(pool.size) for pool in totals}
    asked = [pool for pool in totals if weights[pool.size] and pool.pages]
    found = {
        pool.size: _none(kernel, pool, weights[pool.size]) for pool in totals if pool not in asked
    }
    obstacle, missing = _missing_pages(tree, kernel)
    if missing is not None:
        unknown = [(weights[pool.size], pool.pages) for pool in asked]
        blocks = uncounted_blocks(tree, kernel)
        solved, why = _solve(missing, unknown), _ambiguous(missing, len(asked))
        if solved is None and blocks:
            solved = (_solve(missing, [*unknown, blocks]) or [])[:-1] or None
            why = "memory blocks that host their own vmemmap are not counted (memmap_on_memory)"
        if solved is not None:
            if all(low == high for low, high in solved):
                why = "memory map counters"
            return found | {
                pool.size: Estimate(*bounds, "counters", why)
                for pool, bounds in zip(asked, solved, strict=True)
            }
        obstacle = CONTRADICTION
    return found | {pool.size: Estimate(0, pool.pages, "none", obstacle) for pool in asked}


def of_node(total: Estimate, pool: Pool, all_pages: int) -> Estimate:
    """What the estimate for a size says of the pool of one node; `all_pages` is the size's number
    of pages on all nodes.
    """
    low, high = max(0, total.low - (all_pages - pool.pages)), min(pool.pages, total.high)
    reason = (
        total.reason
        if low == high or total.exact is None
        else "the counters are those of all nodes together"
    )
    return Estimate(low, high, total.source, reason)


def _none(kernel: Kernel, pool: Pool, weight: int) -> Estimate:
    if not pool.pages:
        return Estimate(0, 0, "kernel", "the pool is empty")
    return Estimate(
        0,
        0,
        "kernel",
        kernel.reason if not kernel.supports or weight else "too small to be optimised",
    )


def _missing_pages(tree: Tree, kernel: Kernel) -> tuple[str, tuple[int, int] | None]:
    """How many memory map pages are missing, least and most; `None` and the reason where that
    cannot be known.
    """
    memmap = procfs.counters(tree, kernel.page_size).memmap
    if memmap is None:
        return "the kernel does not count its memory map (nr_memmap_pages came with 6.11)", None
    if kernel.section_size is None:
        return f"the section size of {kernel.arch} is not known", None
    if _counts_more(tree, kernel):
        return "the kernel counts page_ext or device memory with its memory map", None
    least, most = procfs.memory_map_pages(tree, kernel.section_size, kernel.page_size)
    return "", (least - memmap // kernel.page_size, most - memmap // kernel.page_size)


def _counts_more(tree: Tree, kernel: Kernel) -> bool:
    """Whether anything but the struct pages of RAM is in the counters."""
    extended = _PAGE_EXT.search(tree.read_or("/proc/cmdline", "")) or any(
        name in (kernel.options or {}) for name in _PAGE_EXT_OPTIONS
    )
    return bool(extended) or any(
        zone.name == "Device" and zone.spanned for zone in procfs.zones(tree)
    )


def _solve(missing: tuple[int, int], pools: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Bounds of every n with `sum(weight * n) in missing` and `0 <= n <= pages`, for (weight,
    pages) of each pool; `None`: there is none.

    Each unknown is bounded by the extremes of the others until nothing changes any more.
    """
    bounds = [(0, pages) for _, pages in pools]
    before: list[tuple[int, int]] = []
    while before != bounds:
        before = list(bounds)
        for number, (weight, _) in enumerate(pools):
            rest = [
                (other[0], bound)
                for at, (other, bound) in enumerate(zip(pools, bounds, strict=True))
                if at != number
            ]
            most_rest, least_rest = (
                sum(each * high for each, (_, high) in rest),
                sum(each * low for each, (low, _) in rest),
            )
            low, high = -(-(missing[0] - most_rest) // weight), (missing[1] - least_rest) // weight
            bounds[number] = max(bounds[number][0], low), min(bounds[number][1], high)
            if bounds[number][0] > bounds[number][1]:
                return None
    return bounds if pools or missing[0] <= 0 <= missing[1] else None


def _ambiguous(missing: tuple[int, int], sizes: int) -> str:
    if missing[0] != missing[1]:
        return (
            "how much memory has struct pages is not known exactly (run as root to read"
            " /proc/iomem)"
        )
    return f"one counter for {sizes} sizes: more than one combination gives its value"
