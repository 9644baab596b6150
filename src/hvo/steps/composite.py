"""Steps that stand for a fixed run of primitives; `parts` is that run, for one page, in the
kernel's order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvo.steps.vocabulary import (
    AllocateFrame,
    AwaitInvalidation,
    Block,
    CopyTailWords,
    CopyWords,
    FillTail,
    FreeFrame,
    Invalidate,
    InvalidateAll,
    ReadEntry,
    Step,
    Steps,
    StoreTableEntry,
    TakePiled,
    Value,
    WriteBarrier,
    WriteEntry,
)

RESET_STRUCT_PAGES = 3
"""How many struct pages of a restored vmemmap page are reset (NR_RESET_STRUCT_PAGE,
mm/hugetlb_vmemmap.c of 5.18).
"""


@dataclass(frozen=True, slots=True, eq=False)
class Composite(Step):
    """A step that an executor may take apart."""

    def parts(self) -> Steps:
        """The primitives this step stands for; what the generator returns is the step's result."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFrames(Composite):
    """Allocate `count` frames on `node` -> their pfns, or None when not all are to be had (then
    none is kept).
    """

    count: int
    node: Value
    this_node_only: bool = False
    memmap: bool = False

    def parts(self) -> Steps:
        """One frame at a time; the frames already taken go back when one is refused
        (`alloc_vmemmap_page_list`).
        """
        got: list[int] = []
        for _ in range(self.count):
            pfn = yield AllocateFrame(self.node, self.this_node_only, self.memmap)
            if pfn is None:
                for taken in got:
                    yield FreeFrame(taken, self.memmap)
                return None
            got.append(int(pfn))
        return np.array(got, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class FreePile(Composite):
    """Free every frame of the actor's list, the top first -> None (`free_vmemmap_page_list`)."""

    def parts(self) -> Steps:
        """One frame at a time."""
        pfns = yield TakePiled()
        for pfn in pfns.tolist():
            yield FreeFrame(pfn, memmap=True)


@dataclass(frozen=True, slots=True, eq=False)
class RemapEntries(Composite):
    """Exchange the PTEs at `locations` (last axis; they translate the pages from `address` on) for
    `values` -> the old values.
    """

    locations: Value
    values: Value
    address: Value
    page_size: int

    def parts(self) -> Steps:
        """Entry by entry: read the old one, write the new one."""
        old: list[int] = []
        values = np.broadcast_to(self.values, self.locations.shape).tolist()
        for i, (location, value) in enumerate(zip(self.locations.tolist(), values, strict=True)):
            entry = yield ReadEntry(location, 0)
            old.append(int(entry.value))
            yield WriteEntry(location, value, 0, int(self.address) + i * self.page_size)
        return np.array(old, np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class RestoreEntries(Composite):
    """Give the pages mapped by the PTEs at `locations` (last axis) frames of their own again:
    `frames`, in that order -> None.

    Each frame first gets a copy of what is mapped at `source` (None: of what the page maps now);
    with `reset`, its first struct pages are overwritten with clean tails (`vmemmap_restore_pte` and
    `reset_struct_pages`, mm/hugetlb_vmemmap.c).
    """

    locations: Value
    frames: Value
    values: Value
    source: Value | None
    address: Value
    page_size: int
    struct_pages: int
    reset: bool

    def parts(self) -> Steps:
        """Entry by entry: copy, reset, barrier, write the entry."""
        for i, (location, frame, value) in enumerate(
            zip(self.locations.tolist(), self.frames.tolist(), self.values.tolist(), strict=True)
        ):
            address = int(self.address) + i * self.page_size
            yield CopyFrame(
                address if self.source is None else self.source, frame, self.struct_pages
            )
            reset = min(RESET_STRUCT_PAGES, self.struct_pages // 2) if self.reset else 0
            for index in range(reset):
                yield CopyTailWords(frame, reset + index, index)
            yield WriteBarrier()
            yield WriteEntry(location, value, 0, address)


@dataclass(frozen=True, slots=True, eq=False)
class FillTable(Composite):
    """Store `values` (last axis) as the entries of the table in frame `table`, which no CPU walks
    yet -> None.
    """

    table: Value
    values: Value

    def parts(self) -> Steps:
        """Entry by entry."""
        for index, value in enumerate(self.values.tolist()):
            yield StoreTableEntry(self.table, index, value)


@dataclass(frozen=True, slots=True, eq=False)
class CopyFrame(Composite):
    """Copy the page of struct pages that is mapped at `source` into the frame `target`
    (`copy_page`) -> None.
    """

    source: Value
    target: Value
    struct_pages: int

    def parts(self) -> Steps:
        """Struct page by struct page, through the mapping."""
        for index in range(self.struct_pages):
            yield CopyWords(self.source, self.target, index)


@dataclass(frozen=True, slots=True, eq=False)
class FillTails(Composite):
    """Make every struct page of the frame `target`, which nobody reads yet, a tail of `head` ->
    None.
    """

    target: Value
    head: Value
    order: int
    struct_pages: int

    def parts(self) -> Steps:
        """Struct page by struct page."""
        for index in range(self.struct_pages):
            yield FillTail(self.target, self.head, self.order, index)


@dataclass(frozen=True, slots=True, eq=False)
class Flush(Composite):
    """Drop the translations of [`start`, `end`) everywhere, and wait (`flush_tlb_kernel_range`) ->
    None.

    With `tables` copies of pointers to tables as well, where the architecture's plain flush leaves
    them.
    """

    start: Value
    end: Value
    tables: bool = False

    def parts(self) -> Steps:
        """The request, then the wait."""
        yield Invalidate(self.start, self.end, self.tables)
        yield AwaitInvalidation()


@dataclass(frozen=True, slots=True, eq=False)
class FlushAll(Composite):
    """Drop every translation everywhere, and wait (`flush_tlb_all`) -> None."""

    def parts(self) -> Steps:
        """The request, then the wait."""
        yield InvalidateAll()
        yield AwaitInvalidation()


@dataclass(frozen=True, slots=True, eq=False)
class ForEach(Composite):
    """Run `block` for each of `items`, in order -> an int64 array of what it returned, up to and
    with the first that `stops`.

    `items` is an array whose first axis is the item. An executor may run the block for many items
    at once where nobody can tell.
    """

    block: Block
    items: Any
    stops: Callable[[int], bool] | None = None

    def parts(self) -> Steps:
        """Item by item."""
        results: list[int] = []
        for item in self.items:
            results.append(int((yield from self.block(item))))
            if self.stops is not None and self.stops(results[-1]):
                break
        return np.array(results, np.int64)


def primitives(actor: Steps) -> Steps:
    """`actor` with every composite taken apart: yields primitives only, returns what `actor`
    returns.
    """
    result: Any = None
    while True:
        try:
            step: Step = actor.send(result)
        except StopIteration as stop:
            return stop.value
        result = (
            (yield from primitives(step.parts())) if isinstance(step, Composite) else (yield step)
        )
