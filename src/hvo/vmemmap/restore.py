"""Restore the vmemmap of HugeTLB pages that are given back (mm/hugetlb_vmemmap.c)."""

from functools import partial

from hvo.memory.interface import Pfns
from hvo.steps.base import ForEach, Steps, Value
from hvo.steps.frames import AllocateFrames, Count, Counter
from hvo.steps.ordering import Acquire, FlushAll, Lock, Release, SynchronizeReaders
from hvo.steps.struct_pages import StorePage, TestPage
from hvo.vmemmap.context import ENOMEM, Vmemmap
from hvo.vmemmap.exchange import PROPOSALS
from hvo.vmemmap.proposals import restore
from hvo.vmemmap.remap import Restore, restore_pages, shared_source


def hugetlb_vmemmap_restore_folios(v: Vmemmap, order: int, heads: Pfns) -> Steps[Pfns]:
    """Restore the HugeTLB pages `heads` (int64 array) of `order` until one fails -> an int64 array:
    0 or ENOMEM, up to the one that failed.

    A page that fails stays optimised and usable. Batched eras flush once, at the end.
    """
    batched = v.era.batched and v.era.proposal not in PROPOSALS
    if batched and v.era.has("wait-for-readers"):
        yield from SynchronizeReaders()
    results = yield from ForEach(
        partial(hugetlb_vmemmap_restore, v, order, flush=not batched), heads, stops=bool
    )
    if batched:
        yield from FlushAll()
    return results


def hugetlb_vmemmap_restore(
    v: Vmemmap, order: int, head: Value, *, flush: bool = True
) -> Steps[int]:
    """Give one HugeTLB page the frames of its vmemmap back, all of them or none -> 0 or ENOMEM
    (`__hugetlb_vmemmap_restore_folio`).

    Without `flush` the caller flushes, before anyone writes to a tail.
    """
    if v.era.proposal in PROPOSALS:
        return (yield from restore(v, PROPOSALS[v.era.proposal], order, head))
    if not (yield from TestPage(head, "vmemmap_optimized")):
        return 0
    first = v.era.layout.kept_pages
    only = not v.era.has("node-fallback")
    frames = yield from AllocateFrames(
        v.vmemmap_pages(order) - first, v.node_of(head), this_node_only=only, memmap=True
    )
    if frames is None:
        return ENOMEM
    yield from Acquire(Lock.MMAP_READ)
    yield from restore_pages(
        v, head, order, frames, Restore(first, shared_source(v, head), flush=flush)
    )
    yield from Release(Lock.MMAP_READ)
    yield from StorePage(head, "vmemmap_optimized", 0)
    yield from Count(Counter.OPTIMIZED_KEY, -1)
    return 0
