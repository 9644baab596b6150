"""Handling of memory that the hardware reports as broken (mm/memory-failure.c).

A HugeTLB page has a record of its broken pages, because their own struct pages may be read-only
tails. When it is given back, the marks move from the record to the pages; an error that is added
after that, while the HugeTLB mark is still there, is lost (hazard H08).
"""

from hvo.actors.walker import compound_head, page_huge
from hvo.steps.base import Steps, Value
from hvo.steps.ordering import Acquire, Lock, Release
from hvo.steps.pool import AddRawError, TakeRawErrors
from hvo.steps.struct_pages import StorePage, TestPage
from hvo.vmemmap.context import Vmemmap


def memory_failure(v: Vmemmap, pfn: int) -> Steps[int]:
    """Mark the frame `pfn` as poisoned -> the pfn that got the mark: the head of a HugeTLB page,
    else `pfn` itself.

    The mark is looked for under `hugetlb_lock`, but a page without it is written after the lock was
    let go (`try_memory_failure_hugetlb`): if it is a HugeTLB page whose mark is late (H07) or gone
    early (H06), that write meets a read-only tail.
    """
    head = yield from get_huge_page_for_hwpoison(v, pfn)
    if head is not None:
        return head
    yield from StorePage(pfn, "hwpoison", 1)
    return pfn


def get_huge_page_for_hwpoison(v: Vmemmap, pfn: int) -> Steps[int | None]:
    """Note that `pfn` is broken if it belongs to a HugeTLB page, under `hugetlb_lock` -> the head's
    pfn, None when it does not.
    """
    head = None
    yield from Acquire(Lock.HUGETLB)
    if (yield from page_huge(v, pfn)):
        head = int((yield from compound_head(v, pfn)))
        yield from hugetlb_update_hwpoison(head, pfn)
    yield from Release(Lock.HUGETLB)
    return head


def hugetlb_update_hwpoison(head: int, pfn: int) -> Steps[None]:
    """Mark the HugeTLB page `head` as poisoned, and add `pfn` to its record -> None.

    `hugetlb_set_page_hwpoison` to 6.1, `folio_set_hugetlb_hwpoison` since 6.2.
    """
    yield from StorePage(head, "hwpoison", 1)
    yield from AddRawError(head, pfn)


def folio_clear_hugetlb_hwpoison(head: Value) -> Steps[int]:
    """Move the mark of the HugeTLB page `head`, whose vmemmap is whole again, to the pages that are
    broken -> 0.
    """
    if (yield from TestPage(head, "hwpoison")):
        yield from StorePage(head, "hwpoison", 0)
        for pfn in (yield from TakeRawErrors(head)):
            yield from StorePage(pfn, "hwpoison", 1)
    return 0


def clear_hugetlb(heads: Value) -> Steps[None]:
    """Take the HugeTLB mark from `heads`, one or several, under `hugetlb_lock` -> None
    (`__folio_clear_hugetlb`).
    """
    yield from Acquire(Lock.HUGETLB)
    yield from StorePage(heads, "hugetlb", 0)
    yield from Release(Lock.HUGETLB)


def clear_hugetlb_and_hwpoison(v: Vmemmap, head: Value) -> Steps[None]:
    """Take the HugeTLB mark from the restored page `head`, and move its errors to the pages -> None
    (`__update_and_free_hugetlb_folio`).

    Without `errors-after-mark` (6.6 to 6.9) the errors move first, and one that is noted before the
    mark is gone stays behind (H08).
    """
    if not v.era.has("errors-after-mark"):
        yield from folio_clear_hugetlb_hwpoison(head)
    yield from clear_hugetlb(head)
    if v.era.has("errors-after-mark"):
        yield from folio_clear_hugetlb_hwpoison(head)
