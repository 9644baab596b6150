"""What the steps on huge pages and their pools do to a machine."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.hugetlb import HugetlbPool
from hvo.kernel.struct_page import LINK, MAPPING, TAIL_MAPPING
from hvo.memory.interface import Words
from hvo.steps.base import Value, strided
from hvo.steps.pool import (
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
)
from hvo.steps.struct_pages import LinkTail, PrepareCompound, StorePage
from hvo.world.state import World

Heads = NDArray[np.int64]
_AT_ONCE = 1 << 15


class Pools:
    """The HugeTLB pools of `world`, by size; teaches it the steps on them.

    `lost` collects the heads of blocks that the page allocator refused ("Bad page state").
    """

    def __init__(self, world: World, pools: dict[int, HugetlbPool]) -> None:
        self.world, self.pools = world, pools
        self.lost: list[tuple[int, int]] = []
        for step, handler in (
            (AllocateFolio, self._allocate_folio),
            (AllocateFolios, self._allocate_folios),
            (PrepareCompound, self._prepare_compound),
            (LinkTail, self._link_tail),
            (FreeFolio, self._free_folio),
            (ReadPool, self._read_pool),
            (TakeFree, self._take_free),
            (TakeOut, self._take_out),
            (PutFree, self._put_free),
            (EndUse, self._end_use),
            (AddSurplus, self._add_surplus),
            (Reserve, self._reserve),
        ):
            world.teach(step, handler)
        world.pools = self

    # -- huge pages --

    def _allocate_folio(self, step: AllocateFolio) -> int | None:
        got = self.allocate(step.order, int(step.node), 1)
        return int(got[0]) if got.size else None

    def _allocate_folios(self, step: AllocateFolios) -> Heads:
        return self.allocate(step.order, int(step.node), step.count)

    def allocate(self, order: int, node: int, count: int) -> Heads:
        """First pfns of up to `count` blocks of `order` on `node`."""
        return self.world.zones.allocate(order, count, node, movable=True, this_node_only=True)

    def _prepare_compound(self, step: PrepareCompound) -> None:
        heads = np.atleast_1d(np.asarray(step.heads, np.int64))
        if self.world.journal is not None:
            self.world.journal.append(partial(self.clear_compound, heads, step.order))
        for piece in _pieces(heads):
            links = self.world.layout.links(self.world.vmemmap.address(piece), step.order)
            self._set_tails(piece, step.order, links, TAIL_MAPPING)
            self.world.perform(StorePage(piece, "head", 1))
            self.world.perform(StorePage(piece, "order", step.order))

    def clear_compound(self, heads: Heads, order: int) -> None:
        """Make every struct page of the blocks `heads` a page by itself again."""
        for piece in _pieces(heads):
            self._set_tails(piece, order, np.zeros(piece.shape, np.uint64), 0)
            self.world.perform(StorePage(piece, "head", 0))
            self.world.perform(StorePage(piece, "order", 0))

    def _set_tails(self, heads: Heads, order: int, links: Words, mapping: int) -> None:
        """Write link and mapping of every tail."""
        pages = self.world.vmemmap.vmemmap_pages(order)
        if not pages:
            self._set_tails_in_page(heads, order, links, mapping)
            return
        frames = self._frames(heads, pages)
        own = self._own_words(heads)
        kept = self.world.memory.read_words(own)
        self.world.memory.update_rows(frames.ravel(), {MAPPING: mapping}, np.repeat(links, pages))
        self.world.memory.write_words(own, kept)

    def _set_tails_in_page(self, heads: Heads, order: int, links: Words, mapping: int) -> None:
        tails = self.world.vmemmap.address(heads[:, None] + np.arange(1, 1 << order))
        physical = self.world.translate(tails)
        self.world.memory.write_words(
            physical + np.uint64(8 * LINK), np.broadcast_to(links[:, None], tails.shape)
        )
        self.world.memory.write_words(physical + np.uint64(8 * MAPPING), mapping)

    def _own_words(self, heads: Heads) -> Words:
        """Where link and mapping of the heads themselves lie, shape (heads, 2)."""
        physical = self.world.translate(self.world.vmemmap.address(heads))
        return physical[:, None] + np.array([8 * LINK, 8 * MAPPING], np.uint64)

    def _frames(self, heads: Heads, pages: int) -> Heads:
        """The frames that hold the struct pages of `heads`, shape (heads, vmemmap pages)."""
        return self.world.frame_of(
            strided(self.world.vmemmap.address(heads), pages, self.world.vmemmap.page_size)
        )

    def _link_tail(self, step: LinkTail) -> None:
        link = self.world.layout.links(
            np.atleast_1d(self.world.vmemmap.address(step.head)), step.order
        )[0]
        self.world.perform(StorePage(step.pfn, "link", link))
        self.world.perform(StorePage(step.pfn, "mapping", TAIL_MAPPING))

    def _free_folio(self, step: FreeFolio) -> Value:
        heads = np.atleast_1d(np.asarray(step.heads, np.int64))
        sound = self.is_sound(heads, step.order)
        self.free(heads[sound], step.order)
        self.lost.extend((head, step.order) for head in heads[~sound].tolist())
        return sound if np.ndim(step.heads) else bool(sound[0])

    def free(self, heads: Heads, order: int) -> None:
        """Give sound blocks to the page allocator."""
        if heads.size:
            self.clear_compound(heads, order)
            self.world.zones.free(heads, order)

    def is_sound(self, heads: Heads, order: int) -> NDArray[np.bool_]:
        """Whether every tail of each block links to its head (`free_tail_page_prepare`,
        mm/page_alloc.c).
        """
        pages = self.world.vmemmap.vmemmap_pages(order)
        links = self.world.layout.links(self.world.vmemmap.address(heads), order)
        if not pages:
            tails = self.world.translate(
                self.world.vmemmap.address(heads[:, None] + np.arange(1, 1 << order))
            )
            return (
                self.world.memory.read_words(tails + np.uint64(8 * LINK)) == links[:, None]
            ).all(axis=1)
        frames = self._frames(heads, pages)
        rest = self.world.memory.rows_hold(
            frames[:, 1:].ravel(), LINK, np.repeat(links, pages - 1)
        ).reshape(heads.size, -1)
        return rest.all(axis=1) & self.world.memory.rows_hold(
            frames[:, 0], LINK, links, but_first=True
        )

    # -- pools --

    def _read_pool(self, step: ReadPool) -> PoolNumbers:
        pool = self.pools[step.size]
        counts = [(pool.nr(node), pool.nr_free(node), pool.nr_surplus(node)) for node in step.nodes]
        nr, free, surplus = (sum(column) for column in zip(*counts, strict=True))
        return PoolNumbers(nr, free, surplus, pool.reserved)

    def _take_free(self, step: TakeFree) -> Heads:
        pool = self.pools[step.size]
        heads = pool.free[int(step.node)].take(step.count)
        if step.use:
            pool.used[int(step.node)].push(heads)
        return heads

    def _take_out(self, step: TakeOut) -> None:
        self.pools[step.size].free[step.node].remove(step.heads)

    def _put_free(self, step: PutFree) -> None:
        heads = np.atleast_1d(np.asarray(step.heads, np.int64))
        pool, nodes = self.pools[step.size], self.world.vmemmap.node_of(heads)
        for node in np.unique(nodes).tolist():
            mine = heads[nodes == node]
            pool.free[node].push(mine)
            pool.surplus[node] += mine.size if step.surplus else 0

    def _end_use(self, step: EndUse) -> Heads:
        return self.pools[step.size].used[step.node].take(step.count)

    def _add_surplus(self, step: AddSurplus) -> None:
        self.pools[step.size].surplus[step.node] += step.delta

    def _reserve(self, step: Reserve) -> bool:
        pool = self.pools[step.size]
        if not 0 <= pool.reserved + step.delta <= pool.nr_free():
            return False
        pool.reserved += step.delta
        return True


def _pieces(heads: Heads) -> list[Heads]:
    """`heads` in pieces whose temporaries stay a few MB each."""
    return [heads[start : start + _AT_ONCE] for start in range(0, heads.size, _AT_ONCE)]
