"""What steps on huge pages and their pools do to a machine."""

import numpy as np

from hvo.kernel.hugetlb import HugetlbPool
from hvo.memory.interface import Pfns
from hvo.mmu.shape import Flags
from hvo.steps.pool import (
    AddRawError,
    AddSurplus,
    AllocateFolio,
    AllocateFolios,
    EndUse,
    FreeFolio,
    PoolNumbers,
    PutFree,
    ReadPool,
    Reserve,
    TakeFree,
    TakeOut,
    TakeRawErrors,
)
from hvo.world.shared_tails import are_optimized
from hvo.world.state import Handlers, World
from hvo.world.struct_pages import are_sound, clear_compound

# -- huge pages --


def allocate_folio(world: World, step: AllocateFolio) -> int | None:
    """One block."""
    got = _allocate(world, step.order, int(step.node), 1)
    return int(got[0]) if got.size else None


def allocate_folios(world: World, step: AllocateFolios) -> Pfns:
    """As many as there are."""
    return _allocate(world, step.order, int(step.node), step.count)


def _allocate(world: World, order: int, node: int, count: int) -> Pfns:
    return world.zones.allocate(order, count, node, movable=True, this_node_only=True)


def free_folio(world: World, step: FreeFolio) -> bool | Flags:
    """Free those that are sound; the others are lost."""
    heads = np.atleast_1d(np.asarray(step.heads, np.int64))
    sound = are_sound(world, heads, step.order)
    free_sound(world, heads[sound], step.order)
    world.lost.extend((head, step.order) for head in heads[~sound].tolist())
    return sound if np.ndim(step.heads) else bool(sound[0])


def free_sound(world: World, heads: Pfns, order: int) -> None:
    """Give sound blocks to the page allocator."""
    if heads.size:
        clear_compound(world, heads, order)
        world.zones.free(heads, order)


def optimized(world: World, pool: HugetlbPool) -> Pfns:
    """First pfns of the pages of `pool` whose last vmemmap page has no frame of its own: what the
    tables say.
    """
    v, heads = world.vmemmap, pool.heads()
    pages = v.vmemmap_pages(pool.order)
    if not pages:
        return heads[:0]
    last = v.address(heads) + np.uint64((pages - 1) * v.page_size)
    return heads[are_optimized(world.memory, v.format, world.root, last)]


# -- pools --


def read_pool(world: World, step: ReadPool) -> PoolNumbers:
    """Add the nodes up."""
    pool = world.pools[step.size]
    counts = [(pool.nr(node), pool.nr_free(node), pool.nr_surplus(node)) for node in step.nodes]
    nr, free, surplus = (sum(column) for column in zip(*counts, strict=True))
    return PoolNumbers(nr, free, surplus, pool.reserved)


def take_free(world: World, step: TakeFree) -> Pfns:
    """Off the free list, and into use if asked for."""
    pool = world.pools[step.size]
    heads = pool.free[int(step.node)].take(step.count)
    if step.use:
        pool.used[int(step.node)].push(heads)
    return heads


def take_out(world: World, step: TakeOut) -> None:
    """Off the free list."""
    world.pools[step.size].free[step.node].remove(step.heads)


def put_free(world: World, step: PutFree) -> None:
    """On the free list of their nodes."""
    heads = np.atleast_1d(np.asarray(step.heads, np.int64))
    pool, nodes = world.pools[step.size], world.vmemmap.node_of(heads)
    for node in np.unique(nodes).tolist():
        mine = heads[nodes == node]
        pool.free[node].push(mine)
        pool.surplus[node] += mine.size if step.surplus else 0


def end_use(world: World, step: EndUse) -> Pfns:
    """Out of the pages in use."""
    return world.pools[step.size].used[step.node].take(step.count)


def add_surplus(world: World, step: AddSurplus) -> None:
    """Add."""
    world.pools[step.size].surplus[step.node] += step.delta


def reserve(world: World, step: Reserve) -> bool:
    """Add, as long as there are as many free pages."""
    pool = world.pools[step.size]
    if not 0 <= pool.reserved + step.delta <= pool.nr_free():
        return False
    pool.reserved += step.delta
    return True


# -- records of broken pages --


def add_raw_error(world: World, step: AddRawError) -> None:
    """Note it under its head."""
    world.raw_errors[step.head].append(step.pfn)


def take_raw_errors(world: World, step: TakeRawErrors) -> tuple[int, ...]:
    """Empty the record of the head."""
    return tuple(world.raw_errors.pop(int(np.asarray(step.head).item()), ()))


HANDLERS: Handlers = {
    AllocateFolio: allocate_folio,
    AllocateFolios: allocate_folios,
    FreeFolio: free_folio,
    ReadPool: read_pool,
    TakeFree: take_free,
    TakeOut: take_out,
    PutFree: put_free,
    EndUse: end_use,
    AddSurplus: add_surplus,
    Reserve: reserve,
    AddRawError: add_raw_error,
    TakeRawErrors: take_raw_errors,
}
