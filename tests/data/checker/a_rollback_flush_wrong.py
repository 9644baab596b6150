"""the rollback of a failed optimise flushes the wrong range: one page only, the head's.
5.18 (each page flushes for itself; in a batch the last flush of all would hide it); the huge page lies over two leaves, the second split is refused. DERIVED: UNSAFE. After the failure the page is not optimised, so it can be
given back at any time with no restore: the allocator writes its tails through a read-only translation of the shared frame that a
TLB still holds (and readers on other CPUs see the shared frame instead of the page's own)."""
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

ERA = "5.18+split-lock-read+mark-first+mark-until-restored+wait-for-readers+node-fallback"
GEOMETRY = {"pages": 1, "used": 4, "group": 4, "leaf": 2}

def optimize(v, order, head):
    # the only flush of more than one page after a remap that failed is the rollback's: narrow every range flush that does not begin a leaf split
    start = int(v.address(head))
    state = {"done": 0}
    def rule(step):
        if isinstance(step, WriteEntry) and step.level == 0 and v.format.is_writable(int(step.value)) and int(step.address) != start:
            state["back"] = 1           # a tail's entry is made writable again: we are rolling back
        if isinstance(step, Invalidate) and state.pop("back", None):
            return [Invalidate(np.uint64(start), np.uint64(start + v.page_size))]
        return [step]
    return (yield from _edit(_opt(v, order, head), rule))

def restore(v, order, head):
    return (yield from _res(v, order, head))
