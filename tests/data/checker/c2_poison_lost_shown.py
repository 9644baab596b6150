"""(c) shown in hvo's own terms: the same restore, with the refusal simulated once and the give-back tried again against memory failure.
DERIVED: UNSAFE (poison-freed)."""
import numpy as np
from hvo.actors.memory_failure import clear_hugetlb_and_hwpoison, get_huge_page_for_hwpoison
from hvo.protocol import FreeFolio
from hvo.protocol import TakeRawErrors
from hvo.protocol import StorePage
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
ERA = "7.1"

def _optimize(v, order, head):
    r = yield from hugetlb_vmemmap_optimize_folios(v, order, np.array([head], np.int64))
    return int(r[0])

def _restore(v, order, head, refused=False):
    broken = yield from TakeRawErrors(head)
    if refused:
        return -12
    r = yield from hugetlb_vmemmap_restore_folios(v, order, np.array([head], np.int64))
    for pfn in broken:
        yield from StorePage(pfn, "hwpoison", 1)
    return int(r[-1])

def failing(v, order, head):
    """Memory failure, a give-back that is refused memory, and one that is not: in one actor, for no scenario has refusals and memory failure."""
    yield from _optimize(v, order, head)
    yield from get_huge_page_for_hwpoison(v, head + 2 * v.structs_per_page + 1)
    yield from _restore(v, order, head, refused=True)
    if not (yield from _restore(v, order, head)):
        yield from clear_hugetlb_and_hwpoison(v, head)
        yield from FreeFolio(head, order)
