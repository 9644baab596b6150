"""Optimise HugeTLB pages: one at a time (5.14 to 6.6) or a list at once (6.7 and later)
(mm/hugetlb_vmemmap.c).
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hvo.steps.base import ForEach, Steps, Value
from hvo.steps.entries import (
    EntryKind,
    Locate,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    WritePointer,
)
from hvo.steps.frames import (
    AllocateFrame,
    Count,
    Counter,
    FreeFrame,
    FreeVmemmapPageList,
    ListEmpty,
)
from hvo.steps.ordering import Acquire, FlushAll, Lock, Release, SynchronizeReaders
from hvo.steps.struct_pages import CopyFrame, FillTails, StorePage, TestPage
from hvo.vmemmap.context import ENOMEM, EOPNOTSUPP, Vmemmap
from hvo.vmemmap.remap import Remap, vmemmap_remap_free
from hvo.vmemmap.split import split_vmemmap_huge_pmd


def hugetlb_vmemmap_optimizable(v: Vmemmap, order: int) -> bool:
    """Whether pages of `order` have vmemmap pages to give back, and struct pages that do not
    straddle them.
    """
    odd = v.struct_page_size & (v.struct_page_size - 1) != 0
    return v.vmemmap_pages(order) > v.era.layout.kept_pages and not (
        odd and v.era.has("refuse-odd-struct")
    )


def hugetlb_vmemmap_optimize_folios(v: Vmemmap, order: int, heads: NDArray[np.int64]) -> Steps:
    """Optimise the HugeTLB pages `heads` (int64 array) of `order`, in that order -> an int64 array:
    0, ENOMEM or EOPNOTSUPP for each.

    A page that fails is left as it was; the others are done. With batching the leaves are split
    first, then one full flush, then page after page is remapped without a flush while the frames
    vmemmap_page_list up, then one full flush before they are freed.
    """
    if not hugetlb_vmemmap_optimizable(v, order):
        return np.full(heads.size, EOPNOTSUPP, np.int64)
    if not v.era.batched:
        return (yield ForEach(partial(hugetlb_vmemmap_optimize, v, order), heads))
    yield ForEach(partial(_split_folio, v, order), heads, stops=bool)
    yield FlushAll()
    if v.era.has("wait-for-readers"):
        yield SynchronizeReaders()
    results = yield ForEach(partial(_optimize_in_batch, v, order), heads)
    yield FlushAll()
    yield FreeVmemmapPageList()
    return results


def hugetlb_vmemmap_optimize(v: Vmemmap, order: int, head: Value) -> Steps:
    """Optimise one HugeTLB page and flush for it alone -> 0, ENOMEM or EOPNOTSUPP."""
    if v.era.has("wait-for-readers"):
        yield SynchronizeReaders()
    error = yield from _optimize(v, order, head, flush=True)
    yield FreeVmemmapPageList()
    return error


def _split_folio(v: Vmemmap, order: int, head: Value) -> Steps:
    """Split every leaf under the vmemmap of one page, without flushing -> 0 or ENOMEM
    (`hugetlb_vmemmap_split_folio`).
    """
    if (yield from _self_hosted(v, head)):
        return 0
    yield Acquire(Lock.MMAP_READ)
    error = 0
    for first, _ in v.pieces(order, 0):
        address = v.address(head) + np.uint64(first * v.page_size)
        error = error or (
            yield from split_vmemmap_huge_pmd(v, address, v.node_of(head), flush=False)
        )
    yield Release(Lock.MMAP_READ)
    return error


def _optimize_in_batch(v: Vmemmap, order: int, head: Value) -> Steps:
    """Optimise one page of a list; out of memory, free what is on the list and try once more -> 0,
    ENOMEM or EOPNOTSUPP.
    """
    error = yield from _optimize(v, order, head, flush=False)
    if error == ENOMEM and not (yield ListEmpty()):
        yield FlushAll()
        yield FreeVmemmapPageList()
        error = yield from _optimize(v, order, head, flush=False)
    return error


def _optimize(v: Vmemmap, order: int, head: Value, *, flush: bool) -> Steps:
    """The steps of one page, up to the frames on the actor's list
    (`__hugetlb_vmemmap_optimize_folio`) -> 0, ENOMEM or EOPNOTSUPP.
    """
    if (yield from _self_hosted(v, head)):
        return EOPNOTSUPP
    yield Count(Counter.OPTIMIZED_KEY, 1)
    shared = yield from shared_tail(v, order, head)
    if shared is False:
        return (yield from _give_up(v, head, None))
    if v.era.batched:  # from 6.7 on the flag is set before the copy, so that the copied head has it
        yield StorePage(head, "vmemmap_optimized", 1)
    new_head = yield from _copy_head(v, head)
    if new_head is None and v.era.layout.shares == "zone-tail":
        return (yield from _give_up(v, head, None))
    yield Acquire(Lock.MMAP_READ)
    error = yield from vmemmap_remap_free(v, Remap(head, order, shared, new_head, flush))
    yield Release(Lock.MMAP_READ)
    if error:
        return (yield from _give_up(v, head, error))
    if not v.era.batched:
        yield StorePage(head, "vmemmap_optimized", 1)
    return 0


def _give_up(v: Vmemmap, head: Value, error: int | None) -> Steps:
    """Take back flag and count of a page that could not be optimised -> its error."""
    if v.era.batched:
        yield StorePage(head, "vmemmap_optimized", 0)
    yield Count(Counter.OPTIMIZED_KEY, -1)
    return error or ENOMEM


def _copy_head(v: Vmemmap, head: Value) -> Steps:
    """A new frame with a copy of page 0 -> its pfn; None in eras that leave the head where it is,
    or when there is no frame.
    """
    if not v.era.layout.moves_head:
        return None
    frame = yield AllocateFrame(v.node_of(head), memmap=True)
    if frame is not None:
        yield CopyFrame(v.address(head), frame, v.structs_per_page)
    return frame


def shared_tail(v: Vmemmap, order: int, head: Value) -> Steps:
    """The frame that tails of `order` share in the zone of `head` (7.1) -> its pfn; None in other
    eras; False when there is no frame.
    """
    if v.era.layout.shares != "zone-tail":
        return None
    slot = v.tail_slot(v.zone_of(head), order)
    present = yield ReadPointer(slot)
    if present is not None:
        return present
    frame = yield AllocateFrame(v.node_of(head))
    if frame is None:
        return False
    yield FillTails(frame, head, order, v.structs_per_page)
    return (yield from _publish(v, slot, frame))


def _publish(v: Vmemmap, slot: Value, frame: Value) -> Steps:
    """Make `frame` the zone's shared tail -> the frame that is it now; without `publish-tail` a
    plain store, and two may win (H14).
    """
    if not v.era.has("publish-tail"):
        yield WritePointer(slot, frame)
        return frame
    present = yield PublishPointer(slot, frame)
    if present is None:
        return frame
    yield FreeFrame(frame)
    return present


def _self_hosted(v: Vmemmap, head: Value) -> Steps:
    """Whether the block of `head` holds its own struct pages (`memmap_on_memory`) -> bool; only
    kernels with the fix ask (H09).

    Such a block marks the frames of its struct pages, and HugeTLB pages are aligned, so one vmemmap
    page tells for all of a huge page.
    """
    if not v.era.has("refuse-self-hosted"):
        return False
    address = v.address(head)
    pmd = yield Locate(address, 1)
    entry = yield ReadEntry(pmd, 1)
    if entry.kind is EntryKind.TABLE:
        entry = yield ReadEntry(v.pte_location(entry.value, address), 0)
        return (yield TestPage(v.pfn(entry.value), "self_hosted"))
    index = np.asarray(v.format.index(address, 0), np.uint64).astype(np.int64)
    return (yield TestPage(v.pfn(entry.value, 1) + index, "self_hosted"))
