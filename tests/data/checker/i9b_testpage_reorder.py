"""Control of i9: the same walker with TestPage. DERIVED: UNSAFE."""
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

ERA = "6.2"
MACHINE = "riscv64"
GEOMETRY = {"pages": 1, "used": 2, "group": 2, "leaf": 2}

def _walk(v, order, head):
    pfn = head + v.structs_per_page
    yield from EnterReadSection()
    count = yield from TestPage(pfn, "refcount")
    if count:
        flags = (1 << 6) * int((yield from TestPage(pfn, "head")))
        if not flags & (1 << 6):             # PG_head clear: no fake head
            yield from IncrementUnlessZero(pfn, "refcount")
    yield from LeaveReadSection()

def optimize(v, order, head):
    """The count is frozen (0) already; optimise, unfreeze."""
    error = yield from _opt(v, order, head)
    yield from StorePage(head, "refcount", 1)                # unfreeze
    return error

def walker(v, order, head):
    return (yield from _walk(v, order, head))
