"""Steps on the pools of HugeTLB pages; each is done in one go under `hugetlb_lock`."""

from dataclasses import dataclass
from typing import NamedTuple

from hvo.steps.vocabulary import Step, Value


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
class ReadPool(Step):
    """The numbers of the pool of `size` on `nodes` -> PoolNumbers."""

    size: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TakeFree(Step):
    """Take up to `count` pages off the free list of `node`, the top first (`remove_hugetlb_folio`)
    -> int64 array of heads.

    With `use` they stay in the pool, in use (`dequeue_hugetlb_folio_node_exact`).
    """

    size: int
    node: int
    count: int
    use: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TakeOut(Step):
    """Take `heads` (free pages of `node`) off the free list wherever they are -> None."""

    size: int
    node: int
    heads: Value


@dataclass(frozen=True, slots=True, eq=False)
class PutFree(Step):
    """Put `heads`, one or several of one node, on top of its free list, as `surplus` pages or not
    (`enqueue_hugetlb_folio`) -> None.
    """

    size: int
    heads: Value
    surplus: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EndUse(Step):
    """Take up to `count` pages of `node` out of use, the last used first -> int64 array of heads;
    the caller has them now.
    """

    size: int
    node: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class AddSurplus(Step):
    """Add `delta` to the surplus pages of `node` (`adjust_pool_surplus`) -> None."""

    size: int
    node: int
    delta: int


@dataclass(frozen=True, slots=True, eq=False)
class Reserve(Step):
    """Promise `delta` more free pages of the pool to a mapping (below 0: fewer) -> whether there
    are as many (`hugetlb_acct_memory`).
    """

    size: int
    delta: int
