"""Store buffering: optimise sets the mark, then looks whether a writer of tails is active; the writer says it is active, then looks at
the mark. No full barrier on either side. DERIVED: UNSAFE on x86-64 (TSO lets both loads pass their own earlier store) and on arm64/riscv: both
read 0, and the writer writes a read-only tail. (With smp_mb() on both sides: safe.)"""
import numpy as np
from hvo import protocol as s
from hvo.protocol import *
from hvo.protocol import primitives as _primitives
from hvo.protocol import AddRawError, TakeRawErrors
from hvo.protocol import FreeFolio, LinkTail
from hvo.vmemmap.context import ENOMEM
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios, shared_tail
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
from hvo.vmemmap.remap import pte_of
from hvo.vmemmap.split import split_vmemmap_huge_pmd

def _opt(v, order, *heads):
    r = yield from hugetlb_vmemmap_optimize_folios(v, order, np.array(heads, np.int64))
    return int(r[0])

def _res(v, order, *heads):
    r = yield from hugetlb_vmemmap_restore_folios(v, order, np.array(heads, np.int64))
    return int(r[-1])

def _edit(walk, rule):
    """Run `walk` primitive by primitive; rule(step) -> the steps to do instead (the result of the last is sent; none: None)."""
    walk, result = _primitives(walk), None
    while True:
        try:
            step = walk.send(result)
        except StopIteration as stop:
            return stop.value
        result = None
        for new in rule(step):
            result = yield new

ERA = "7.1"

def optimize(v, order, head):
    yield from StorePage(head, "vmemmap_optimized", 1)
    if (yield from TestPage(head, "dcache_clean")):
        yield from StorePage(head, "vmemmap_optimized", 0)
        return -16
    start = v.address(head)
    error = yield from split_vmemmap_huge_pmd(v, start, v.node_of(head), flush=True)
    if error:
        yield from StorePage(head, "vmemmap_optimized", 0)
        return error
    shared = yield from shared_tail(v, order, head)
    if shared is None:
        yield from StorePage(head, "vmemmap_optimized", 0)
        return -12
    table = yield from pte_of(v, start)
    frames = []
    for page in range(1, v.vmemmap_pages(order)):
        location, address = table + np.uint64(8 * page), start + np.uint64(page * v.page_size)
        old = yield from ReadEntry(location, 0)
        yield from WriteEntry(location, v.leaf_entry(shared, writable=False), 0, address)
        frames.append(v.pfn(old.value))
    yield from Flush(start, start + np.uint64(v.page_size * v.vmemmap_pages(order)))
    for frame in frames:
        yield from FreeFrame(frame, memmap=True)
    yield from Count(Counter.OPTIMIZED_KEY, 1)
    return 0

def tail_writer(v, order, head):
    yield from StorePage(head, "dcache_clean", 1)
    if not (yield from TestPage(head, "vmemmap_optimized")):
        yield from StorePage(head + 2 * v.structs_per_page, "dcache_clean", 1)
        yield from StorePage(head + 2 * v.structs_per_page, "dcache_clean", 0)
    yield from StorePage(head, "dcache_clean", 0)
