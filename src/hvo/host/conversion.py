"""What a conversion starts from: the pools that it works on, how many pages stay free, and why it
must not begin.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.host.advice import is_gigantic
from hvo.host.free_list import FreeList, Run
from hvo.host.headroom import restore_headroom
from hvo.host.kernel import Kernel, read_kernel, refuse_defect, require_gate
from hvo.host.optimized import Estimate, estimate
from hvo.host.pools import Pool, read_pool, settable, sizes
from hvo.host.progress import Found
from hvo.host.self_hosted import refuse_hosted
from hvo.host.tree import Tree
from hvo.host.windows import planned
from hvo.layout.units import format_size

_BATCH_BYTES = 1 << 30
_SHARE = 8
"""By default one in so many of the free pages stays free, and a batch is no larger than that."""


@dataclass(frozen=True)
class Part:
    """The pool of one node."""

    pool: Pool
    free: int
    """Pages of it that are free and not reserved."""
    reach: int
    """How many of them may be off its free list at once: those on top."""
    runs: tuple[Run, ...] = ()
    """What is known of its free list."""

    @property
    def floor(self) -> int:
        """Pages that are free on the node at every moment."""
        return self.pool.free - self.reach

    @property
    def pages(self) -> int:
        """Pages that are to be rebuilt."""
        known = FreeList(self.runs)
        return sum(run.pages for run in known.pop(self.reach) if not run.rebuilt)


@dataclass(frozen=True)
class Conversion:
    """The pools of one size, and how many of each one's pages may be rebuilt."""

    kernel: Kernel
    total: Pool
    known: Estimate
    parts: tuple[Part, ...]
    batch: int
    keep_free: int

    @property
    def pages(self) -> int:
        """Pages that are given back and taken again, at most."""
        return sum(part.pages for part in self.parts)

    @property
    def left_free(self) -> int:
        """Free pages that are left as they are, so that so many stay free."""
        return sum(part.free - part.reach for part in self.parts)

    def optimised_by(self, rebuilt: int) -> tuple[int, int]:
        """How many pages become optimised when `rebuilt` free pages are rebuilt, at least and at
        most.
        """
        rest = self.total.pages - self.known.high, self.total.pages - self.known.low
        return max(0, rest[0] - (self.total.pages - rebuilt)), min(rest[1], rebuilt)

    def steps(self) -> Iterator[tuple[Pool, int]]:
        """Every batch, with the pool it is taken from."""
        for part in self.parts:
            for pages in planned(part.runs, part.reach, self.batch):
                yield part.pool, pages


def plan_convert(
    tree: Tree,
    size: int,
    node: int | None = None,
    *,
    gigantic: bool = False,
    force: bool = False,
    batch: int | None = None,
    keep_free: int | None = None,
    found: Mapping[int | None, Found] | None = None,
) -> Conversion:
    """What a conversion would work on; raises `HvoError` when it must not be done."""
    kernel, total = read_kernel(tree), read_pool(tree, size)
    require_gate(kernel)
    _refuse(kernel, total, gigantic, force)
    known = known_optimised(tree, kernel, size)
    refuse_hosted(tree, kernel, total, known, f"convert {format_size(size)}", force=force)
    rest = 0 if known.exact == total.pages else max(0, total.free - (total.reserved or 0))
    pools: list[tuple[Pool, int]] = []
    for pool in settable(tree, size, node):
        free = min(pool.free, rest)
        rest -= free
        pools.append((pool, free))
    free = sum(pages for _, pages in pools)
    if is_gigantic(kernel, size):
        batch = 1
    elif batch is None:
        batch = max(1, min(_BATCH_BYTES // size, free // _SHARE))
    if keep_free is None:
        keep_free = max(batch, -(-free // _SHARE))
    parts = tuple(_part(pool, pages, free, keep_free, found or {}) for pool, pages in pools)
    plan = Conversion(kernel, total, known, parts, batch, keep_free)
    if known.high and not force:
        _refuse_short(tree, plan)
    return plan


def known_optimised(tree: Tree, kernel: Kernel, size: int) -> Estimate:
    """How many pages of `size` bytes are optimised now."""
    return estimate(tree, kernel, [read_pool(tree, each) for each in sizes(tree)])[size]


def _part(
    pool: Pool, pages: int, free: int, keep_free: int, found: Mapping[int | None, Found]
) -> Part:
    """A node keeps its share of the pages that stay free."""
    kept = -(-keep_free * pages // free) if free else 0
    known = found.get(pool.node)
    return Part(pool, pages, max(0, pages - kept), known.now(pool) if known else ())


def _refuse(kernel: Kernel, total: Pool, gigantic: bool, force: bool) -> None:
    what = f"convert {format_size(total.size)}"
    if not kernel.enabled:
        raise HvoError(
            f"{what}: the optimisation is off, pages would come back as they are; hvo enable first"
        )
    if not kernel.freed_pages(total.size):
        raise HvoError(f"{what}: pages of this size cannot be optimised")
    refuse_defect(kernel, what, force)
    if is_gigantic(kernel, total.size) and not gigantic:
        raise HvoError(
            f"{what}: a gigantic page may not come back once it is given back (fragmentation);"
            " --gigantic does it one at a time"
        )
    if total.surplus:
        raise HvoError(
            f"{what}: {total.surplus} pages are surplus and would become part of the pool; wait"
            " until they are given back"
        )


def _refuse_short(tree: Tree, plan: Conversion) -> None:
    """Pages of a batch that are optimised already need frames to be given back."""
    for part in plan.parts:
        for need in restore_headroom(
            tree,
            plan.kernel,
            plan.total,
            plan.known,
            {part.pool.node or 0: part.pool},
            min(plan.batch, part.pages),
        ):
            if not need.enough:
                raise HvoError(
                    f"convert {format_size(part.pool.size)}: {need.sentence}; free memory, use a"
                    " smaller --batch, or --force"
                )
