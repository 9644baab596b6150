"""Unmapping a part of the vmemmap, as memory hot-remove does: the frames go, and tables that are
empty then.

The premise is that nobody shares the frames or the tables: a HugeTLB page that lies in the block
was given back, so its vmemmap is whole. A table that maps neighbours as well (one covers 64
sections with 16 KiB pages, 1024 with 64 KiB) stays, because its other entries are not 0.
"""

from typing import NamedTuple

import numpy as np

from hvo.mmu.runs import first_address, overlapping
from hvo.steps.base import Steps
from hvo.steps.entries import EntryKind, ReadEntry, TableIsEmpty, WriteEntry
from hvo.steps.frames import FreeBlock, FreeFrame
from hvo.steps.ordering import Acquire, Flush, FlushAll, Lock, Release
from hvo.vmemmap.context import Vmemmap


def vmemmap_free(v: Vmemmap, root: int, start: int, end: int, *, hosted: bool) -> Steps[None]:
    """Unmap the vmemmap addresses [`start`, `end`), and free frames and empty tables -> None.

    With `hosted` the frames are the block's own, and go with it.
    """
    span = _Span(root, v.format.top, first_address(v.format, start), start, end)
    if v.format.arch == "x86_64":
        yield from _remove_pagetable(v, span, hosted)
        yield from FlushAll()
        return
    yield from _unmap_hotplug_range(v, span, hosted)
    yield from _free_empty_tables(v, span)


class _Span(NamedTuple):
    """The part [`start`, `end`) of what the table of `level` at the physical address `table` maps;
    its first entry maps `base`.
    """

    table: int
    level: int
    base: int
    start: int
    end: int


class _Slot(NamedTuple):
    """One entry: where it is, its level, the address that it maps from, its kind and its value."""

    location: int
    level: int
    address: int
    kind: EntryKind
    value: int


def _slot(v: Vmemmap, span: _Span, index: int) -> Steps[_Slot]:
    """Read entry `index` of the table -> _Slot."""
    location = span.table + 8 * index
    entry = yield from ReadEntry(location, span.level)
    return _Slot(
        location,
        span.level,
        span.base + index * v.format.span(span.level),
        entry.kind,
        int(entry.value),
    )


def _slots(v: Vmemmap, span: _Span) -> range:
    return overlapping(v.format, span.level, span.base, span.start, span.end)


def _below(v: Vmemmap, span: _Span, slot: _Slot) -> _Span:
    """The table that `slot` points to."""
    return _Span(
        int(v.format.output_address(slot.value, slot.level)),
        slot.level - 1,
        slot.address,
        span.start,
        span.end,
    )


# -- arm64 (and what follows it): clear, invalidate, free; then look for empty tables --


def _unmap_hotplug_range(v: Vmemmap, span: _Span, hosted: bool) -> Steps[None]:
    """Clear every leaf, and free what it maps once no CPU can use it any more."""
    for index in _slots(v, span):
        slot = yield from _slot(v, span, index)
        if slot.kind is EntryKind.TABLE:
            yield from _unmap_hotplug_range(v, _below(v, span, slot), hosted)
        elif slot.kind is EntryKind.LEAF:
            yield from WriteEntry(slot.location, 0, slot.level, slot.address)
            yield from Flush(
                np.uint64(slot.address), np.uint64(slot.address + v.page_size)
            )  # one page's flush drops a whole leaf
            yield from _free_mapped(v, slot, hosted)


def _free_empty_tables(v: Vmemmap, span: _Span) -> Steps[None]:
    """Free the tables below `span` that have become empty, from the last level upward; the one of
    the span itself stays.
    """
    for index in _slots(v, span):
        slot = yield from _slot(v, span, index)
        if slot.kind is not EntryKind.TABLE:
            continue
        below = _below(v, span, slot)
        yield from _free_empty_tables(v, below)
        if (yield from TableIsEmpty(below.table, below.level, v.format.table_entries(below.level))):
            yield from WriteEntry(slot.location, 0, slot.level, slot.address)
            yield from Flush(
                np.uint64(slot.address), np.uint64(slot.address + v.page_size), tables=True
            )  # the walkers' copy of this entry
            yield from FreeFrame(below.table // v.page_size)


# -- x86: free, then clear, table after table; one flush at the end --


def _remove_pagetable(v: Vmemmap, span: _Span, hosted: bool) -> Steps[None]:
    """Free what leaves map and clear them, and each table when it is empty after that.

    The tables that the topmost level points to stay; with four levels they are those of the PUD,
    with five those of the P4D (`remove_p4d_table`).
    """
    for index in _slots(v, span):
        slot = yield from _slot(v, span, index)
        if slot.kind is EntryKind.LEAF:
            yield from _free_mapped(v, slot, hosted)
            yield from _clear(slot)
        elif slot.kind is EntryKind.TABLE:
            below = _below(v, span, slot)
            yield from _remove_pagetable(v, below, hosted)
            if span.level < v.format.top and (
                yield from TableIsEmpty(
                    below.table, below.level, v.format.table_entries(below.level)
                )
            ):
                yield from FreeFrame(below.table // v.page_size)
                yield from _clear(slot)


def _clear(slot: _Slot) -> Steps[None]:
    yield from Acquire(Lock.PAGE_TABLE)
    yield from WriteEntry(slot.location, 0, slot.level, slot.address)
    yield from Release(Lock.PAGE_TABLE)


def _free_mapped(v: Vmemmap, slot: _Slot, hosted: bool) -> Steps[None]:
    """Free the frames that the leaf `slot` maps; those of a block that hosts itself are not the
    page allocator's.
    """
    if hosted:
        return
    frame = int(v.pfn(slot.value, slot.level))
    if slot.level:
        yield from FreeBlock(frame, (v.format.span(slot.level) // v.page_size).bit_length() - 1)
    else:
        yield from FreeFrame(frame, memmap=True)
