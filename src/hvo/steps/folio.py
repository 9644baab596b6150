"""Steps on whole huge pages: taken from the page allocator, made compound, given back."""

from dataclasses import dataclass

import numpy as np

from hvo.steps.composite import Composite
from hvo.steps.vocabulary import Step, Steps, StorePage, Value


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFolio(Step):
    """Allocate a block of `order` on `node` for movable contents -> its first pfn, None when there
    is none on that node.
    """

    order: int
    node: int


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFolios(Composite):
    """Allocate `count` blocks of `order` on `node` -> their first pfns (int64 array), fewer when
    memory runs out.
    """

    order: int
    node: int
    count: int

    def parts(self) -> Steps:
        """One after the other, until one is refused."""
        got: list[int] = []
        while len(got) < self.count:
            pfn = yield AllocateFolio(self.order, self.node)
            if pfn is None:
                break
            got.append(int(pfn))
        return np.array(got, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PrepareCompound(Composite):
    """Make the blocks `heads` of `order` compound pages that nobody references yet
    (`prep_compound_page`) -> None.
    """

    heads: Value
    order: int

    def parts(self) -> Steps:
        """Tail by tail the link, then what the head knows; block by block."""
        for head in np.atleast_1d(self.heads).tolist():
            for tail in range(head + 1, head + (1 << self.order)):
                yield LinkTail(tail, head, self.order)
            yield StorePage(head, "head", 1)
            yield StorePage(head, "order", self.order)


@dataclass(frozen=True, slots=True, eq=False)
class LinkTail(Step):
    """Make the struct page of `pfn` a tail of `head` (`prep_compound_tail`) -> None."""

    pfn: int
    head: int
    order: int


@dataclass(frozen=True, slots=True, eq=False)
class FreeFolio(Step):
    """Give the block `head` of `order` to the page allocator, which looks at every struct page
    first -> whether it took it.

    A tail that does not link to its head is a "Bad page state": the block is lost
    (`free_pages_prepare`, mm/page_alloc.c). `heads` may be an array: then an array of bools.
    """

    heads: Value
    order: int
