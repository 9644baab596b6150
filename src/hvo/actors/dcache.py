"""Keeping instruction and data caches together: PG_dcache_clean of a page (arch/arm64/mm/flush.c;
riscv has the same).

The flag is cleared when the kernel has written to a page, and set once the caches were made to
agree. A HugeTLB page is always mapped whole, so the head's flag says it for all of it; tails of an
optimised one are read-only, and writing theirs faults (hazard H02).
"""

from hvo.actors.walker import compound_head, page_huge
from hvo.steps.base import Steps, Value
from hvo.steps.struct_pages import StorePage, TestPage
from hvo.vmemmap.context import Vmemmap


def flush_dcache_page(v: Vmemmap, pfn: Value) -> Steps[int]:
    """Say that the data of `pfn` may not have reached memory -> 0."""
    page = yield from _flag_holder(v, pfn)
    if (yield from TestPage(page, "dcache_clean")):
        yield from StorePage(page, "dcache_clean", 0)
    return 0


def sync_icache_dcache(v: Vmemmap, pfn: Value) -> Steps[int]:
    """Make the caches agree about `pfn` before it is mapped executable, unless they do
    (`__sync_icache_dcache`) -> 0.
    """
    page = yield from _flag_holder(v, pfn)
    if not (yield from TestPage(page, "dcache_clean")):
        yield from StorePage(page, "dcache_clean", 1)
    return 0


def _flag_holder(v: Vmemmap, pfn: Value) -> Steps[Value]:
    """Whose flag counts -> its pfn: with `dcache-head` the head of a HugeTLB page, else the page
    itself.
    """
    if v.era.has("dcache-head") and (yield from page_huge(v, pfn)):
        return (yield from compound_head(v, pfn))
    return pfn
