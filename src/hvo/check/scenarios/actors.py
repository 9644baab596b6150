"""The actors that scenarios are made of, each what the machine runs too: who does what to which
huge page.
"""

from functools import partial

import numpy as np

from hvo.actors.dcache import flush_dcache_page, sync_icache_dcache
from hvo.actors.hotplug import Block, arch_add_memory
from hvo.actors.hugetlb import (
    Hstate,
    prep_new_huge_page,
    update_and_free_page,
    update_and_free_pages_bulk,
)
from hvo.actors.memory_failure import get_huge_page_for_hwpoison, memory_failure
from hvo.actors.ptdump import DumpLock, ptdump
from hvo.actors.unmap import vmemmap_free
from hvo.actors.walker import SPECULATIONS, compound_head, folio_try_get, page_ref_add_unless
from hvo.check.model.geometry import BASE, PAGE, PUD_FRAME, STRUCTS, Geometry, SmallVmemmap
from hvo.check.scenarios.scenario import Act, Actor
from hvo.steps.base import Assert, Steps
from hvo.steps.frames import Counter, ReadCounter, TakeFreed, WriteData
from hvo.steps.hotplug import RemoveMemory
from hvo.steps.ordering import Acquire, Lock, Release, ResumeCpus, StopCpus, SynchronizeReaders
from hvo.steps.struct_pages import (
    DropReference,
    FreezeCount,
    InitPages,
    LinkTail,
    LoadPage,
    StorePage,
    TestPage,
)
from hvo.vmemmap.boot import hugetlb_vmemmap_init
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios


def heads_of(g: Geometry, *numbers: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The heads of huge pages by their numbers."""
    return np.array([g.head(number) for number in numbers], np.int64)


def hstate(g: Geometry) -> Hstate:
    """The pool of the small machine's huge pages."""
    return Hstate(PAGE << g.order, g.order, True, (0,))


def last_page(g: Geometry, number: int = 0) -> int:
    """A pfn whose struct page begins the last vmemmap page that huge page `number` uses: once
    optimised, it shows a shared frame.
    """
    return g.head(number) + (g.used - 1) * STRUCTS


def tail(g: Geometry, number: int = 0) -> int:
    """A pfn whose struct page lies there, but not at the start of the page."""
    return last_page(g, number) + 1


# -- what they do --


def optimize(*numbers: int) -> Act:
    """Optimise huge pages, as one list."""
    return partial(_optimize, numbers=numbers)


def _optimize(v: SmallVmemmap, g: Geometry, numbers: tuple[int, ...]) -> Steps[object]:
    return hugetlb_vmemmap_optimize_folios(v, g.order, heads_of(g, *numbers))


def restore(*numbers: int) -> Act:
    """Restore huge pages that stay in the pool."""
    return partial(_restore, numbers=numbers)


def _restore(v: SmallVmemmap, g: Geometry, numbers: tuple[int, ...]) -> Steps[object]:
    return hugetlb_vmemmap_restore_folios(v, g.order, heads_of(g, *numbers))


def optimize_and_restore(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Optimise the first huge page, restore it, and free it."""
    yield from hugetlb_vmemmap_optimize_folios(v, g.order, heads_of(g, 0))
    return (yield from update_and_free_pages_bulk(v, hstate(g), heads_of(g, 0)))


def restore_and_give_back(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Restore the first huge page, which stays in the pool, and then take it out."""
    yield from hugetlb_vmemmap_restore_folios(v, g.order, heads_of(g, 0))
    return (yield from update_and_free_page(v, hstate(g), g.head(0)))


def optimize_for_use(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Optimise the first huge page, and take it into use."""
    yield from hugetlb_vmemmap_optimize_folios(v, g.order, heads_of(g, 0))
    yield from StorePage(g.head(0), "refcount", 1)


def end_use(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Drop the last reference to the first huge page, and take it out of the pool."""
    yield from DropReference(g.head(0))
    return (yield from update_and_free_page(v, hstate(g), g.head(0)))


def give_back(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Take the first huge page out of the pool: restore and free it."""
    return update_and_free_page(v, hstate(g), g.head(0))


def give_back_all(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Take all huge pages out of the pool, as one list."""
    return update_and_free_pages_bulk(v, hstate(g), heads_of(g, *range(g.pages)))


def prepare(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Make a compound page the first huge page of the pool."""
    return prep_new_huge_page(v, hstate(g), g.head(0))


def gather(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Make pages that others may hold references to a huge page: freeze each, link the tails, mark
    the head, optimise, unfreeze.

    `prep_compound_gigantic_folio` (mm/hugetlb.c); a page that is referenced ends it.
    """
    first, last = g.head(0), g.head(0) + g.used * STRUCTS
    for pfn in range(first, last):
        if not (yield from FreezeCount(pfn, 1)):
            return None
    for pfn in range(first + 1, last):
        yield from LinkTail(pfn, first, g.order)
    for field, value in (("head", 1), ("order", g.order), ("hugetlb", 1)):
        yield from StorePage(first, field, value)
    yield from hugetlb_vmemmap_optimize_folios(v, g.order, heads_of(g, 0))
    yield from StorePage(first, "refcount", 1)


def gather_waiting_first(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """The same, but wait for readers before the freeze: in vain, for a reader that comes in between
    still sees a count.
    """
    yield from SynchronizeReaders()
    return (yield from gather(v, g))


def build_at_boot(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Build the first huge page optimised."""
    return hugetlb_vmemmap_init(v, g.order, heads_of(g, 0))


def build_and_give_back(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Build the first huge page optimised, and give it back later."""
    yield from hugetlb_vmemmap_init(v, g.order, heads_of(g, 0))
    return (yield from update_and_free_page(v, hstate(g), g.head(0)))


def refer(kernel: str) -> Act:
    """A walker that takes a reference on a tail's own count, guarded as in `kernel`."""
    return partial(_refer, kernel=kernel)


def _refer(v: SmallVmemmap, g: Geometry, kernel: str) -> Steps[object]:
    return page_ref_add_unless(v, last_page(g), SPECULATIONS[kernel])


def refer_to_head(kernel: str) -> Act:
    """A walker that takes a reference on the head of what it found."""
    return partial(_refer_to_head, kernel=kernel)


def _refer_to_head(v: SmallVmemmap, g: Geometry, kernel: str) -> Steps[object]:
    return folio_try_get(v, last_page(g), SPECULATIONS[kernel])


def fail_memory(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """The frame of a tail of the first huge page is broken."""
    return memory_failure(v, tail(g))


def fail_at_once(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """The same, with nothing between its look at the mark and its write."""
    yield from StopCpus(preemptible=False)
    yield from memory_failure(v, tail(g))
    yield from ResumeCpus()


def fail_page_start(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """The same for a tail whose struct page begins a vmemmap page, so that it may look like a
    head.
    """
    return memory_failure(v, last_page(g))


def flush_dcache(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """A tail of the first huge page was mapped executable, and is written to."""
    yield from StorePage(tail(g) if not v.era.has("dcache-head") else g.head(0), "dcache_clean", 1)
    yield from flush_dcache_page(v, tail(g))


def sync_caches(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """A tail of the first huge page is mapped executable."""
    return sync_icache_dcache(v, tail(g))


def read_tail(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Read a tail of the first huge page."""
    return (yield from LoadPage(last_page(g), "link"))


def follow(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Read the first tail of the first huge page whose page is shared, and the head that it leads
    to.
    """
    head = int((yield from compound_head(v, g.head(0) + v.era.layout.kept_pages * STRUCTS)))
    return (yield from LoadPage(head, "flags"))


def trust_the_key(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Look at the struct page that begins the last vmemmap page as `compound_head` does, with the
    static key, and with nothing in between: a tail must not pass for a head.
    """
    pfn = last_page(g)
    yield from StopCpus(preemptible=False)
    link = yield from LoadPage(pfn, "link")
    if not int(link) & 1 and not (yield from ReadCounter(Counter.OPTIMIZED_KEY)):
        marked = yield from TestPage(pfn, "head")
        what = f"the key is off, and pfn {pfn}, a tail, is taken for a head"
        yield from Assert(not marked, what, "wrong-head")
    yield from ResumeCpus()


def mark_tail(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Leave something in a tail of the first huge page that others do not have."""
    yield from StorePage(last_page(g), "dcache_clean", 1)


def read_twice(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Read tails of the first huge page in two vmemmap pages."""
    for page in range(1, g.used):
        yield from LoadPage(g.head(0) + page * STRUCTS, "link")


def lock_while_masked(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Take the page-table lock with interrupts masked, under the lock of the pools."""
    yield from Acquire(Lock.HUGETLB)
    yield from Acquire(Lock.PAGE_TABLE)
    yield from Release(Lock.PAGE_TABLE)
    yield from Release(Lock.HUGETLB)


def read_head(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Read the head of the first huge page."""
    return (yield from LoadPage(g.head(0), "flags"))


def write_head(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Write to the head of the first huge page, whose struct page anybody may change."""
    yield from StorePage(g.head(0), "dcache_clean", 1)


def take_freed(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Take a frame that was freed, and write to it twice."""
    frame = yield from TakeFreed()
    if frame is not None:
        yield from WriteData(frame)
        yield from WriteData(frame)


def dump(lock: DumpLock) -> Act:
    """Dump the page tables under `lock`."""
    return partial(_dump, lock=lock)


def _dump(v: SmallVmemmap, g: Geometry, lock: DumpLock) -> Steps[object]:
    return ptdump(v, PUD_FRAME * PAGE, BASE, BASE + g.vmemmap_pages * PAGE, lock)


def unmap_block(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Take away the memory whose struct pages these are, when no huge page is in it any more."""
    yield from Acquire(Lock.HOTPLUG)
    yield from vmemmap_free(v, PUD_FRAME * PAGE, BASE, BASE + g.vmemmap_pages * PAGE, hosted=False)
    yield from Release(Lock.HOTPLUG)


def unmap_neighbour(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Take away the memory of the second group only, whose struct pages share a table with the
    first one's.
    """
    start = BASE + g.group * PAGE
    yield from Acquire(Lock.HOTPLUG)
    yield from vmemmap_free(v, PUD_FRAME * PAGE, start, start + g.group * PAGE, hosted=False)
    yield from Release(Lock.HOTPLUG)


def add_neighbour(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Add the memory of the second group, whose struct pages are not mapped yet."""
    block = Block(g.head(1), g.group * STRUCTS)
    yield from Acquire(Lock.HOTPLUG)
    error = yield from arch_add_memory(v, PUD_FRAME * PAGE, block)
    yield from Release(Lock.HOTPLUG)
    if not error:
        yield from InitPages(block.start, block.end, block.node)


def optimize_and_dissolve(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Optimise all huge pages, and restore them."""
    heads = heads_of(g, *range(g.pages))
    yield from hugetlb_vmemmap_optimize_folios(v, g.order, heads)
    yield from hugetlb_vmemmap_restore_folios(v, g.order, heads)


def remove_hosting_block(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """Dissolve, unmap and remove a block that holds its own struct pages."""
    yield from hugetlb_vmemmap_restore_folios(v, g.order, heads_of(g, *range(g.pages)))
    yield from Acquire(Lock.HOTPLUG)
    yield from vmemmap_free(v, PUD_FRAME * PAGE, BASE, BASE + g.vmemmap_pages * PAGE, hosted=True)
    yield from RemoveMemory(0, g.vmemmap_pages)
    yield from Release(Lock.HOTPLUG)


def record_error(v: SmallVmemmap, g: Geometry) -> Steps[object]:
    """A page of the first huge page is broken while that is a HugeTLB page."""
    return get_huge_page_for_hwpoison(v, tail(g))


# -- who they are --

OPTIMIZER = Actor("O", "optimise", optimize(0))
OPTIMIZER_2 = Actor("P", "optimise another page", optimize(1))
RESTORER = Actor("R", "restore and free", give_back)
MEMORY_FAILURE = Actor("M", "memory failure", fail_memory)
READER = Actor("G", "reader", read_tail)
ALLOCATOR = Actor("A", "allocator", take_freed)
