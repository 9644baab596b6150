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

from hvo.steps.base import Steps, strided
from hvo.steps.entries import (
    AllowFaults,
    CompareExchangeEntry,
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

    location: int
    old: int
    new: int
    level: int
    address: int
    head: int
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
    last = max(changes, key=lambda change: change.address)
    return Flush(
        min(change.address for change in changes), last.address + v.format.span(last.level)
    )


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
    if any(v.format.is_writable(change.new) for change in changes):
        return (yield from stop_machine(v, proposal, changes))
    yield from write_directly(
        v,
        proposal,
        [change._replace(new=int(v.format.read_only(change.old))) for change in changes],
    )
    for change in changes:
        yield from FillTails(int(v.pfn(change.old)), change.head, change.order, v.structs_per_page)
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


def _swap(v: Vmemmap, change: Change, tries: int) -> Steps[bool]:
    cleared = int(v.format.access_flag_cleared(change.old))
    for _ in range(tries):
        now = yield from ReadEntry(change.location, change.level)
        if not (
            yield from CompareExchangeEntry(
                change.location, int(now.value), cleared, change.level, change.address
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


def optimize(v: Vmemmap, proposal: Proposal, order: int, head: int) -> Steps[int]:
    """Optimise one huge page -> 0, ENOMEM (nothing changed) or EAGAIN (the tails that were
    exchanged stay, the page is marked).
    """
    yield from Acquire(Lock.MMAP_WRITE)
    result = yield from _optimize(v, proposal, order, head)
    yield from Release(Lock.MMAP_WRITE)
    return result


def _optimize(v: Vmemmap, proposal: Proposal, order: int, head: int) -> Steps[int]:
    error = yield from _split(v, proposal, order, head)
    shared = None if error else (yield from shared_tail(v, order, head))
    if shared is None:
        return ENOMEM
    entry = int(v.leaf_entry(shared, writable=False))
    changes = yield from changes_of(v, order, head)
    changes = [change._replace(new=entry) for change in changes]
    yield from StorePage(head, "vmemmap_optimized", 1)
    done = yield from proposal.exchange(v, proposal, changes)
    for change in changes[:done]:
        yield from FreeFrame(int(v.pfn(change.old)), memmap=True)
    if done:
        yield from Count(Counter.OPTIMIZED_KEY, 1)
    if not done or (done < len(changes) and not proposal.marks_partial):
        yield from StorePage(head, "vmemmap_optimized", 0)
    return 0 if done == len(changes) else EAGAIN


def _split(v: Vmemmap, proposal: Proposal, order: int, head: int) -> Steps[int]:
    """Replace every leaf under the page by a table -> 0 or ENOMEM; the write lock keeps others
    away.
    """
    for first, _ in v.pieces(order, 0):
        address = int(v.address(head)) + first * v.page_size
        pmd = int((yield from Locate(address, 1)))
        entry = yield from ReadEntry(pmd, 1)
        if entry.kind is EntryKind.LEAF:
            table = yield from AllocateFrame(v.node_of(head))
            if table is None:
                return ENOMEM
            yield from FillTable(table, table_of_leaf(v, entry.value))
            yield from WriteBarrier()
            base = address & -v.leaf
            new = int(v.table_entry(table))
            yield from (proposal.split or proposal.exchange)(
                v, proposal, [Change(pmd, int(entry.value), new, 1, base, head, order)]
            )
    return 0


def changes_of(v: Vmemmap, order: int, head: int) -> Steps[list[Change]]:
    """The entries of the tails, as they are -> list of Change that change nothing yet."""
    found: list[Change] = []
    for first, pages in v.pieces(order, 1):
        address = int(v.address(head)) + first * v.page_size
        pte = yield from pte_of(v, address)
        for i, location in enumerate(strided(pte, pages, 8).tolist()):
            entry = yield from ReadEntry(location, 0)
            found.append(
                Change(
                    location,
                    int(entry.value),
                    int(entry.value),
                    0,
                    address + i * v.page_size,
                    head,
                    order,
                )
            )
    return found


def restore(v: Vmemmap, proposal: Proposal, order: int, head: int) -> Steps[int]:
    """Give the tails frames of their own again, those that share one -> 0, ENOMEM (nothing changed)
    or EAGAIN (some are still shared).
    """
    if not (yield from TestPage(head, "vmemmap_optimized")):
        return 0
    every = yield from changes_of(v, order, head)
    changes = [change for change in every if not v.format.is_writable(change.old)]
    frames = yield from AllocateFrames(len(changes), v.node_of(head), memmap=True)
    if frames is None:
        return ENOMEM
    for change, frame in zip(changes, np.asarray(frames).tolist(), strict=True):
        yield from CopyFrame(change.address, frame, v.structs_per_page)
    entries = [int(v.leaf_entry(frame, writable=True)) for frame in frames.tolist()]
    yield from Acquire(Lock.MMAP_WRITE)
    wanted = [change._replace(new=entry) for change, entry in zip(changes, entries, strict=True)]
    done = (yield from proposal.exchange(v, proposal, wanted)) if wanted else 0
    yield from Release(Lock.MMAP_WRITE)
    for frame in frames.tolist()[done:]:
        yield from FreeFrame(frame, memmap=True)
    if done < len(changes):
        return EAGAIN
    yield from StorePage(head, "vmemmap_optimized", 0)
    yield from Count(Counter.OPTIMIZED_KEY, -1)
    return 0
