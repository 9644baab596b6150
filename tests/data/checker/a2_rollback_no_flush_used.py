"""(a) again, with the use that shows it put into the protocol: after a failed optimise the (whole) page is given back by `optimize` itself.
DERIVED: UNSAFE (write through a stale read-only translation)."""
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
    start = int(v.address(head))
    state = {}
    def rule(step):
        if isinstance(step, WriteEntry) and step.level == 0 and v.format.is_writable(int(step.value)) and int(step.address) != start:
            state["back"] = 1
        if isinstance(step, Invalidate) and state.pop("back", None):
            return [Invalidate(np.uint64(start), np.uint64(start + v.page_size))]
        return [step]
    error = yield from _edit(_opt(v, order, head), rule)
    if error:
        yield from StorePage(head + v.structs_per_page, "dcache_clean", 1)     # somebody uses a tail of the page that is not optimised
        yield from StorePage(head + v.structs_per_page, "dcache_clean", 0)
    return error
