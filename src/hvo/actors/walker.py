"""Page-frame walkers: code that comes across a struct page by its number and takes a reference on a
guess.

Compaction, isolation, page idle tracking and others; include/linux/page_ref.h,
include/linux/page-flags.h. The page may be anything by then: also a tail of an optimised HugeTLB
page, whose struct page is read-only (hazard H03).
"""

from typing import Literal, NamedTuple

import numpy as np

from hvo.kernel.vmcore import compound_head as linked_head
from hvo.memory.interface import Pfns, Words
from hvo.mmu.shape import Flags
from hvo.steps.base import Steps, Value
from hvo.steps.ordering import EnterReadSection, LeaveReadSection, ReadBarrier
from hvo.steps.struct_pages import DropReference, IncrementUnlessZero, LoadPage, TestPage
from hvo.vmemmap.context import Vmemmap


class Speculation(NamedTuple):
    """How a kernel guards a speculative reference: what it looks at before it writes, in that
    order, and whether in a read-side section.
    """

    looks: tuple[Literal["count", "barrier", "fake-head"], ...]
    read_section: bool


SPECULATIONS = {
    "5.14": Speculation((), read_section=False),
    "6.10": Speculation(("fake-head", "count"), read_section=True),
    "6.10-swapped": Speculation(("count", "fake-head"), read_section=True),
    "6.13": Speculation(("count", "barrier", "fake-head"), read_section=True),
    "7.1": Speculation((), read_section=False),
}
"""By the first kernel that has it; 7.1 has no fake heads to look for.

6.10 has the order of hazard H03b. 6.13 has the right one, and keeps it: its load of the count is an
acquire, the barrier here (`page_count_writable`). In the right order without that, a machine that
reorders loads does the same as 6.10.
"""


def page_ref_add_unless(v: Vmemmap, pfn: int, how: Speculation) -> Steps[bool]:
    """Take a reference on the page `pfn` itself unless it has none -> whether that worked."""
    if how.read_section:
        yield from EnterReadSection()
    got = False
    if (yield from page_count_writable(v, pfn, how)):
        got = yield from IncrementUnlessZero(pfn, "refcount")
    if how.read_section:
        yield from LeaveReadSection()
    return got


def page_count_writable(v: Vmemmap, pfn: int, how: Speculation) -> Steps[bool]:
    """Whether the reference count of `pfn`, for all that was looked at, is not 0 and not in a frame
    that tails share -> bool.
    """
    for look in how.looks:
        if look == "count" and not (yield from TestPage(pfn, "refcount")):
            return False
        if look == "barrier":
            yield from ReadBarrier()
        if look == "fake-head" and int((yield from page_fixed_fake_head(v, pfn))) != pfn:
            return False
    return True


def folio_try_get(v: Vmemmap, pfn: int, how: Speculation) -> Steps[int | None]:
    """Take a reference on the head of `pfn` -> its pfn; None when it had none, or `pfn` belongs to
    another head by then.
    """
    head = int((yield from compound_head(v, pfn)))
    if not (yield from page_ref_add_unless(v, head, how)):
        return None
    if int((yield from compound_head(v, pfn))) == head:
        return head
    yield from DropReference(head)
    return None


def compound_head(v: Vmemmap, pfn: Value) -> Steps[Pfns]:
    """The pfn of the head of `pfn`, `pfn` itself where it is no tail (for one, or one for each page
    of a run).

    The link is an address or, in 7.1, a mask. Where tails share the frame of the head, a struct
    page without a link may still be a tail.
    """
    link = yield from LoadPage(pfn, "link")
    head = _linked(v, pfn, link)
    if v.era.layout.shares == "head":
        fixed = yield from page_fixed_fake_head(v, pfn)
        return _choose(_is_tail(link), head, fixed)
    return head


def page_fixed_fake_head(v: Vmemmap, pfn: Value) -> Steps[Pfns]:
    """The pfn of the head when `pfn` shows the head's own struct page once more, else `pfn`.

    The kernel looks at the next struct page only where `pfn`'s lies at the start of a page, and at
    the static key before; the answer is the same without, since a page with the head flag has a
    next one.
    """
    if not (yield from TestPage(pfn, "head")):
        return np.asarray(pfn, np.int64)
    following = np.asarray(pfn, np.int64) + 1
    link = yield from LoadPage(following, "link")
    starts_page = v.address(pfn) % np.uint64(v.page_size) == 0
    return _choose(starts_page & _is_tail(link), _linked(v, following, link), pfn)


def page_huge(v: Vmemmap, pfn: Value) -> Steps[bool]:
    """Whether `pfn` belongs to a HugeTLB page (`PageHuge`) -> bool."""
    head = yield from compound_head(v, pfn)
    if not (
        yield from TestPage(head, "head")
    ):  # a page by itself: what would be the mark is another page's
        return False
    return (yield from TestPage(head, "hugetlb"))


def _is_tail(link: Words) -> Flags:
    return link & np.uint64(1) != 0


def _linked(v: Vmemmap, pfn: Value, link: Words) -> Pfns:
    """Where the `link` of `pfn` leads; `pfn` itself when it is none."""
    own = np.atleast_1d(np.asarray(v.address(pfn), np.uint64))
    head = linked_head(own, np.atleast_1d(np.asarray(link, np.uint64)) | np.uint64(1))
    number = ((head - np.uint64(v.base)) // np.uint64(v.struct_page_size)).astype(np.int64)
    return _choose(_is_tail(link), number.reshape(np.shape(pfn)), pfn)


def _choose(condition: Flags, yes: Value, no: Value) -> Pfns:
    """`np.where` for pfns."""
    return np.where(condition, np.asarray(yes, np.int64), np.asarray(no, np.int64))
