"""Ways in which arm64 could remap the vmemmap live, as they were proposed: each exchanges entries
in its own manner.

arm64 wants break-before-make where an entry that can be written changes its frame, but while an
entry is broken any access by another CPU faults. All of them share one frame of tails per zone and
leave the head where it is. F is not here: it builds the vmemmap optimised at boot
(`hvo.vmemmap.boot`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hvo.memory.interface import Words
from hvo.mmu.shape import WORD
from hvo.steps.base import Steps, Value, one_answer
from hvo.steps.entries import (
    AllowFaults,
    CompareExchangeEntry,
    Entry,
    EntryKind,
    FillTable,
    Locate,
    ReadEntry,
    WriteEntry,
)
from hvo.steps.frames import AllocateFrame, AllocateFrames, Count, Counter, FreeFrame
from hvo.steps.ordering import Acquire, Flush, Lock, Release, ResumeCpus, StopCpus, WriteBarrier
from hvo.steps.struct_pages import CopyFrame, FillTails, StorePage, TestPage
from hvo.vmemmap.context import ENOMEM, Vmemmap
from hvo.vmemmap.remap import pte_of
from hvo.vmemmap.shared_tail import shared_tail
from hvo.vmemmap.split import table_of_leaf

EAGAIN = -11
"""An entry could not be exchanged: what was exchanged before stays so, and is marked as optimised,
so that restore can finish.
"""
TRIES = 16
"""How often proposal E tries an entry."""


class Change(NamedTuple):
    """An entry to be exchanged: where it is, what is there, what shall be there, its level, the
    address that it translates, and the huge page that it is about."""

    location: Value
    old: Value
    new: Value
    level: int
    address: Value
    head: Value
    order: int


@dataclass(frozen=True)
class Proposal:
    """One way: `exchange` makes changes -> how many were made; `split` replaces leaves (None: as
    `exchange` does).

    `needs` is what it asks of the hardware; `tries` is how often it tries an entry that can be
    lost, `marks_partial` whether a page that is optimised in part says so.
    """

    letter: str
    title: str
    needs: str
    exchange: "Exchange"
    split: "Exchange | None" = None
    tries: int = TRIES
    marks_partial: bool = True


Exchange = Callable[[Vmemmap, Proposal, list[Change]], Steps[int]]


# -- exchanging entries --


def span(v: Vmemmap, changes: list[Change]) -> Flush:
    """The flush of everything from the first of what `changes` translate to the last."""
    addresses = [np.asarray(change.address, np.uint64) for change in changes]
    size = np.uint64(v.format.span(changes[0].level))
    return Flush(np.minimum.reduce(addresses), np.maximum.reduce(addresses) + size)


def _write(changes: list[Change], *, new: bool) -> Steps[None]:
    for change in changes:
        yield from WriteEntry(
            change.location, change.new if new else 0, change.level, change.address
        )


def break_and_make(v: Vmemmap, changes: list[Change]) -> Steps[int]:
    """Write invalid entries, flush, write the new ones -> how many."""
    yield from _write(changes, new=False)
    yield from span(v, changes)
    yield from _write(changes, new=True)
    return len(changes)


def handle_faults(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[int]:
    """A: break and make under the page-table lock, entry by entry; an access that meets a broken
    one waits in the fault handler.
    """
    yield from AllowFaults(True)
    for change in changes:
        yield from Acquire(Lock.PAGE_TABLE)
        yield from break_and_make(v, [change])
        yield from Release(Lock.PAGE_TABLE)
    return len(changes)


def stop_machine(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[int]:
    """B: break and make while `stop_machine` holds all other CPUs, where they hold no spin lock."""
    yield from StopCpus(preemptible=True)
    done = yield from break_and_make(v, changes)
    yield from ResumeCpus()
    return done


def pause_cpus(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[int]:
    """D: break and make while an interrupt holds all other CPUs, wherever they are; the lock comes
    first, or its owner could be held.
    """
    yield from Acquire(Lock.PAGE_TABLE)
    yield from StopCpus(preemptible=False)
    done = yield from break_and_make(v, changes)
    yield from ResumeCpus()
    yield from Release(Lock.PAGE_TABLE)
    return done


def write_directly(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[int]:
    """Write over the live entry, as x86-64 may, and arm64 with FEAT_BBM level 2 for a block that
    becomes a table.
    """
    yield from _write(changes, new=True)
    yield from span(v, changes)
    return len(changes)


def retarget_equal(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[int]:
    """C: make the old entries read-only, flush, write what the shared frame holds into the old
    frames, then point the entries there.

    Only for tails that become read-only; back to a writable frame of its own an entry cannot go
    this way, and is broken like any other.
    """
    if any(is_writable(v, change.new) for change in changes):
        return (yield from stop_machine(v, proposal, changes))
    yield from write_directly(
        v,
        proposal,
        [change._replace(new=v.format.read_only(_word(change.old))) for change in changes],
    )
    for change in changes:
        yield from FillTails(v.pfn(change.old), change.head, change.order, v.structs_per_page)
    yield from WriteBarrier()
    return (yield from write_directly(v, proposal, changes))


def swap_without_access_flag(v: Vmemmap, proposal: Proposal, changes: list[Change]) -> Steps[int]:
    """E: clear the access flag, flush, compare and swap; hardware that sets the flag meanwhile
    makes the swap fail, a few times at most.
    """
    for done, change in enumerate(changes):
        if not (yield from _swap(v, change, proposal.tries)):
            return done
    return len(changes)


def access_flag_cleared(v: Vmemmap, change: Change) -> Words:
    """The old entry with its access flag clear."""
    return v.format.access_flag_cleared(_word(change.old))


def is_writable(v: Vmemmap, entry: Value) -> bool:
    """Whether `entry` maps writable; pages of a run part where it differs."""
    return one_answer(np.asarray(v.format.is_writable(_word(entry))))


def _word(entry: Value) -> Words:
    return np.asarray(entry, np.uint64)


def _swap(v: Vmemmap, change: Change, tries: int) -> Steps[bool]:
    cleared = access_flag_cleared(v, change)
    for _ in range(tries):
        now = yield from ReadEntry(change.location, change.level)
        if not (
            yield from CompareExchangeEntry(
                change.location, now.value, cleared, change.level, change.address
            )
        ):
            continue
        yield from span(v, [change])
        if (
            yield from CompareExchangeEntry(
                change.location, cleared, change.new, change.level, change.address
            )
        ):
            return True
    yield from WriteEntry(change.location, change.old, change.level, change.address)
    return False


_LEVEL_2 = "FEAT_BBM level 2, no conflict aborts"
PROPOSALS = {
    made.letter: made
    for made in (
        Proposal(
            "A", "break-before-make under the lock, the fault waits", "nothing", handle_faults
        ),
        Proposal("B", "stop_machine around break-before-make", "nothing", stop_machine),
        Proposal(
            "C",
            "split live, then read-only, flush, equal contents, retarget",
            _LEVEL_2,
            retarget_equal,
            write_directly,
        ),
        Proposal(
            "D", "pause the other CPUs by interrupt around break-before-make", "nothing", pause_cpus
        ),
        Proposal(
            "E",
            "access flag clear, flush, compare-and-swap",
            _LEVEL_2 + ", FEAT_HAFDBS",
            swap_without_access_flag,
            write_directly,
        ),
    )
}
"""The proposals that work on a live vmemmap, by their letters."""


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
