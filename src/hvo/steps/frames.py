"""Steps on frames: allocated, freed, on the actor's own list, counted, in the hands of who gets
them next.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from hvo.memory.interface import Pfns
from hvo.steps.base import Composite, Step, Steps, Value


class Counter(Enum):
    """Counts that the kernel keeps about the vmemmap; the key is Linux's from 5.18 to 7.0, here it
    is kept in every era.
    """

    OPTIMIZED_KEY = "hugetlb_optimize_vmemmap_key"
    MEMMAP = "nr_memmap_pages"
    MEMMAP_BOOT = "nr_memmap_boot_pages"


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFrame(Step[int | Pfns | None]):
    """Allocate one frame of unmovable memory on `node` (elsewhere too unless `this_node_only`) ->
    its pfn, None when there is none.

    `memmap`: it will hold struct pages, and is counted in `nr_memmap_pages`.
    """

    node: Value
    this_node_only: bool = False
    memmap: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FreeFrame(Step[None]):
    """Give the frame `pfn` back to the page allocator -> None.

    `memmap`: it held struct pages, and leaves `nr_memmap_pages`, or `nr_memmap_boot_pages` where it
    was reserved at boot (`free_vmemmap_page`, mm/hugetlb_vmemmap.c).
    """

    pfn: Value
    memmap: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Count(Step[None]):
    """Add `delta` to `counter` -> None."""

    counter: Counter
    delta: int


@dataclass(frozen=True, slots=True, eq=False)
class ReadCounter(Step[int]):
    """Read `counter` -> its value (`static_branch_unlikely` asks whether the key's is not 0)."""

    counter: Counter


@dataclass(frozen=True, slots=True, eq=False)
class ListAdd(Step[None]):
    """Put `pfns` (last axis) on top of the actor's list, one after the other -> None."""

    pfns: Pfns


@dataclass(frozen=True, slots=True, eq=False)
class ListEmpty(Step[bool]):
    """Whether the actor's list is empty -> bool."""


@dataclass(frozen=True, slots=True, eq=False)
class ListPop(Step[Pfns]):
    """Take `count` frames from the top of the actor's list (all: None) -> their pfns, the top
    first.
    """

    count: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AllocateFrames(Composite[Pfns | None]):
    """Allocate `count` frames on `node` -> their pfns, or None when not all are to be had (then
    none is kept).
    """

    count: int
    node: Value
    this_node_only: bool = False
    memmap: bool = False

    def parts(self) -> Steps[Pfns | None]:
        """One frame at a time; the frames already taken go back when one is refused
        (`alloc_vmemmap_page_list`).
        """
        got: list[int] = []
        for _ in range(self.count):
            pfn = yield from AllocateFrame(self.node, self.this_node_only, self.memmap)
            if pfn is None:
                for taken in got:
                    yield from FreeFrame(taken, self.memmap)
                return None
            got.append(int(pfn))
        return np.array(got, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class FreeVmemmapPageList(Composite[None]):
    """Free every frame of the actor's list, the top first -> None (`free_vmemmap_page_list`)."""

    def parts(self) -> Steps[None]:
        """One frame at a time."""
        pfns = yield from ListPop()
        for pfn in pfns.tolist():
            yield from FreeFrame(pfn, memmap=True)


@dataclass(frozen=True, slots=True, eq=False)
class AllocateBlock(Step[int | None]):
    """Allocate a block of `order` of unmovable memory on `node` that will hold struct pages -> its
    first pfn, None when there is none.
    """

    order: int
    node: int


@dataclass(frozen=True, slots=True, eq=False)
class FreeBlock(Step[None]):
    """Give the block of `order` at `pfn`, which held struct pages, back -> None (`free_pagetable`,
    `free_hotplug_page_range`).

    Frames that are reserved since boot go back one by one.
    """

    pfn: int
    order: int


@dataclass(frozen=True, slots=True, eq=False)
class TakeFreed(Step[int | None]):
    """Allocate a frame that was freed before, for data -> its pfn, None when there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class WriteData(Step[None]):
    """Write data into the frame `pfn`, through the linear map -> None."""

    pfn: int
