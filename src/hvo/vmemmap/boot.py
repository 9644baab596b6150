"""HugeTLB pages reserved at boot whose vmemmap is built optimised, before anyone reads it (6.15 and
later, x86-64, gigantic pages).

mm/hugetlb_vmemmap.c `hugetlb_vmemmap_init_early` and `hugetlb_vmemmap_init_late`,
mm/sparse-vmemmap.c `vmemmap_populate_hvo` and `vmemmap_wrprotect_hvo`. Linux never allocates the
frames of the tails; here the machine has mapped them already, so building gives them back. Nothing
live is remapped, so nothing is flushed and no lock is needed.
"""

from functools import partial

import numpy as np

from hvo.memory.interface import Pfns, Words
from hvo.steps.base import ForEach, Steps, Value, strided
from hvo.steps.entries import RemapEntries
from hvo.steps.frames import Count, Counter, FreeVmemmapPageList, ListAdd
from hvo.steps.struct_pages import StorePage
from hvo.vmemmap.context import ENOMEM, Vmemmap
from hvo.vmemmap.remap import frame_at, pte_of
from hvo.vmemmap.shared_tail import shared_tail
from hvo.vmemmap.split import split_vmemmap_huge_pmd


def hugetlb_vmemmap_init(v: Vmemmap, order: int, heads: Pfns) -> Steps[Pfns]:
    """Build the vmemmap of the pages `heads` of `order` optimised, and write-protect their tails
    later in boot -> int64 array of errors.
    """
    results = yield from ForEach(partial(vmemmap_populate_hvo, v, order), heads)
    yield from FreeVmemmapPageList()
    yield from ForEach(partial(vmemmap_wrprotect_hvo, v, order), heads[results == 0])
    return results


def vmemmap_populate_hvo(v: Vmemmap, order: int, head: Value) -> Steps[int]:
    """Map the tails of one page to the frame they share, still writable -> 0, or ENOMEM and nothing
    changed but leaves split.
    """
    for first, _ in v.pieces(order, 0):
        error = yield from split_vmemmap_huge_pmd(
            v, _piece(v, head, first), v.node_of(head), flush=False
        )
        if error:
            return error
    if v.era.layout.shares == "zone-tail":
        shared = yield from shared_tail(v, order, head)
        if shared is None:
            return ENOMEM
    else:
        pte = yield from pte_of(v, v.address(head))
        shared = yield from frame_at(v, pte, v.era.layout.kept_pages - 1)
    for address, pte_index, pages in _tails(v, order, head):
        pte = yield from pte_of(v, address)
        yield from ListAdd(
            (yield from _map_tails(v, shared, pte, address, pte_index, pages, writable=True))
        )
    yield from StorePage(head, "vmemmap_optimized", 1)
    yield from Count(Counter.OPTIMIZED_KEY, 1)
    return 0


def vmemmap_wrprotect_hvo(v: Vmemmap, order: int, head: Value) -> Steps[int]:
    """Make the entries of the tails of one page read-only -> 0.

    Without `protect-whole-range` the end of the range was counted in pages where bytes were meant,
    so most tails stayed writable (H15).
    """
    tails = v.vmemmap_pages(order) - v.era.layout.kept_pages
    left = tails if v.era.has("protect-whole-range") else -(-tails // v.page_size)
    for address, pte_index, pages in _tails(v, order, head):
        if left <= 0:
            break
        pte = yield from pte_of(v, address)
        shared = yield from frame_at(v, pte, pte_index)
        yield from _map_tails(v, shared, pte, address, pte_index, min(pages, left), writable=False)
        left -= pages
    return 0


def _piece(v: Vmemmap, head: Value, first: int) -> Words:
    return v.address(head) + np.uint64(first * v.page_size)


def _tails(v: Vmemmap, order: int, head: Value) -> list[tuple[Value, int, int]]:
    """For each piece under one table: its address, and which of its pages are tails: the first one,
    and how many.
    """
    kept = v.era.layout.kept_pages
    skips = [(first, pages, kept if first == 0 else 0) for first, pages in v.pieces(order, 0)]
    return [(_piece(v, head, first), skip, pages - skip) for first, pages, skip in skips]


def _map_tails(
    v: Vmemmap, shared: Value, pte: Value, address: Value, first: int, pages: int, *, writable: bool
) -> Steps[Pfns]:
    """Map `pages` pages from the `first` one on to the frame `shared` -> the frames they were
    mapped to.
    """
    locations = strided(pte + np.uint64(8 * first), pages, 8)
    values = np.broadcast_to(v.leaf_entry(shared, writable=writable)[..., None], locations.shape)
    old = yield from RemapEntries(
        locations, values, address + np.uint64(first * v.page_size), v.page_size
    )
    return v.pfn(old)
