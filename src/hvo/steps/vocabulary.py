"""What an actor may do in one step, and what it gets back.

A protocol is a generator that yields steps and goes on from their results. Two kinds exist. A
*primitive* is one thing that another CPU can see happen: one memory access, one entry written, one
lock, one frame allocated or freed, one invalidation requested or completed. A *composite* stands
for a fixed run of primitives, which its `parts` yields in the kernel's order; an executor that can
do the same work at once (arrays) may, and one that interleaves (the checker) takes it apart.

The fields hold one value for one page. An executor that runs a block for many pages at once gives
the generator arrays whose *first axis is the page*, so code between steps is written with numpy's
broadcasting (`strided`), and branches only on results that say so: `None`, `bool` and `EntryKind`
are always one value for every page of a run.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Value: TypeAlias = Any
"""An int, or an array with one element (or one row) for each page of a run."""

Steps: TypeAlias = Generator["Step", Any, Any]
"""A running actor: yields steps, is sent their results, returns its own."""


class EntryKind(Enum):
    """What a page-table entry is."""

    NONE = "none"
    LEAF = "leaf"
    TABLE = "table"


class Entry(NamedTuple):
    """A page-table entry that was read: its kind and its value."""

    kind: EntryKind
    value: Value


class Lock(Enum):
    """Locks that the actors take."""

    PAGE_TABLE = "init_mm.page_table_lock"
    MMAP_READ = "init_mm.mmap_lock (read)"
    MMAP_WRITE = "init_mm.mmap_lock (write)"
    HUGETLB = "hugetlb_lock"
    HOTPLUG = "mem_hotplug_lock"
    HOTPLUG_READ = "mem_hotplug_lock (read)"


class Counter(Enum):
    """Counts that the kernel keeps about the vmemmap; the key is Linux's from 5.18 to 7.0, here it
    is kept in every era.
    """

    OPTIMIZED_KEY = "hugetlb_optimize_vmemmap_key"
    MEMMAP = "nr_memmap_pages"
    MEMMAP_BOOT = "nr_memmap_boot_pages"


def strided(start: Value, count: int, stride: int) -> NDArray[np.uint64]:
    """`start`, `start + stride`, ...: `count` values on a new last axis, for one start or one a
    page.
    """
    return np.asarray(start, np.uint64)[..., None] + np.arange(
        0, count * stride, stride, dtype=np.uint64
    )


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Base of all steps."""


# -- page tables and kernel variables: words at physical locations --


@dataclass(frozen=True, slots=True, eq=False)
class Locate(Step):
    """Where the entry of `level` (0 = PTE, 1 = PMD) that translates `address` lies -> its location.

    Not an access that can race: above the PMD the tables of the vmemmap never change (`pmd_off_k`,
    include/linux/pgtable.h).
    """

    address: Value
    level: int


@dataclass(frozen=True, slots=True, eq=False)
class ReadEntry(Step):
    """Read the entry of `level` at `location` -> Entry."""

    location: Value
    level: int


@dataclass(frozen=True, slots=True, eq=False)
class WriteEntry(Step):
    """Write `value` as the entry at `location` (of `level`, translating `address`) -> None."""

    location: Value
    value: Value
    level: int
    address: Value


@dataclass(frozen=True, slots=True, eq=False)
class ReadPointer(Step):
    """Read the kernel variable at `location` -> its value, None when it is null."""

    location: Value


@dataclass(frozen=True, slots=True, eq=False)
class WritePointer(Step):
    """Store `value` in the kernel variable at `location` -> None."""

    location: Value
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class PublishPointer(Step):
    """Compare-and-swap the kernel variable at `location` from null to `value` -> None when it
    worked, else the value found.
    """

    location: Value
    value: Value


# -- frames --


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFrame(Step):
    """Allocate one frame of unmovable memory on `node` (elsewhere too unless `this_node_only`) ->
    its pfn, None when there is none.

    `memmap`: it will hold struct pages, and is counted in `nr_memmap_pages`.
    """

    node: Value
    this_node_only: bool = False
    memmap: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FreeFrame(Step):
    """Give the frame `pfn` back to the page allocator -> None.

    `memmap`: it held struct pages, and leaves `nr_memmap_pages`, or `nr_memmap_boot_pages` where it
    was reserved at boot (`free_vmemmap_page`, mm/hugetlb_vmemmap.c).
    """

    pfn: Value
    memmap: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CopyWords(Step):
    """Copy the struct page number `index` that is mapped at `source` into the same place of the
    frame `target` -> None.
    """

    source: Value
    target: Value
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class CopyTailWords(Step):
    """Within the frame `target`, copy struct page number `source` over struct page number `index`
    -> None.
    """

    target: Value
    source: int
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class FillTail(Step):
    """Make struct page number `index` of the frame `target` a tail of the head at pfn `head`, order
    `order` -> None.
    """

    target: Value
    head: Value
    order: int
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class StoreTableEntry(Step):
    """Store `value` as entry `index` of the table in frame `table`, which no CPU walks yet ->
    None.
    """

    table: Value
    index: int
    value: Value


# -- struct pages, through the mapping of the vmemmap --


@dataclass(frozen=True, slots=True, eq=False)
class TestPage(Step):
    """Read `field` of the struct page of `pfn` -> whether it is not 0."""

    __test__: ClassVar[bool] = False  # not a test case for pytest
    pfn: Value
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class LoadPage(Step):
    """Read `field` of the struct page of `pfn` -> its value."""

    pfn: Value
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class StorePage(Step):
    """Write `value` to `field` of the struct page of `pfn` -> None."""

    pfn: Value
    field: str
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class IncrementUnlessZero(Step):
    """Atomically add one to `field` of the struct page of `pfn` unless it is 0 -> whether it did.

    A compare-and-swap, so a write to the page that holds it as soon as the value is not 0
    (`atomic_add_unless`).
    """

    pfn: Value
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class FreezeCount(Step):
    """Atomically set the reference count of `pfn` from `expected` to 0 -> whether it did
    (`folio_ref_freeze`).
    """

    pfn: Value
    expected: int


# -- order --


@dataclass(frozen=True, slots=True, eq=False)
class Acquire(Step):
    """Take `lock` -> None, once it is free."""

    lock: Lock


@dataclass(frozen=True, slots=True, eq=False)
class Release(Step):
    """Let `lock` go -> None."""

    lock: Lock


@dataclass(frozen=True, slots=True, eq=False)
class WriteBarrier(Step):
    """Make earlier writes visible before later ones (`smp_wmb`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadBarrier(Step):
    """Take no later load before an earlier one (`smp_rmb`, or the load before is an acquire) ->
    None.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Invalidate(Step):
    """Ask all CPUs to drop translations of [`start`, `end`) (TLBI, or the interrupt of x86) ->
    None.

    With `tables` copies of pointers to tables as well (`__flush_tlb_kernel_pgtable`,
    arch/arm64/include/asm/tlbflush.h): without, an architecture may drop the last level only
    (arm64's VAALE1IS; SFENCE.VMA of an address). With `this_cpu` only the asking CPU does it, at
    once (`flush_tlb_one_kernel` of x86).
    """

    start: Value
    end: Value
    tables: bool = False
    this_cpu: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InvalidateAll(Step):
    """Ask all CPUs to drop every translation, pointers to tables too; with `this_cpu` only the
    asking one does -> None.
    """

    this_cpu: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AwaitInvalidation(Step):
    """Wait until all CPUs have done what `Invalidate` asked for (DSB) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class SynchronizeReaders(Step):
    """Wait for every read-side section that has begun (`synchronize_rcu`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class EnterReadSection(Step):
    """Begin a read-side section (`rcu_read_lock`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class LeaveReadSection(Step):
    """End a read-side section (`rcu_read_unlock`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class Count(Step):
    """Add `delta` to `counter` -> None."""

    counter: Counter
    delta: int


# -- the actor's own list of frames (a `struct list_head` on its stack): nobody else sees it --


@dataclass(frozen=True, slots=True, eq=False)
class PileFrames(Step):
    """Put `pfns` (last axis) on top of the actor's list, one after the other -> None."""

    pfns: Value


@dataclass(frozen=True, slots=True, eq=False)
class PileIsEmpty(Step):
    """Whether the actor's list is empty -> bool."""


@dataclass(frozen=True, slots=True, eq=False)
class TakePiled(Step):
    """Take `count` frames from the top of the actor's list (all: None) -> their pfns, the top
    first.
    """

    count: int | None = None


Block: TypeAlias = Callable[[Any], Steps]
"""What `ForEach` runs for one item (or, with arrays, for many)."""
