"""try_populate_vmemmap_pmd() of the 2026 arm64 series alone: only the split of the block by the access-flag trick (machine without FEAT_BBM), no
remap. DERIVED on arm64+haf: SAFE against a reader (the walker sets AF of the block, FEAT_HAFDBS, and the compare-and-swap fails).
hvo: "Hardware sets access flags of pages, not of blocks" (limits.md), so any access that meets the block with AF clear is access-invalid."""
import importlib.util
import numpy as np
from hvo.protocol import FillTable, Flush
from hvo.protocol import CompareExchangeEntry
from hvo.protocol import *
from hvo.vmemmap.split import table_of_leaf
MACHINE = "arm64+haf"

def _swap(v, location, level, address, size, new):
    for _ in range(4):
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

def optimize(v, order, head):
    address = v.address(head)
    pmd = yield from Locate(address, 1)
    yield from Acquire(Lock.PAGE_TABLE)
    entry = yield from ReadEntry(pmd, 1)
    if entry.kind is not EntryKind.LEAF:
        yield from Release(Lock.PAGE_TABLE)
        return 0
    table = yield from AllocateFrame(v.node_of(head))
    if table is None:
        yield from Release(Lock.PAGE_TABLE)
        return -12
    yield from FillTable(table, table_of_leaf(v, entry.value))
    yield from WriteBarrier()
    done = yield from _swap(v, pmd, 1, address, v.leaf, int(v.format.make_table(int(table) * v.page_size)))
    yield from Release(Lock.PAGE_TABLE)
    if done is None:
        yield from FreeFrame(table)
        return -11
    return 0
