"""Split the leaf that maps a piece of the vmemmap into a table of pages (mm/hugetlb_vmemmap.c,
`split_vmemmap_huge_pmd`).
"""

import numpy as np

from hvo.memory.interface import Words
from hvo.steps.base import Steps, Value, strided
from hvo.steps.entries import Entry, EntryKind, FillTable, Locate, ReadEntry, WriteEntry
from hvo.steps.frames import AllocateFrame, FreeFrame
from hvo.steps.ordering import Acquire, Flush, Lock, Release, WriteBarrier
from hvo.vmemmap.context import ENOMEM, Vmemmap


def split_vmemmap_huge_pmd(v: Vmemmap, address: Value, node: Value, *, flush: bool) -> Steps[int]:
    """Make sure that `address` is mapped by a table of pages -> 0, or ENOMEM when no frame could be
    had for the table.

    Without `split-lock-read` the leaf is seen once and its frame read later (H05); without
    `split-recheck` the table is installed without looking again (H04).
    """
    pmd = yield from Locate(address, 1)
    entry = yield from _read_leaf(v, pmd)
    if entry is None:
        return 0
    table = yield from AllocateFrame(node)
    if table is None:
        return ENOMEM
    yield from FillTable(table, table_of_leaf(v, entry.value))
    return (yield from _install(v, pmd, address, table, flush=flush))


def _read_leaf(v: Vmemmap, pmd: Value) -> Steps[Entry | None]:
    """Read the PMD entry -> the Entry to split, None when there is a table already."""
    if v.era.has("split-lock-read"):
        entry = yield from _locked_read(pmd)
        return entry if entry.kind is EntryKind.LEAF else None
    entry = yield from (ReadEntry(pmd, 1))
    if entry.kind is not EntryKind.LEAF:
        return None
    return (
        yield from ReadEntry(pmd, 1)
    )  # pmd_page(*pmd): a second load, which may find what another CPU put there


def _locked_read(pmd: Value) -> Steps[Entry]:
    yield from Acquire(Lock.PAGE_TABLE)
    entry = yield from ReadEntry(pmd, 1)
    yield from Release(Lock.PAGE_TABLE)
    return entry


def table_of_leaf(v: Vmemmap, leaf: Value) -> Words:
    """The PTEs that map what the PMD entry `leaf` maps, on a new last axis."""
    first = v.format.split_entry(np.asarray(leaf, np.uint64), 1)
    physical = strided(v.format.output_address(first, 0), v.leaf // v.page_size, v.page_size)
    return v.format.with_output(first[..., None], physical, 0)


def _install(v: Vmemmap, pmd: Value, address: Value, table: Value, *, flush: bool) -> Steps[int]:
    """Point the PMD entry at `table`, unless somebody was faster -> 0."""
    if v.era.has("split-recheck"):
        yield from Acquire(Lock.PAGE_TABLE)
        now = yield from ReadEntry(pmd, 1)
        if now.kind is not EntryKind.LEAF:
            yield from Release(Lock.PAGE_TABLE)
            yield from FreeFrame(table)
            return 0
    yield from WriteBarrier()  # the table's entries must be visible before the table is
    yield from WriteEntry(pmd, v.table_entry(table), 1, address)
    if flush:
        start = np.asarray(address, np.uint64) & np.uint64(-v.leaf & 0xFFFF_FFFF_FFFF_FFFF)
        yield from Flush(start, start + np.uint64(v.leaf))
    if v.era.has("split-recheck"):
        yield from Release(Lock.PAGE_TABLE)
    return 0
