"""Optimise HugeTLB pages: one at a time (5.14 to 6.6) or a list at once (6.7 and later)
(mm/hugetlb_vmemmap.c).
"""

from functools import partial

import numpy as np

from hvo.memory.interface import Pfns
from hvo.steps.base import ForEach, Steps, Value
from hvo.steps.entries import (
    EntryKind,
    Locate,
    ReadEntry,
)
from hvo.steps.frames import (
    AllocateFrame,
    Count,
    Counter,
    FreeVmemmapPageList,
    ListEmpty,
)
from hvo.steps.ordering import Acquire, FlushAll, Lock, Release, SynchronizeReaders
from hvo.steps.struct_pages import CopyFrame, StorePage, TestPage
from hvo.vmemmap.boot import hugetlb_vmemmap_init
from hvo.vmemmap.context import ENOMEM, EOPNOTSUPP, Vmemmap
from hvo.vmemmap.exchange import PROPOSALS
from hvo.vmemmap.proposals import optimize
from hvo.vmemmap.remap import Remap, vmemmap_remap_free
from hvo.vmemmap.shared_tail import shared_tail
from hvo.vmemmap.split import split_vmemmap_huge_pmd


def hugetlb_vmemmap_optimizable(v: Vmemmap, order: int) -> bool:
    """Whether pages of `order` have vmemmap pages to give back, and struct pages that do not
    straddle them.
    """
    odd = v.struct_page_size & (v.struct_page_size - 1) != 0
    return v.vmemmap_pages(order) > v.era.layout.kept_pages and not (
        odd and v.era.has("refuse-odd-struct")
    )


def hugetlb_vmemmap_optimize_folios(v: Vmemmap, order: int, heads: Pfns) -> Steps[Pfns]:
    """Optimise the HugeTLB pages `heads` (int64 array) of `order`, in that order -> an int64 array:
    0, ENOMEM or EOPNOTSUPP for each.

    A page that fails is left as it was; the others are done. With batching the leaves are split
    first, then one full flush, then page after page is remapped without a flush while the frames
    vmemmap_page_list up, then one full flush before they are freed.
    """
    if not hugetlb_vmemmap_optimizable(v, order):
        return np.full(heads.size, EOPNOTSUPP, np.int64)
    if v.era.proposal == "F":
        return (yield from hugetlb_vmemmap_init(v, order, heads))
    if v.era.proposal:
        return (yield from ForEach(partial(_optimize_as_proposed, v, order), heads))
    if not v.era.batched:
        return (yield from ForEach(partial(hugetlb_vmemmap_optimize, v, order), heads))
    yield from ForEach(partial(_split_folio, v, order), heads, stops=bool)
    yield from FlushAll()
    if v.era.has("wait-for-readers"):
        yield from SynchronizeReaders()
    results = yield from ForEach(partial(_optimize_in_batch, v, order), heads)
    yield from FlushAll()
    yield from FreeVmemmapPageList()
    return results


def _optimize_as_proposed(v: Vmemmap, order: int, head: Value) -> Steps[int]:
    if (yield from _self_hosted(v, head)):
        return EOPNOTSUPP
    return (yield from optimize(v, PROPOSALS[v.era.proposal], order, head))


def hugetlb_vmemmap_optimize(v: Vmemmap, order: int, head: Value) -> Steps[int]:
    """Optimise one HugeTLB page and flush for it alone -> 0, ENOMEM or EOPNOTSUPP."""
    if v.era.has("wait-for-readers"):
        yield from SynchronizeReaders()
    error = yield from _optimize(v, order, head, flush=True)
    yield from FreeVmemmapPageList()
    return error


def _split_folio(v: Vmemmap, order: int, head: Value) -> Steps[int]:
    """Split every leaf under the vmemmap of one page, without flushing -> 0 or ENOMEM
    (`hugetlb_vmemmap_split_folio`).
    """
    if (yield from _self_hosted(v, head)):
        return 0
    yield from Acquire(Lock.MMAP_READ)
    error = 0
    for first, _ in v.pieces(order, 0):
        address = v.address(head) + np.uint64(first * v.page_size)
        error = error or (
            yield from split_vmemmap_huge_pmd(v, address, v.node_of(head), flush=False)
        )
    yield from Release(Lock.MMAP_READ)
    return error


def _optimize_in_batch(v: Vmemmap, order: int, head: Value) -> Steps[int]:
    """Optimise one page of a list; out of memory, free what is on the list and try once more -> 0,
    ENOMEM or EOPNOTSUPP.
    """
    error = yield from _optimize(v, order, head, flush=False)
    if error == ENOMEM and not (yield from ListEmpty()):
        yield from FlushAll()
        yield from FreeVmemmapPageList()
        error = yield from _optimize(v, order, head, flush=False)
    return error


def _optimize(v: Vmemmap, order: int, head: Value, *, flush: bool) -> Steps[int]:
    """The steps of one page, up to the frames on the actor's list
    (`__hugetlb_vmemmap_optimize_folio`) -> 0, ENOMEM or EOPNOTSUPP.
    """
    if (yield from _self_hosted(v, head)):
        return EOPNOTSUPP
    yield from Count(Counter.OPTIMIZED_KEY, 1)
    shared = None
    if v.era.layout.shares == "zone-tail":
        shared = yield from shared_tail(v, order, head)
        if shared is None:
            return (yield from _give_up(v, head, None))
    if v.era.batched:  # from 6.7 on the flag is set before the copy, so that the copied head has it
        yield from StorePage(head, "vmemmap_optimized", 1)
    new_head = yield from _copy_head(v, head)
    if new_head is None and v.era.layout.shares == "zone-tail":
        return (yield from _give_up(v, head, None))
    yield from Acquire(Lock.MMAP_READ)
    error = yield from vmemmap_remap_free(v, Remap(head, order, shared, new_head, flush))
    yield from Release(Lock.MMAP_READ)
    if error:
        return (yield from _give_up(v, head, error))
    if not v.era.batched:
        yield from StorePage(head, "vmemmap_optimized", 1)
    return 0


def _give_up(v: Vmemmap, head: Value, error: int | None) -> Steps[int]:
    """Take back flag and count of a page that could not be optimised -> its error."""
    if v.era.batched:
        yield from StorePage(head, "vmemmap_optimized", 0)
    yield from Count(Counter.OPTIMIZED_KEY, -1)
    return error or ENOMEM


def _copy_head(v: Vmemmap, head: Value) -> Steps[int | Pfns | None]:
    """A new frame with a copy of page 0 -> its pfn; None in eras that leave the head where it is,
    or when there is no frame.
    """
    if not v.era.layout.moves_head:
        return None
    frame = yield from AllocateFrame(v.node_of(head), memmap=True)
    if frame is not None:
        yield from CopyFrame(v.address(head), frame, v.structs_per_page)
    return frame


def _self_hosted(v: Vmemmap, head: Value) -> Steps[bool]:
    """Whether the block of `head` holds its own struct pages (`memmap_on_memory`) -> bool; only
    kernels with the fix ask (H09).

    Such a block marks the frames of its struct pages, and HugeTLB pages are aligned, so one vmemmap
    page tells for all of a huge page.
    """
    if not v.era.has("refuse-self-hosted"):
        return False
    address = v.address(head)
    pmd = yield from Locate(address, 1)
    entry = yield from ReadEntry(pmd, 1)
    if entry.kind is EntryKind.TABLE:
        entry = yield from ReadEntry(v.pte_location(entry.value, address), 0)
        return (yield from TestPage(v.pfn(entry.value), "self_hosted"))
    index = np.asarray(v.format.index(address, 0), np.uint64).astype(np.int64)
    return (yield from TestPage(v.pfn(entry.value, 1) + index, "self_hosted"))
