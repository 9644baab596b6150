"""Invariant "the key is on while any PTE is remapped" (static_branch_inc before remap): 5.18, the key goes up after the remap.
DERIVED: UNSAFE in 5.18-7.0: in between, page_fixed_fake_head() is off and a reader takes tail 64, whose struct page shows the head's, for a head
of its own (compound_head(tail) == tail)."""
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

def optimize(v, order, head):
    held = []
    def rule(step):
        if isinstance(step, Count) and step.counter is Counter.OPTIMIZED_KEY and step.delta == 1:
            held.append(step)
            return []
        if isinstance(step, Count) and step.counter is Counter.OPTIMIZED_KEY and step.delta == -1 and held:
            held.pop()
            return []
        if isinstance(step, StorePage) and step.field == "vmemmap_optimized" and held:
            return [step, held.pop()]
        return [step]
    return (yield from _edit(_opt(v, order, head), rule))
