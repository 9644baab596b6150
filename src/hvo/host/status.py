"""What struct pages cost on a host, what the optimisation saves, what it still could, and what to
do about it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from hvo.errors import HvoError
from hvo.host import procfs
from hvo.host.advice import Advice, Row, advise, is_gigantic
from hvo.host.converted import noted
from hvo.host.journal import LOCK, OWN, load
from hvo.host.kernel import Kernel, read_kernel
from hvo.host.memmap_on_memory import is_on
from hvo.host.optimized import Estimate, estimate, of_node
from hvo.host.pools import Place, Pool, read_pools, stuck
from hvo.host.procfs import Counters
from hvo.host.self_hosted import WHY, Hosted, hosted
from hvo.host.tree import Tree
from hvo.layout.releases import Defect
from hvo.layout.units import format_size

_LIVE = "live"
"""As `hvo.memory.target` has it, which takes as long to import as all else takes to run."""


@dataclass(frozen=True)
class PoolStatus:
    """One pool and what its struct pages cost; sizes in bytes."""

    pool: Pool
    optimized: Estimate
    cost_per_page: int
    """Struct pages of one page that is not optimised."""
    saved_per_page: int
    """What optimising one page gives back; 0 where it cannot be."""
    hosted: Hosted
    """Pages in memory that hosts its own vmemmap."""

    @property
    def cost(self) -> int:
        """Bytes of struct pages with nothing optimised."""
        return self.pool.pages * self.cost_per_page

    @property
    def paid(self) -> tuple[int, int]:
        """Bytes that struct pages take now, at least and at most."""
        return self.cost - self.saved[1], self.cost - self.saved[0]

    @property
    def saved(self) -> tuple[int, int]:
        """Bytes saved now, at least and at most."""
        return self.optimized.low * self.saved_per_page, self.optimized.high * self.saved_per_page

    @property
    def possible(self) -> tuple[int, int]:
        """Bytes that optimising the rest would give back, at least and at most."""
        least = max(0, self.pool.pages - self.optimized.high - self.hosted.high)
        most = max(0, self.pool.pages - self.optimized.low - self.hosted.presumed)
        return least * self.saved_per_page, most * self.saved_per_page

    def to_json(self) -> dict[str, Any]:
        """Counts of pages and bytes; `optimized`, `paid`, `saved` and `possible` are `null` when
        only their bounds are known.
        """
        pool = self.pool
        row = {
            name: getattr(pool, name)
            for name in (
                "size",
                "node",
                "pages",
                "free",
                "in_use",
                "reserved",
                "surplus",
                "overcommit",
            )
        }
        row["cost"] = self.cost
        row["self_hosted_low"], row["self_hosted_high"] = self.hosted.low, self.hosted.high
        optimized = self.optimized.low, self.optimized.high
        for name, bounds in (
            ("optimized", optimized),
            ("paid", self.paid),
            ("saved", self.saved),
            ("possible", self.possible),
        ):
            row |= {
                name: bounds[0] if bounds[0] == bounds[1] else None,
                f"{name}_low": bounds[0],
                f"{name}_high": bounds[1],
            }
        return row | {"source": self.optimized.source, "reason": self.optimized.reason}


@dataclass(frozen=True)
class Status:
    """The state of a host."""

    host: str | None
    """Its name, `None` where it has none or that cannot be read."""
    memory: int | None
    """Bytes of memory that are present, `None` where that cannot be read."""
    kernel: Kernel
    pools: tuple[PoolStatus, ...]
    """Per size the pool of all nodes, then each node's where there are several."""
    memmap: Counters
    advice: tuple[Advice, ...]

    def to_json(self) -> dict[str, Any]:
        """The contract of `hvo status --json`; memory map sizes are `null` on kernels that do not
        count them.
        """
        kernel = {
            name: getattr(self.kernel, name)
            for name in ("release", "arch", "page_size", "supports", "enabled", "reason")
        }
        kernel["defects"] = [
            *(_defect(defect, certain=True) for defect in self.kernel.defects),
            *(_defect(each.defect, certain=each.certain) for each in self.kernel.suspected),
        ]
        return {
            "host": self.host,
            "memory": self.memory,
            "kernel": kernel,
            "pools": [pool.to_json() for pool in self.pools],
            "memmap": {
                "boot": self.memmap.boot,
                "runtime": self.memmap.runtime,
                "total": self.memmap.memmap,
            },
            "mem_total": self.memmap.mem_total,
            "advice": [asdict(advice) for advice in self.advice],
        }


def read_status(tree: Tree, memory: str | None = None) -> Status:
    """The state of the host in `tree`; reads only, and needs no privilege.

    With `memory` (`live`, or a core of the host) page tables are looked at where the counters leave
    bounds; raises `HvoError` when they cannot be read.
    """
    if memory == _LIVE:
        tree.require_running("--audit live reads the memory of the running kernel")
    kernel, pools = read_kernel(tree), read_pools(tree)
    estimates = _estimates(tree, kernel, pools, memory)
    rows: list[PoolStatus] = []
    for pool in pools:
        known = estimates[pool.size, pool.node]
        cost = pool.size // kernel.page_size * 64
        saved = kernel.freed_pages(pool.size) * kernel.page_size
        rows.append(PoolStatus(pool, known, cost, saved, hosted(tree, kernel, pool, known)))
    advice = (
        *_interrupted(tree),
        *advise(kernel, list(_totals(tree, rows))),
        *_suspected(kernel, rows),
        *(advice for row in rows for advice in _in_hosted_memory(row)),
        *_unsure(tree, rows, memory),
    )
    name, memory_present = procfs.hostname(tree), procfs.present_memory(tree, kernel.page_size)
    return Status(
        name, memory_present, kernel, tuple(rows), procfs.counters(tree, kernel.page_size), advice
    )


def _totals(tree: Tree, rows: list[PoolStatus]) -> Iterator[Row]:
    """What advice is given on: every size on all nodes."""
    for row in rows:
        size = row.pool.size
        if row.pool.node is None:
            nodes = [
                other.pool
                for other in rows
                if other.pool.size == size and other.pool.node is not None
            ] or [row.pool]
            yield Row(
                row.pool,
                row.optimized,
                row.saved_per_page,
                stuck(nodes, row.pool),
                noted(tree, size),
                row.hosted.presumed,
            )


def _defect(defect: Defect, *, certain: bool) -> dict[str, Any]:
    return asdict(defect) | {"certain": certain}


def _suspected(kernel: Kernel, rows: list[PoolStatus]) -> Iterator[Advice]:
    """Defects that only concern gigantic pages which the kernel optimised while it booted."""
    gigantic = any(is_gigantic(kernel, row.pool.size) and row.pool.pages for row in rows)
    if gigantic and kernel.reserves_at_boot and kernel.on_at_boot:
        for each in kernel.suspected:
            text = f"defect {each.defect.id} of this kernel: {each.said}"
            yield Advice(text, None, 0)


def _in_hosted_memory(row: PoolStatus) -> Iterator[Advice]:
    """Why nothing is advised for pages that are not optimised."""
    least, most = row.hosted.low, row.hosted.high
    if row.pool.node is None and most:
        pages = str(most) if least == most else f"up to {most}"
        size = format_size(row.pool.size)
        yield Advice(f"{pages} pages of {size} lie in {WHY}: nothing to convert there", None, 0)


def _interrupted(tree: Tree) -> Iterator[Advice]:
    """What to do about a journal, which must not keep anybody from seeing the pools: it may be
    damaged.
    """
    if tree.running and tree.exists(OWN) and tree.hidden(OWN):
        text = "what earlier commands have left, and whether one is running, is shown to root only"
        yield Advice(text, None, 0)
        return
    try:
        journal = load(tree)
    except HvoError as error:
        yield Advice(str(error), None, 0)
        return
    if journal and tree.locked(LOCK):
        yield Advice(f"hvo {journal.command} is running: figures are those of a moment", None, 0)
    elif journal:
        again = "hvo convert --resume" if journal.command == "convert" else "hvo convert --undo"
        yield Advice(
            f"hvo {journal.command} was interrupted: its pool may not be as it was", again, 0
        )


def _unsure(tree: Tree, rows: list[PoolStatus], memory: str | None) -> Iterator[Advice]:
    """How to find out what the counters leave open, for one who may."""
    if (
        memory is None
        and tree.running
        and tree.readable("/proc/kcore")
        and any(row.pool.node is None and row.optimized.exact is None for row in rows)
    ):
        yield Advice(
            "how many pages are optimised is known within bounds only: page tables tell",
            "hvo status --audit live",
            0,
        )


def _estimates(
    tree: Tree, kernel: Kernel, pools: list[Pool], memory: str | None
) -> dict[Place, Estimate]:
    """The best that is known of each pool."""
    totals = {pool.size: pool for pool in pools if pool.node is None}
    by_size = estimate(tree, kernel, list(totals.values()))
    found: dict[Place, Estimate] = {
        (pool.size, None): by_size[pool.size] for pool in totals.values()
    }
    found |= {
        (pool.size, pool.node): of_node(by_size[pool.size], pool, totals[pool.size].pages)
        for pool in pools
        if pool.node is not None
    }
    blind = is_on(tree)  # which blocks host their own vmemmap only page tables say
    unsure = [pool for pool in pools if blind or found[pool.size, pool.node].exact is None]
    if memory and unsure:
        from hvo.host.audited import (
            audited,
        )  # late: it takes as long to import as all else takes to run

        found |= audited(memory, unsure)
    return found
