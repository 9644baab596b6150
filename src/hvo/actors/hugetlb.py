"""HugeTLB pools: growing, shrinking, use, demotion, dissolving (mm/hugetlb.c)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hvo.actors.memory_failure import (
    clear_hugetlb,
    clear_hugetlb_and_hwpoison,
    folio_clear_hugetlb_hwpoison,
)
from hvo.memory.interface import Pfns
from hvo.steps.base import ForEach, Step, Steps, Value
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
from hvo.steps.struct_pages import PrepareCompound, StorePage
from hvo.vmemmap.context import ENOMEM, EOPNOTSUPP, Vmemmap
from hvo.vmemmap.optimize import (
    hugetlb_vmemmap_optimizable,
    hugetlb_vmemmap_optimize,
    hugetlb_vmemmap_optimize_folios,
)
from hvo.vmemmap.restore import hugetlb_vmemmap_restore, hugetlb_vmemmap_restore_folios


@dataclass(frozen=True)
class Hstate:
    """A pool as its actors see it: size in bytes, order, whether the gate is on, and the nodes the
    request is about.
    """

    size: int
    order: int
    optimize: bool
    nodes: tuple[int, ...]


def set_max_huge_pages(v: Vmemmap, h: Hstate, count: int) -> Steps[None]:
    """Make the pool hold `count` persistent pages, as a write to nr_hugepages does -> None; it may
    end up with more or fewer.
    """
    numbers = yield from ReadPool(h.size, h.nodes)
    if count > numbers.persistent:
        yield from _grow(v, h, count, numbers)
    elif count < numbers.persistent:
        yield from _shrink(v, h, count, numbers)


# -- growing --


def _grow(v: Vmemmap, h: Hstate, count: int, numbers: PoolNumbers) -> Steps[None]:
    """Surplus pages become persistent first; what is still missing is allocated."""
    kept = yield from _move_surplus(h, -min(numbers.surplus, count - numbers.persistent))
    wanted = count - numbers.persistent + kept
    if wanted <= 0:
        return
    if v.era.batched:
        yield from add_hugetlb_folios(
            v, h, (yield from _take_turns(h.nodes, wanted, partial(AllocateFolios, h.order)))
        )
        return
    yield from ForEach(
        partial(_alloc_pool_huge_page, v, h), _turns(h.nodes, wanted), stops=_no_page
    )


def _move_surplus(h: Hstate, delta: int) -> Steps[int]:
    """Make `delta` pages surplus (below 0: persistent), node by node -> the change, which is
    `delta`.
    """
    left = delta
    for node in h.nodes:
        numbers = yield from ReadPool(h.size, (node,))
        step = max(left, -numbers.surplus) if left < 0 else min(left, numbers.persistent)
        yield from AddSurplus(h.size, node, step)
        left -= step
    return delta - left


def _turns(nodes: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """The node whose turn it is, for each of `count` pages: nodes take turns
    (`for_each_node_mask_to_alloc`).
    """
    return np.resize(np.array(nodes, np.int64), count)


def _take_turns(
    nodes: tuple[int, ...], count: int, step: Callable[[int, int], Step[Pfns]]
) -> Steps[Pfns]:
    """Up to `count` pages by `step(node, count)`, nodes taking turns; one that has no more is
    passed over -> heads in that order.
    """
    parts: list[Pfns] = [np.zeros(0, np.int64)]
    left = list(nodes)
    while count > 0 and left:
        got: list[Pfns] = []
        for node, share in _shares(tuple(left), count):
            heads = yield from step(node, share)
            got.append(heads)
            if heads.size < share:
                left.remove(node)
        parts.append(_interleave(got))
        count -= parts[-1].size
    return np.concatenate(parts)


def _interleave(parts: list[Pfns]) -> Pfns:
    turn = np.concatenate([np.arange(len(part)) for part in parts])
    return np.concatenate(parts)[np.argsort(turn, kind="stable")]


def add_hugetlb_folios(v: Vmemmap, h: Hstate, heads: Pfns) -> Steps[None]:
    """Make `heads`, in the order of their allocation, pages of the pool (6.7 and later,
    `prep_and_add_allocated_folios`) -> None.

    The list they are kept on meanwhile is a stack, so the last one is optimised first, and the
    first one ends on top of the free list.
    """
    listed = heads[::-1]
    yield from PrepareCompound(listed, h.order)
    yield from StorePage(listed, "hugetlb", 1)
    if h.optimize:
        yield from hugetlb_vmemmap_optimize_folios(v, h.order, listed)
    yield from PutFree(h.size, listed)


def _alloc_pool_huge_page(v: Vmemmap, h: Hstate, node: Value) -> Steps[int]:
    """Allocate one page, on `node` or another, and make it one of the pool (5.14 to 6.6) -> 0, or
    ENOMEM when there is none.
    """
    head = yield from AllocateFolio(h.order, node)
    for other in h.nodes:
        if head is None:
            head = yield from AllocateFolio(h.order, other)
    if head is None:
        return ENOMEM
    yield from PrepareCompound(head, h.order)
    yield from prep_new_huge_page(v, h, head)
    yield from PutFree(h.size, head)
    return 0


def _no_page(error: int) -> bool:
    return error != 0


def prep_new_huge_page(v: Vmemmap, h: Hstate, head: Value) -> Steps[int]:
    """Mark a compound page as HugeTLB page and optimise it; without `mark-first` the other way
    round (H07) -> what optimise says.
    """
    error = EOPNOTSUPP
    if v.era.has("mark-first"):
        yield from StorePage(head, "hugetlb", 1)
    if h.optimize and hugetlb_vmemmap_optimizable(v, h.order):
        error = yield from hugetlb_vmemmap_optimize(v, h.order, head)
    if not v.era.has("mark-first"):
        yield from StorePage(head, "hugetlb", 1)
    return error


# -- shrinking --


def _shrink(v: Vmemmap, h: Hstate, count: int, numbers: PoolNumbers) -> Steps[None]:
    """Free pages leave, as long as enough stay for what is in use and reserved; the rest that is
    too much becomes surplus.
    """
    least = max(count, numbers.reserved + numbers.nr - numbers.free)
    leaving = yield from _take_turns(h.nodes, numbers.persistent - least, partial(TakeFree, h.size))
    yield from update_and_free_pages_bulk(v, h, leaving[::-1])
    numbers = yield from ReadPool(h.size, h.nodes)
    yield from _move_surplus(h, max(numbers.persistent - count, 0))


def _shares(nodes: tuple[int, ...], count: int) -> Iterator[tuple[int, int]]:
    """How many of `count` pages each node gives when they take turns; nodes that give none are left
    out.
    """
    for index, node in enumerate(nodes):
        share = (max(count, 0) + len(nodes) - 1 - index) // len(nodes)
        if share:
            yield node, share


def update_and_free_pages_bulk(v: Vmemmap, h: Hstate, heads: Pfns) -> Steps[None]:
    """Restore `heads`, which left the pool, and give them to the page allocator; one that cannot be
    restored goes back as surplus.
    """
    if not v.era.batched:
        yield from ForEach(partial(update_and_free_page, v, h), heads)
        return
    while heads.size:
        results = yield from hugetlb_vmemmap_restore_folios(v, h.order, heads)
        restored = heads[: int((results == 0).sum())]
        if restored.size:
            yield from _free_folios(h, restored)
            heads = heads[restored.size :]
        else:
            yield from PutFree(
                h.size, heads[:1], surplus=True
            )  # 6.7 tries the others one by one, until one can be restored
            heads = heads[1:]


def _free_folios(h: Hstate, heads: Pfns) -> Steps[None]:
    yield from clear_hugetlb(
        heads
    )  # errors move later in every kernel that frees lists of pages, so that H08 is not here
    yield from ForEach(folio_clear_hugetlb_hwpoison, heads)
    yield from FreeFolio(heads, h.order)


def update_and_free_page(v: Vmemmap, h: Hstate, head: Value) -> Steps[int]:
    """Restore one page that left the pool, and free it -> 0, or ENOMEM: then it is in the pool
    again, as a surplus page.

    Without `mark-until-restored` the HugeTLB mark goes first, and comes back when the page does
    (H06).
    """
    if not v.era.has("mark-until-restored"):
        yield from clear_hugetlb(head)
    error = yield from hugetlb_vmemmap_restore(v, h.order, head)
    if error:
        yield from StorePage(head, "hugetlb", 1)
        yield from PutFree(h.size, head, surplus=True)
        return error
    if v.era.has("mark-until-restored"):
        yield from clear_hugetlb_and_hwpoison(v, head)
    else:
        yield from folio_clear_hugetlb_hwpoison(head)
    yield from FreeFolio(head, h.order)
    return 0


# -- use --


def reserve_huge_pages(h: Hstate, pages: int) -> Steps[bool]:
    """Promise `pages` free pages to a mapping that will take them into use later -> whether there
    are as many (`hugetlb_reserve_pages`).
    """
    return (yield from Reserve(h.size, pages))


def use_huge_pages(h: Hstate, count: int, *, reserved: bool = False) -> Steps[int]:
    """Take up to `count` free pages into use, the top of each node's free list first -> how many
    (`alloc_hugetlb_folio`).

    Pages promised to others stay; with `reserved` it is the promised ones that are taken.
    """
    numbers = yield from ReadPool(h.size, h.nodes)
    count = min(count, numbers.reserved if reserved else numbers.free - numbers.reserved)
    used = 0
    for node in h.nodes:
        heads = yield from TakeFree(h.size, node, count - used, use=True)
        yield from StorePage(heads, "refcount", 1)
        used += heads.size
    if reserved:
        yield from Reserve(h.size, -used)
    return used


def free_huge_folios(v: Vmemmap, h: Hstate, count: int) -> Steps[None]:
    """Take up to `count` pages out of use: onto the free list, or out of the pool where there are
    surplus pages (`free_huge_folio`).
    """
    for node in h.nodes:
        numbers = yield from ReadPool(h.size, (node,))
        heads = yield from EndUse(h.size, node, count)
        yield from StorePage(heads, "refcount", 0)
        count -= heads.size
        excess = min(numbers.surplus, heads.size)
        yield from AddSurplus(h.size, node, -excess)
        yield from PutFree(h.size, heads[excess:])
        yield from update_and_free_pages_bulk(v, h, heads[:excess])


# -- other ways out of a pool --


def demote_pool_huge_page(v: Vmemmap, h: Hstate, target: Hstate, node: int) -> Steps[int]:
    """Make one free page of the pool into pages of the smaller pool `target` -> 0, or ENOMEM: then
    nothing changed.

    Its vmemmap is restored first, and the small pages are optimised anew.
    """
    heads = yield from TakeFree(h.size, node, 1)
    if not heads.size:
        return ENOMEM
    error = yield from hugetlb_vmemmap_restore(v, h.order, heads[0])
    if error:
        yield from PutFree(h.size, heads)
        return error
    yield from StorePage(heads[0], "hugetlb", 0)
    yield from StorePage(heads[0], "head", 0)
    parts = heads[0] + np.arange(0, 1 << h.order, 1 << target.order)
    if v.era.batched:
        yield from add_hugetlb_folios(v, target, parts)
        return 0
    yield from ForEach(partial(_adopt, v, target), parts)
    return 0


def _adopt(v: Vmemmap, h: Hstate, head: Value) -> Steps[int]:
    yield from PrepareCompound(head, h.order)
    yield from prep_new_huge_page(v, h, head)
    yield from PutFree(h.size, head)
    return 0


def dissolve_free_hugetlb_folio(v: Vmemmap, h: Hstate, head: int, node: int) -> Steps[int]:
    """Take the free page `head` out of the pool and free it, so that its memory can go -> 0, or
    ENOMEM: then it is still in the pool.
    """
    yield from TakeOut(h.size, node, np.array([head], np.int64))
    error = yield from hugetlb_vmemmap_restore(v, h.order, head)
    if error:
        yield from PutFree(h.size, np.array([head], np.int64))
        return error
    yield from clear_hugetlb_and_hwpoison(v, head)
    yield from FreeFolio(np.array([head], np.int64), h.order)
    return 0
