"""Handling of memory that the hardware reports as broken (mm/memory-failure.c)."""

from hvo.actors.walker import compound_head, page_huge
from hvo.steps.vocabulary import Acquire, Lock, Release, Steps, StorePage
from hvo.vmemmap.context import Vmemmap


def memory_failure(v: Vmemmap, pfn: int) -> Steps:
    """Mark the frame `pfn` as poisoned -> the pfn that got the mark: the head of a HugeTLB page, else `pfn` itself.

    The mark is looked for under `hugetlb_lock`, but a page without it is written after the lock was let go
    (`try_memory_failure_hugetlb`): if it is a HugeTLB page whose mark is late (H07) or gone early (H06), that write meets a read-only tail.
    """
    yield Acquire(Lock.HUGETLB)
    if (yield from page_huge(v, pfn)):
        head = int((yield from compound_head(v, pfn)))
        yield StorePage(head, "hwpoison", 1)
        yield Release(Lock.HUGETLB)
        return head
    yield Release(Lock.HUGETLB)
    yield StorePage(pfn, "hwpoison", 1)
    return pfn
