"""The protocol around the proposals for arm64 (`hvo.vmemmap.exchange`): all of them share one frame
of tails per zone and leave the head where it is.
"""

import numpy as np

from hvo.memory.interface import Words
from hvo.mmu.shape import WORD
from hvo.steps.base import Steps, Value
from hvo.steps.entries import (
    Entry,
    EntryKind,
    FillTable,
    Locate,
    ReadEntry,
)
from hvo.steps.frames import AllocateFrame, AllocateFrames, Count, Counter, FreeFrame
from hvo.steps.ordering import Acquire, Lock, Release, WriteBarrier
from hvo.steps.struct_pages import CopyFrame, StorePage, TestPage
from hvo.vmemmap.context import ENOMEM, Vmemmap
from hvo.vmemmap.exchange import Change, Proposal, is_writable
from hvo.vmemmap.remap import pte_of
from hvo.vmemmap.shared_tail import shared_tail
from hvo.vmemmap.split import table_of_leaf

EAGAIN = -11
"""An entry could not be exchanged: what was exchanged before stays so, and is marked as optimised,
so that restore can finish.
"""


# -- exchanging entries --


# -- the protocol around it --


def optimize(v: Vmemmap, proposal: Proposal, order: int, head: Value) -> Steps[int]:
    """Optimise one huge page -> 0, ENOMEM (nothing changed) or EAGAIN (the tails that were
    exchanged stay, the page is marked).
    """
    yield from Acquire(Lock.MMAP_WRITE)
    result = yield from _optimize(v, proposal, order, head)
    yield from Release(Lock.MMAP_WRITE)
    return result


def _optimize(v: Vmemmap, proposal: Proposal, order: int, head: Value) -> Steps[int]:
    error = yield from _split(v, proposal, order, head)
    shared = None if error else (yield from shared_tail(v, order, head))
    if shared is None:
        return ENOMEM
    changes = yield from changes_of(v, order, head)
    entry = v.leaf_entry(shared, writable=False)
    changes = [change._replace(new=entry) for change in changes]
    yield from StorePage(head, "vmemmap_optimized", 1)
    done = yield from proposal.exchange(v, proposal, changes)
    for change in changes[:done]:
        yield from FreeFrame(v.pfn(change.old), memmap=True)
    if done:
        yield from Count(Counter.OPTIMIZED_KEY, 1)
    if not done or (done < len(changes) and not proposal.marks_partial):
        yield from StorePage(head, "vmemmap_optimized", 0)
    return 0 if done == len(changes) else EAGAIN


def _split(v: Vmemmap, proposal: Proposal, order: int, head: Value) -> Steps[int]:
    """Replace every leaf under the page by a table -> 0 or ENOMEM; the write lock keeps others
    away.
    """
    for first, _ in v.pieces(order, 0):
        pmd = yield from Locate(_page(v, head, first), 1)
        entry = yield from ReadEntry(pmd, 1)
        if entry.kind is EntryKind.LEAF:
            change = yield from table_for(v, order, head, first, pmd, entry)
            if change is None:
                return ENOMEM
            yield from WriteBarrier()
            yield from (proposal.split or proposal.exchange)(v, proposal, [change])
    return 0


def table_for(
    v: Vmemmap, order: int, head: Value, first: int, pmd: Value, leaf: Entry
) -> Steps[Change | None]:
    """Fill a table that maps what the `leaf` at `pmd` does -> the change that puts it there, None
    when no table could be had.
    """
    table = yield from AllocateFrame(v.node_of(head))
    if table is None:
        return None
    yield from FillTable(table, table_of_leaf(v, leaf.value))
    base = _page(v, head, first) & np.uint64(-v.leaf & WORD)
    return Change(pmd, leaf.value, v.table_entry(table), 1, base, head, order)


def _page(v: Vmemmap, head: Value, page: int) -> Words:
    """The address of vmemmap page number `page` of a huge page."""
    return v.address(head) + np.uint64(page * v.page_size)


def changes_of(v: Vmemmap, order: int, head: Value) -> Steps[list[Change]]:
    """The entries of the tails, as they are -> list of Change that change nothing yet."""
    found: list[Change] = []
    for first, pages in v.pieces(order, 1):
        pte = yield from pte_of(v, _page(v, head, first))
        for i in range(pages):
            location = pte + np.uint64(8 * i)
            old = (yield from ReadEntry(location, 0)).value
            found.append(Change(location, old, old, 0, _page(v, head, first + i), head, order))
    return found


def restore(v: Vmemmap, proposal: Proposal, order: int, head: Value) -> Steps[int]:
    """Give the tails frames of their own again, those that share one -> 0, ENOMEM (nothing changed)
    or EAGAIN (some are still shared).
    """
    if not (yield from TestPage(head, "vmemmap_optimized")):
        return 0
    changes = yield from with_frames(v, order, head)
    if changes is None:
        return ENOMEM
    yield from Acquire(Lock.MMAP_WRITE)
    done = (yield from proposal.exchange(v, proposal, changes)) if changes else 0
    yield from Release(Lock.MMAP_WRITE)
    for change in changes[done:]:
        yield from FreeFrame(v.pfn(change.new), memmap=True)
    if done < len(changes):
        return EAGAIN
    yield from StorePage(head, "vmemmap_optimized", 0)
    yield from Count(Counter.OPTIMIZED_KEY, -1)
    return 0


def with_frames(v: Vmemmap, order: int, head: Value) -> Steps[list[Change] | None]:
    """The changes that give one page's shared tails new frames, with copies of what they show ->
    None when there is no memory.
    """
    every = yield from changes_of(v, order, head)
    changes = [change for change in every if not is_writable(v, change.old)]
    frames = yield from AllocateFrames(len(changes), v.node_of(head), memmap=True)
    if frames is None:
        return None
    for i, change in enumerate(changes):
        yield from CopyFrame(change.address, frames[..., i], v.structs_per_page)
    return [
        change._replace(new=v.leaf_entry(frames[..., i], writable=True))
        for i, change in enumerate(changes)
    ]
