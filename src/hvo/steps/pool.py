"""Steps on the pools of HugeTLB pages; each is done in one go under `hugetlb_lock`."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hvo.memory.interface import Pfns
from hvo.mmu.shape import Flags
from hvo.steps.base import Composite, Step, Steps, Value


class PoolNumbers(NamedTuple):
    """What a pool holds on the nodes asked about: all pages, free ones, surplus ones, and how many
    are promised.
    """

    nr: int
    free: int
    surplus: int
    reserved: int

    @property
    def persistent(self) -> int:
        """Pages that are not surplus."""
        return self.nr - self.surplus


@dataclass(frozen=True, slots=True, eq=False)
class ReadPool(Step[PoolNumbers]):
    """The numbers of the pool of `size` on `nodes` -> PoolNumbers."""

    size: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TakeFree(Step[Pfns]):
    """Take up to `count` pages off the free list of `node`, the top first (`remove_hugetlb_folio`)
    -> int64 array of heads.

    With `use` they stay in the pool, in use (`dequeue_hugetlb_folio_node_exact`).
    """

    size: int
    node: int
    count: int
    use: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TakeOut(Step[None]):
    """Take `heads` (free pages of `node`) off the free list wherever they are -> None."""

    size: int
    node: int
    heads: Pfns


@dataclass(frozen=True, slots=True, eq=False)
class PutFree(Step[None]):
    """Put `heads`, one or several of one node, on top of its free list, as `surplus` pages or not
    (`enqueue_hugetlb_folio`) -> None.
    """

    size: int
    heads: Value
    surplus: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EndUse(Step[Pfns]):
    """Take up to `count` pages of `node` out of use, the last used first -> int64 array of heads;
    the caller has them now.
    """

    size: int
    node: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class AddSurplus(Step[None]):
    """Add `delta` to the surplus pages of `node` (`adjust_pool_surplus`) -> None."""

    size: int
    node: int
    delta: int


@dataclass(frozen=True, slots=True, eq=False)
class Reserve(Step[bool]):
    """Promise `delta` more free pages of the pool to a mapping (below 0: fewer) -> whether there
    are as many (`hugetlb_acct_memory`).
    """

    size: int
    delta: int


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFolio(Step[int | Pfns | None]):
    """Allocate a block of `order` on `node` for movable contents -> its first pfn, None when there
    is none on that node.
    """

    order: int
    node: Value


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFolios(Composite[Pfns]):
    """Allocate `count` blocks of `order` on `node` -> their first pfns (int64 array), fewer when
    memory runs out.
    """

    order: int
    node: int
    count: int

    def parts(self) -> Steps[Pfns]:
        """One after the other, until one is refused."""
        got: list[int] = []
        while len(got) < self.count:
            pfn = yield from AllocateFolio(self.order, self.node)
            if pfn is None:
                break
            got.append(int(pfn))
        return np.array(got, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class FreeFolio(Step[bool | Flags]):
    """Give the block `head` of `order` to the page allocator, which looks at every struct page
    first -> whether it took it.

    A tail that does not link to its head is a "Bad page state": the block is lost
    (`free_pages_prepare`, mm/page_alloc.c). `heads` may be an array: then an array of bools.
    """

    heads: Value
    order: int


@dataclass(frozen=True, slots=True, eq=False)
class AddRawError(Step[None]):
    """Add the broken page `pfn` to the record of the HugeTLB page `head` (`llist_add`) -> None."""

    head: int
    pfn: int


@dataclass(frozen=True, slots=True, eq=False)
class TakeRawErrors(Step[tuple[int, ...]]):
    """Empty the record of the HugeTLB page `head` (`llist_del_all`) -> the pfns that were in it, a
    tuple of ints.
    """

    head: Value
