"""Ways in which arm64 could exchange entries of the vmemmap live, as they were proposed.

arm64 wants break-before-make where an entry that can be written changes its frame, but while an
entry is broken any access by another CPU faults. F is not here: it builds the vmemmap optimised at
boot (`hvo.vmemmap.boot`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hvo.memory.interface import Words
from hvo.steps.base import Steps, Value, one_answer
from hvo.steps.entries import AllowFaults, CompareExchangeEntry, ReadEntry, WriteEntry
from hvo.steps.ordering import Acquire, Flush, Lock, Release, ResumeCpus, StopCpus, WriteBarrier
from hvo.steps.struct_pages import FillTails
from hvo.vmemmap.context import Vmemmap

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
