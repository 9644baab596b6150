"""restore takes the record of raw errors before it knows that it can restore, and does not put it back when memory is refused.
DERIVED: UNSAFE: memory failure records an error; a first give-back takes the record and fails for want of memory; the second succeeds
and frees the page with an error that no page is marked for (poison-freed)."""
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
    return (yield from _opt(v, order, head))

def restore(v, order, head):
    broken = yield from TakeRawErrors(head)
    error = yield from _res(v, order, head)
    if error:
        return error                              # the record is lost here
    for pfn in broken:
        yield from StorePage(pfn, "hwpoison", 1)
    return 0
