"""Proposal C, contents equal at the retarget, then the old frame is overwritten (through the linear map) before the flush of the retarget.
DERIVED on arm64+bbm2+noabort: UNSAFE. Arm ARM (R_WHZWS / D8.16.1): while a TLB may hold both translations, the contents of the two output
addresses must be the same; here they differ from the overwrite on."""
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
MACHINE = "arm64+bbm2+noabort"

def optimize(v, order, head):
    start = v.address(head)
    error = yield from split_vmemmap_huge_pmd(v, start, v.node_of(head), flush=True)
    if error:
        return error
    shared = yield from shared_tail(v, order, head)
    if shared is None:
        return -12
    table = yield from pte_of(v, start)
    end = start + np.uint64(v.page_size * v.vmemmap_pages(order))
    where = [(table + np.uint64(8 * page), start + np.uint64(page * v.page_size)) for page in range(1, v.vmemmap_pages(order))]
    frames = []
    for location, address in where:
        old = yield from ReadEntry(location, 0)
        frames.append(int(v.pfn(old.value)))
        yield from WriteEntry(location, int(v.leaf_entry(frames[-1], writable=False)), 0, address)
    yield from Flush(start, end)
    for frame in frames:
        yield from FillTails(frame, head, order, v.structs_per_page)
    yield from WriteBarrier()
    yield from StorePage(head, "vmemmap_optimized", 1)
    for location, address in where:
        yield from WriteEntry(location, v.leaf_entry(shared, writable=False), 0, address)
    for frame in frames:
        yield from CopyFrame(start, frame, v.structs_per_page)   # "poison" the frames that go, too early
    yield from Flush(start, end)
    for frame in frames:
        yield from FreeFrame(frame, memmap=True)
    yield from Count(Counter.OPTIMIZED_KEY, 1)
    return 0
