"""the shared tail of another zone is mapped (page_zone(tail) != zone of the head).
DERIVED: UNSAFE: page_zone()/page_to_nid() of every tail is wrong, compaction and isolation act on another zone's lists. hvo's small machine
has one zone: v.tail_slot(zone, order) ignores its argument."""
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
    zone_of = v.zone_of
    wrong = v.tail_slot(zone_of(head) + 1, order)          # the next zone's variable
    def rule(step):
        if isinstance(step, (ReadPointer, PublishPointer)) and int(step.location) == int(v.tail_slot(zone_of(head), order)):
            return [type(step)(wrong, *([step.value] if isinstance(step, PublishPointer) else []))]
        return [step]
    return (yield from _edit(_opt(v, order, head), rule))

def restore(v, order, head):
    return (yield from _res(v, order, head))
