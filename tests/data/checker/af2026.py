"""The arm64 series of July/August 2026 from its public code (arch/arm64/include/asm/pgalloc.h, try_populate_vmemmap_pmd): access-flag
trick for the PMD block *and* for the PTEs, no FEAT_BBM needed, hardware access flag (system_supports_hvo). 16 attempts, then -EAGAIN.

Derived verdict on arm64+haf: SAFE. An entry whose AF is clear cannot be in a TLB, so replacing it needs no break-before-make; an access in
between makes the walker set AF (FEAT_HAFDBS works on block descriptors as on pages: Arm ARM D8.5.5 "hardware management of the Access
flag" applies to Block and Page descriptors) and the compare-and-swap fails.
"""
import numpy as np
from hvo.protocol import FillTable, Flush
from hvo.protocol import CompareExchangeEntry
from hvo.protocol import (Acquire, AllocateFrame, Count, Counter, EntryKind, FreeFrame, Locate, Lock, ReadEntry, Release,
    StorePage, WriteBarrier)
from hvo.vmemmap.optimize import shared_tail
from hvo.vmemmap.remap import pte_of
from hvo.vmemmap.split import table_of_leaf
MACHINE = "arm64+haf"
ERA = "7.1"
TRIES = 4          # 16 in the patch

def _swap(v, location, level, address, size, new):
    """clear AF, flush, try_cmpxchg; again when somebody set AF meanwhile."""
    for _ in range(TRIES):
        entry = yield from ReadEntry(location, level)
        old = int(entry.value)
        cleared = int(v.format.access_flag_cleared(old))
        if old != cleared:
            if not (yield from CompareExchangeEntry(location, old, cleared, level, address)):
                continue
            yield from Flush(address, address + np.uint64(size))
        if (yield from CompareExchangeEntry(location, cleared, new, level, address)):
            return old
    return None

def _split(v, address, node):
    pmd = yield from Locate(address, 1)
    entry = yield from ReadEntry(pmd, 1)
    if entry.kind is not EntryKind.LEAF:
        return 0
    table = yield from AllocateFrame(node)
    if table is None:
        return -12
    yield from FillTable(table, table_of_leaf(v, entry.value))
    yield from Acquire(Lock.PAGE_TABLE)
    now = yield from ReadEntry(pmd, 1)
    if now.kind is not EntryKind.LEAF:
        yield from Release(Lock.PAGE_TABLE)
        yield from FreeFrame(table)
        return 0
    yield from WriteBarrier()
    start = np.uint64(int(address) & -v.leaf & 0xFFFFFFFFFFFFFFFF)
    done = yield from _swap(v, pmd, 1, start, v.leaf, int(v.format.make_table(int(table) * v.page_size)))
    yield from Release(Lock.PAGE_TABLE)
    if done is None:
        yield from FreeFrame(table)
        return -11
    return 0

def optimize(v, order, head):
    shared = yield from shared_tail(v, order, head)
    if shared is None:
        return -12
    start = v.address(head)
    yield from Acquire(Lock.MMAP_WRITE)
    error = yield from _split(v, start, v.node_of(head))
    if error:
        yield from Release(Lock.MMAP_WRITE)
        return error
    table = yield from pte_of(v, start)
    new = int(v.leaf_entry(shared, writable=False))
    yield from StorePage(head, "vmemmap_optimized", 1)
    freed, error = [], 0
    for page in range(1, v.vmemmap_pages(order)):
        address = start + np.uint64(page * v.page_size)
        old = yield from _swap(v, table + np.uint64(8 * page), 0, address, v.page_size, new)
        if old is None:
            error = -11
            break
        freed.append(int(v.pfn(old)))
    if freed:
        yield from Count(Counter.OPTIMIZED_KEY, 1)
    else:
        yield from StorePage(head, "vmemmap_optimized", 0)
    yield from Release(Lock.MMAP_WRITE)
    for frame in freed:
        yield from FreeFrame(frame, memmap=True)
    return error
