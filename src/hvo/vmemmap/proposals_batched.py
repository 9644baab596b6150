"""The proposals for arm64 on a list of huge pages: what they exchange is put together, so that a
flush or a stop serves many entries.

All leaves are split first, then all tails are exchanged. A breaks no more than one huge page at a
time, since whoever meets a broken entry waits; B and D hold the other CPUs once, for the whole
list; C writes and flushes the whole list at once; E goes through the whole list in rounds, and an
entry that is lost in one is tried again in the next.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from hvo.steps.base import Steps
from hvo.steps.entries import (
    AllowFaults,
    CompareExchangeEntry,
    EntryKind,
    Locate,
    ReadEntry,
    WriteEntry,
)
from hvo.steps.frames import Count, Counter, FreeFrame
from hvo.steps.ordering import Acquire, Lock, Release, WriteBarrier
from hvo.steps.struct_pages import StorePage, TestPage
from hvo.vmemmap.context import ENOMEM, Vmemmap
from hvo.vmemmap.exchange import Change, Proposal, access_flag_cleared, break_and_make, span
from hvo.vmemmap.proposals import EAGAIN, changes_of, table_for, with_frames
from hvo.vmemmap.shared_tail import shared_tail


def optimize_folios(
    v: Vmemmap, proposal: Proposal, order: int, heads: Sequence[int]
) -> Steps[list[int]]:
    """Optimise a list of huge pages -> for each 0, ENOMEM (nothing changed) or EAGAIN (some tails
    are shared, and it is marked).
    """
    yield from Acquire(Lock.MMAP_WRITE)
    results = yield from _optimize(v, proposal, order, heads)
    yield from Release(Lock.MMAP_WRITE)
    return results


def _optimize(v: Vmemmap, proposal: Proposal, order: int, heads: Sequence[int]) -> Steps[list[int]]:
    split = yield from _split(v, proposal, order, heads)
    shared = (yield from shared_tail(v, order, heads[0])) if split else None
    if shared is None:
        return [ENOMEM] * len(heads)
    entry = v.leaf_entry(shared, writable=False)
    changes: list[Change] = []
    for head in heads[:split]:
        found = yield from changes_of(v, order, head)
        changes += [change._replace(new=entry) for change in found]
        yield from StorePage(head, "vmemmap_optimized", 1)
    done = yield from exchange(v, proposal, changes)
    for change in done:
        yield from FreeFrame(v.pfn(change.old), memmap=True)
    results: list[int] = []
    for head in heads[:split]:
        results.append((yield from _mark(proposal, head, _of(done, head), _of(changes, head))))
    return results + [ENOMEM] * (len(heads) - split)


def _among(change: Change, changes: list[Change]) -> bool:
    return any(change is other for other in changes)


def _of(changes: list[Change], head: int) -> int:
    return sum(change.head == head for change in changes)


def _mark(proposal: Proposal, head: int, done: int, wanted: int) -> Steps[int]:
    """Count a page that is optimised, take the mark from one that is not -> 0 or EAGAIN."""
    if done:
        yield from Count(Counter.OPTIMIZED_KEY, 1)
    if not done or (done < wanted and not proposal.marks_partial):
        yield from StorePage(head, "vmemmap_optimized", 0)
    return 0 if done == wanted else EAGAIN


def _split(v: Vmemmap, proposal: Proposal, order: int, heads: Sequence[int]) -> Steps[int]:
    """Replace the leaves under all pages -> how many pages, from the first, have tables now."""
    changes: dict[int, Change] = {}
    for number, head in enumerate(heads):
        for first, _ in v.pieces(order, 0):
            address = v.address(head) + np.uint64(first * v.page_size)
            pmd = yield from Locate(address, 1)
            entry = yield from ReadEntry(pmd, 1)
            if int(pmd) in changes or entry.kind is not EntryKind.LEAF:
                continue
            change = yield from table_for(v, order, head, first, pmd, entry)
            if change is None:
                yield from _split_now(v, proposal, list(changes.values()))
                return number
            changes[int(pmd)] = change
    yield from _split_now(v, proposal, list(changes.values()))
    return len(heads)


def _split_now(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[None]:
    if changes:
        yield from WriteBarrier()
        yield from (proposal.split or proposal.exchange)(v, proposal, changes)


def exchange(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[list[Change]]:
    """Make the changes of many pages -> list of those that were made."""
    if not changes:
        return []
    if proposal.letter == "A":
        return (yield from _page_by_page(v, changes))
    if proposal.letter == "E":
        return (yield from _in_rounds(v, proposal, changes))
    yield from proposal.exchange(v, proposal, changes)
    return changes


def _page_by_page(v: Vmemmap, changes: list[Change]) -> Steps[list[Change]]:
    """A: all entries of one huge page are broken together, and whoever meets one waits."""
    yield from AllowFaults(True)
    for _, page in groupby(changes, lambda change: change.head):
        yield from Acquire(Lock.PAGE_TABLE)
        yield from break_and_make(v, list(page))
        yield from Release(Lock.PAGE_TABLE)
    return changes


def _in_rounds(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[list[Change]]:
    """E: clear every access flag, flush once, compare and swap every entry; again for those that
    were lost.
    """
    left = changes
    for _ in range(proposal.tries):
        cleared: list[Change] = []
        for change in left:
            now = yield from ReadEntry(change.location, change.level)
            if (
                yield from CompareExchangeEntry(
                    change.location,
                    now.value,
                    access_flag_cleared(v, change),
                    change.level,
                    change.address,
                )
            ):
                cleared.append(change)
        if cleared:
            yield from span(v, cleared)
        made: list[Change] = []
        for change in cleared:
            if (
                yield from CompareExchangeEntry(
                    change.location,
                    access_flag_cleared(v, change),
                    change.new,
                    change.level,
                    change.address,
                )
            ):
                made.append(change)
        left = [change for change in left if not _among(change, made)]
        if not left:
            break
    for change in left:
        yield from WriteEntry(change.location, change.old, change.level, change.address)
    return [change for change in changes if not _among(change, left)]


def restore_folios(
    v: Vmemmap, proposal: Proposal, order: int, heads: Sequence[int]
) -> Steps[list[int]]:
    """Give the tails of a list of pages frames of their own again -> for each 0, ENOMEM (nothing
    changed) or EAGAIN (some are shared).
    """
    yield from Acquire(Lock.MMAP_WRITE)
    wanted: list[Change] = []
    results: list[int] = []
    for head in heads:
        found: list[Change] | None = []
        if (yield from TestPage(head, "vmemmap_optimized")):
            found = yield from with_frames(v, order, head)
            if found is not None:
                yield from WriteBarrier()
        results.append(ENOMEM if found is None else 0)
        wanted += found or []
    done = yield from exchange(v, proposal, wanted)
    yield from Release(Lock.MMAP_WRITE)
    for change in wanted:
        if not _among(change, done):
            yield from FreeFrame(v.pfn(change.new), memmap=True)
    for number, head in enumerate(heads):
        if _of(done, head) < _of(wanted, head):
            results[number] = EAGAIN
        elif _of(wanted, head):
            yield from StorePage(head, "vmemmap_optimized", 0)
            yield from Count(Counter.OPTIMIZED_KEY, -1)
    return results
