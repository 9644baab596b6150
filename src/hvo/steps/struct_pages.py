"""Steps on struct pages, through the mapping of the vmemmap or in frames that are not mapped
yet.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hvo.memory.interface import Words
from hvo.steps.base import Composite, Step, Steps, Value


@dataclass(frozen=True, slots=True, eq=False)
class CopyWords(Step[None]):
    """Copy the struct page number `index` that is mapped at `source` into the same place of the
    frame `target` -> None.
    """

    source: Value
    target: Value
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class CopyTailWords(Step[None]):
    """Within the frame `target`, copy struct page number `source` over struct page number `index`
    -> None.
    """

    target: Value
    source: int
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class FillTail(Step[None]):
    """Make struct page number `index` of the frame `target` a tail of the head at pfn `head`, order
    `order` -> None.
    """

    target: Value
    head: Value
    order: int
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class TestPage(Step[bool]):
    """Read `field` of the struct page of `pfn` -> whether it is not 0."""

    __test__: ClassVar[bool] = False  # not a test case for pytest
    pfn: Value
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class LoadPage(Step[Words]):
    """Read `field` of the struct page of `pfn` -> its value."""

    pfn: Value
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class StorePage(Step[None]):
    """Write `value` to `field` of the struct page of `pfn` -> None."""

    pfn: Value
    field: str
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class IncrementUnlessZero(Step[bool]):
    """Atomically add one to `field` of the struct page of `pfn` unless it is 0 -> whether it did.

    A compare-and-swap, so a write to the page that holds it as soon as the value is not 0
    (`atomic_add_unless`).
    """

    pfn: Value
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class FreezeCount(Step[bool]):
    """Atomically set the reference count of `pfn` from `expected` to 0 -> whether it did
    (`folio_ref_freeze`).
    """

    pfn: Value
    expected: int


@dataclass(frozen=True, slots=True, eq=False)
class CopyFrame(Composite[None]):
    """Copy the page of struct pages that is mapped at `source` into the frame `target`
    (`copy_page`) -> None.
    """

    source: Value
    target: Value
    struct_pages: int

    def parts(self) -> Steps[None]:
        """Struct page by struct page, through the mapping."""
        for index in range(self.struct_pages):
            yield from CopyWords(self.source, self.target, index)


@dataclass(frozen=True, slots=True, eq=False)
class FillTails(Composite[None]):
    """Make every struct page of the frame `target`, which nobody reads yet, a tail of `head` ->
    None.
    """

    target: Value
    head: Value
    order: int
    struct_pages: int

    def parts(self) -> Steps[None]:
        """Struct page by struct page."""
        for index in range(self.struct_pages):
            yield from FillTail(self.target, self.head, self.order, index)


@dataclass(frozen=True, slots=True, eq=False)
class PrepareCompound(Composite[None]):
    """Make the blocks `heads` of `order` compound pages that nobody references yet
    (`prep_compound_page`) -> None.
    """

    heads: Value
    order: int

    def parts(self) -> Steps[None]:
        """Tail by tail the link, then what the head knows; block by block."""
        for head in np.atleast_1d(self.heads).tolist():
            for tail in range(head + 1, head + (1 << self.order)):
                yield from LinkTail(tail, head, self.order)
            yield from StorePage(head, "head", 1)
            yield from StorePage(head, "order", self.order)


@dataclass(frozen=True, slots=True, eq=False)
class LinkTail(Step[None]):
    """Make the struct page of `pfn` a tail of `head` (`prep_compound_tail`) -> None."""

    pfn: int
    head: int
    order: int


@dataclass(frozen=True, slots=True, eq=False)
class InitPage(Step[None]):
    """Make the struct page of `pfn` that of a page of the movable zone of `node` that nobody uses
    (`__init_single_page`) -> None.
    """

    pfn: int
    node: int


@dataclass(frozen=True, slots=True, eq=False)
class InitPages(Composite[None]):
    """Do that for the frames [`start`, `end`), whose struct pages fill whole frames of their own
    (`memmap_init_range`) -> None.
    """

    start: int
    end: int
    node: int

    def parts(self) -> Steps[None]:
        """Struct page by struct page."""
        for pfn in range(self.start, self.end):
            yield from InitPage(pfn, self.node)


@dataclass(frozen=True, slots=True, eq=False)
class DropReference(Step[int]):
    """Atomically take one from the reference count of `pfn` -> what is left
    (`folio_put_testzero`).
    """

    pfn: int
