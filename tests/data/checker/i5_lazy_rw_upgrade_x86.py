"""False-unsafe test. Tails are made read-only in their own frames (no sharing); restore makes the same frames writable again with NO flush.
DERIVED on x86_64: SAFE: a kernel write through a stale read-only entry of a page whose entry is writable is a spurious fault, which Linux
handles (spurious_kernel_fault(), arch/x86/mm/fault.c). arm64: UNSAFE (permission fault in the kernel)."""
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

def _set(v, order, head, writable):
    start = v.address(head)
    table = yield from pte_of(v, start)
    for page in range(1, v.vmemmap_pages(order)):
        location = table + np.uint64(8 * page)
        old = yield from ReadEntry(location, 0)
        yield from WriteEntry(location, int(v.leaf_entry(v.pfn(old.value), writable=writable)), 0, start + np.uint64(page * v.page_size))

def optimize(v, order, head):
    start = v.address(head)
    error = yield from split_vmemmap_huge_pmd(v, start, v.node_of(head), flush=True)
    if error:
        return error
    yield from _set(v, order, head, False)
    yield from Flush(start, start + np.uint64(v.page_size * v.vmemmap_pages(order)))
    return 0

def restore(v, order, head):
    start = v.address(head)
    pmd = yield from Locate(start, 1)
    entry = yield from ReadEntry(pmd, 1)
    if entry.kind is not EntryKind.TABLE:
        return 0
    yield from _set(v, order, head, True)
    return 0
