"""What each step that many pages may do at once touches, of what other pages might touch as well.

A step that is not in `TOUCHES`, and that a run does not do its own way, is done page by page. Page
frames that a page has allocated itself are its own and are left out, so that copies and fills
touch only what they read.

Entries above the last level are exchanged for entries that map the same (a leaf is split): a
translation reads only the entry of the last level that it ends at.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from hvo.machine.batch.conflicts import Access, Lanes
from hvo.memory.interface import Words
from hvo.mmu.walk import Walk
from hvo.steps.base import Step, Value
from hvo.steps.entries import (
    AllowFaults,
    CompareExchangeEntry,
    FillTable,
    Locate,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    RemapEntries,
    RestoreEntries,
    StoreTableEntry,
    WriteEntry,
    WritePointer,
)
from hvo.steps.ordering import (
    AwaitInvalidation,
    EnterReadSection,
    FullBarrier,
    LeaveReadSection,
    ReadBarrier,
    ResumeCpus,
    WriteBarrier,
)
from hvo.steps.struct_pages import (
    CopyFrame,
    CopyTailWords,
    FillTails,
    FreezeCount,
    IncrementUnlessZero,
    LinkTail,
    LoadPage,
    PrepareCompound,
    StorePage,
    TestPage,
)
from hvo.world.state import World

Touch: TypeAlias = Callable[[World, Any, Lanes], list[Access]]
"""What a step of the pages `lanes` touches; the first is the word that its answer depends on, if
there is one.
"""
PAGE_STEPS = (TestPage, LoadPage, StorePage, IncrementUnlessZero, FreezeCount)
ANSWERS = (ReadEntry, ReadPointer, PublishPointer, CompareExchangeEntry, *PAGE_STEPS)
"""Steps whose answer depends on a word that other pages may change."""
_WORD = 8


def _word(location: Value, lanes: Lanes, *, write: bool) -> Access:
    starts = np.broadcast_to(np.asarray(location, np.uint64), lanes.shape)
    return Access(starts, _WORD, lanes, write)


def _reads_word(world: World, step: ReadEntry | ReadPointer, lanes: Lanes) -> list[Access]:
    return [_word(step.location, lanes, write=False)]


def _writes_word(world: World, step: WriteEntry | WritePointer, lanes: Lanes) -> list[Access]:
    return [_word(step.location, lanes, write=True)]


def _of_walk(found: Walk, lanes: Lanes) -> list[Access]:
    """The entries of the last level that walks of `lanes` ended at."""
    if found.level.any():
        at = np.broadcast_to(found.level == 0, lanes.shape)
        if not at.any():
            return []
        places = np.broadcast_to(found.location, lanes.shape)[at]
        return [Access(places, _WORD, lanes[at], write=False)]
    return [_word(found.location, lanes, write=False)]


def _page_field(world: World, step: Any, lanes: Lanes) -> list[Access]:
    name = "refcount" if isinstance(step, FreezeCount) else step.field
    address = world.field_address(step.pfn, name)
    found = world.access(address, write=isinstance(step, StorePage))
    write = not isinstance(step, LoadPage | TestPage)
    return [_word(found.address, lanes, write=write), *_of_walk(found, lanes)]


def _link(world: World, step: LinkTail, lanes: Lanes) -> list[Access]:
    found = world.access(world.vmemmap.address(step.pfn), write=True)
    size = world.vmemmap.struct_page_size
    starts = np.broadcast_to(found.address, lanes.shape)
    return [Access(starts, size, lanes, write=True), *_of_walk(found, lanes)]


def _pages(world: World, addresses: Value, lanes: Lanes) -> list[Access]:
    """Reads of whole pages that are mapped at `addresses`."""
    found = world.access(np.asarray(addresses, np.uint64))
    starts = np.broadcast_to(found.address, lanes.shape)
    return [Access(starts, world.vmemmap.page_size, lanes, write=False), *_of_walk(found, lanes)]


def _copied(world: World, step: CopyFrame, lanes: Lanes) -> list[Access]:
    return _pages(world, step.source, lanes)


def _entries(locations: Words, lanes: Lanes) -> Access:
    starts = np.ascontiguousarray(locations[:, 0])
    return Access(starts, _WORD * locations.shape[1], lanes, write=True)


def _remapped(world: World, step: RemapEntries, lanes: Lanes) -> list[Access]:
    return [_entries(step.locations, lanes)]


def _restored(world: World, step: RestoreEntries, lanes: Lanes) -> list[Access]:
    if step.source is not None:
        return [_entries(step.locations, lanes), *_pages(world, step.source, lanes)]
    size = np.uint64(world.vmemmap.page_size)
    sources = world.vmemmap.pfn(world.memory.read_words(step.locations)).astype(np.uint64) * size
    owners = np.repeat(lanes, sources.shape[1])
    return [_entries(step.locations, lanes), Access(sources.ravel(), int(size), owners, False)]


def _nothing(world: World, step: Step[object], lanes: Lanes) -> list[Access]:
    return []


TOUCHES: dict[type, Touch] = {
    ReadEntry: _reads_word,
    ReadPointer: _reads_word,
    WriteEntry: _writes_word,
    WritePointer: _writes_word,
    PublishPointer: _writes_word,
    CompareExchangeEntry: _writes_word,
    RemapEntries: _remapped,
    RestoreEntries: _restored,
    LinkTail: _link,
    CopyFrame: _copied,
    **dict.fromkeys(PAGE_STEPS, _page_field),
    **dict.fromkeys(
        (
            Locate,
            StoreTableEntry,
            FillTable,
            CopyTailWords,
            FillTails,
            PrepareCompound,
            WriteBarrier,
            ReadBarrier,
            FullBarrier,
            EnterReadSection,
            LeaveReadSection,
            AwaitInvalidation,
            ResumeCpus,
            AllowFaults,
        ),
        _nothing,
    ),
}
