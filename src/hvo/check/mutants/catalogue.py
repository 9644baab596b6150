"""What can be left out of protocols, or swapped: each mutant with its name, what it does, and
how.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hvo.check.model.geometry import PAGE
from hvo.check.mutants.mutations import (
    COUNT_LAST,
    Mutation,
    Which,
    first,
    instead,
    later,
    leave_out,
)
from hvo.steps.base import Step
from hvo.steps.entries import (
    AllowFaults,
    CompareExchangeEntry,
    PublishPointer,
    ReadEntry,
    StoreTableEntry,
    WriteEntry,
    WritePointer,
)
from hvo.steps.frames import Count, FreeFrame, ListPop
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    EnterReadSection,
    Invalidate,
    InvalidateAll,
    LeaveReadSection,
    Lock,
    ReadBarrier,
    Release,
    ResumeCpus,
    StopCpus,
    SynchronizeReaders,
    WriteBarrier,
)
from hvo.steps.struct_pages import CopyTailWords, CopyWords, FillTail, StorePage


@dataclass(frozen=True)
class Mutant:
    """One change to a protocol: its name, what is done in words, the change to the steps, and in
    which `roles` it means anything.
    """

    name: str
    what: str
    mutation: Mutation
    roles: tuple[str, ...] | None = None


def _is(*kinds: type) -> Which:
    return lambda step: isinstance(step, kinds)


def _takes(*locks: Lock) -> Which:
    return lambda step: isinstance(step, Acquire | Release) and step.lock in locks


def _stores(field: str, *values: int) -> Which:
    return lambda step: (
        isinstance(step, StorePage)
        and step.field == field
        and (not values or int(step.value) in values)
    )


def _writes(level: int) -> Which:
    return lambda step: (
        isinstance(step, WriteEntry) and step.level == level and int(step.value) != 0
    )


def _lets_go(lock: Lock) -> Which:
    return lambda step: isinstance(step, Release) and step.lock is lock


def _counts(step: Step[object]) -> bool:
    return isinstance(step, Count) and step.delta != 0


def _breaks(step: Step[object]) -> bool:
    return isinstance(step, WriteEntry) and int(step.value) == 0


_CHANGES = ("optimise", "restore")
"""Roles that stop CPUs themselves; others only stand for something that is not interrupted."""
_REQUESTS = _is(Invalidate, InvalidateAll)
_FLUSHES = _is(Invalidate, InvalidateAll, AwaitInvalidation)
_ENTRIES = _is(WriteEntry, ReadEntry, WriteBarrier, CopyTailWords)


def _this_cpu(step: Step[object]) -> Step[object] | None:
    return replace(step, this_cpu=True) if isinstance(step, Invalidate | InvalidateAll) else None


def _last_level(step: Step[object]) -> Step[object] | None:
    return replace(step, tables=False) if isinstance(step, Invalidate) and step.tables else None


def _one_page(step: Step[object]) -> Step[object] | None:
    """Only the first page of what is to be dropped, where that is more than one."""
    if not isinstance(step, Invalidate) or int(step.end) - int(step.start) <= PAGE:
        return None
    return replace(step, end=int(step.start) + PAGE)


def _stop(**changes: bool) -> Callable[[Step[object]], Step[object] | None]:
    """Stopping CPUs another way, where that is another."""

    def other(step: Step[object]) -> Step[object] | None:
        if not isinstance(step, StopCpus) or all(
            getattr(step, name) is value for name, value in changes.items()
        ):
            return None
        return replace(step, **changes)

    return other


def _plain_write(step: Step[object]) -> Step[object] | None:
    return (
        WriteEntry(step.location, step.value, step.level, step.address)
        if isinstance(step, CompareExchangeEntry)
        else None
    )


def _plain_store(step: Step[object]) -> Step[object] | None:
    return WritePointer(step.location, step.value) if isinstance(step, PublishPointer) else None


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant("flush", "no invalidation, and no wait for one", leave_out(_FLUSHES)),
        Mutant(
            "flush-wait",
            "invalidations are asked for and not waited for",
            leave_out(_is(AwaitInvalidation)),
        ),
        Mutant("flush-this-cpu", "only the own CPU drops translations", instead(_this_cpu)),
        Mutant("flush-last-level", "pointers to tables are not dropped", instead(_last_level)),
        Mutant("flush-one-page", "only the first page of the range is dropped", instead(_one_page)),
        Mutant(
            "free-first",
            "frames are freed before the flush",
            later(_FLUSHES, _is(FreeFrame), _is(ListPop)),
        ),
        Mutant(
            "flush-first",
            "the flush comes before the entries are written",
            later(_writes(0), _is(AwaitInvalidation), _REQUESTS),
        ),
        Mutant("readers-wait", "no wait for readers", leave_out(_is(SynchronizeReaders))),
        Mutant(
            "readers-wait-first",
            "the wait for readers comes first",
            first(SynchronizeReaders(), _is(SynchronizeReaders)),
        ),
        Mutant(
            "read-section",
            "no read-side section",
            leave_out(_is(EnterReadSection, LeaveReadSection)),
        ),
        Mutant("read-barrier", "loads are not ordered", leave_out(_is(ReadBarrier))),
        Mutant("count-last", "the count is looked at last", COUNT_LAST),
        Mutant("page-table-lock", "no page-table lock", leave_out(_takes(Lock.PAGE_TABLE))),
        Mutant(
            "page-table-unlock",
            "the page-table lock is not let go",
            leave_out(_lets_go(Lock.PAGE_TABLE)),
        ),
        Mutant(
            "mmap-lock", "no lock of init_mm", leave_out(_takes(Lock.MMAP_READ, Lock.MMAP_WRITE))
        ),
        Mutant(
            "hotplug-lock", "no hotplug lock", leave_out(_takes(Lock.HOTPLUG, Lock.HOTPLUG_READ))
        ),
        Mutant("hugetlb-lock", "no lock of the pool", leave_out(_takes(Lock.HUGETLB))),
        Mutant("barrier", "no write barriers", leave_out(_is(WriteBarrier))),
        Mutant(
            "publish", "the shared tail is stored, not compared and swapped", instead(_plain_store)
        ),
        Mutant(
            "flag",
            "the page is not marked as optimised, nor as restored",
            leave_out(_stores("vmemmap_optimized")),
        ),
        Mutant(
            "flag-late",
            "the page is marked as optimised after the copy",
            later(_stores("vmemmap_optimized", 1), _is(CopyWords)),
        ),
        Mutant("mark", "the HugeTLB mark is not set", leave_out(_stores("hugetlb", 1))),
        Mutant(
            "mark-late",
            "the HugeTLB mark is set after the remap",
            later(_stores("hugetlb", 1), _writes(0), _ENTRIES),
        ),
        Mutant("mark-kept", "the HugeTLB mark is not cleared", leave_out(_stores("hugetlb", 0))),
        Mutant(
            "errors",
            "recorded errors do not move to the pages",
            leave_out(_stores("hwpoison", 0, 1)),
        ),
        Mutant("count", "counters stay as they are", leave_out(_counts)),
        Mutant("copy", "struct pages are not copied", leave_out(_is(CopyWords))),
        Mutant(
            "copy-late",
            "struct pages are copied after the entry is written",
            later(_is(CopyWords), _writes(0), _ENTRIES),
        ),
        Mutant(
            "reset",
            "the first struct pages are not reset to tails",
            leave_out(_is(CopyTailWords)),
        ),
        Mutant("fill", "the shared tail is not filled", leave_out(_is(FillTail))),
        Mutant(
            "fill-late",
            "it is filled after the entries are written",
            later(_is(FillTail), _writes(0), _ENTRIES),
        ),
        Mutant("fill-table", "the new table is not filled", leave_out(_is(StoreTableEntry))),
        Mutant(
            "fill-table-late",
            "it is filled after it is installed",
            later(_is(StoreTableEntry), _writes(1)),
        ),
        Mutant("free", "frames are not freed", leave_out(_is(FreeFrame))),
        Mutant("break", "entries are not broken first", leave_out(_breaks)),
        Mutant(
            "make-early",
            "the new entry comes before the flush is complete",
            later(_FLUSHES, _writes(0), _is(WriteEntry)),
        ),
        Mutant("stop", "no CPU is stopped", leave_out(_is(StopCpus, ResumeCpus)), _CHANGES),
        Mutant(
            "stop-anywhere",
            "CPUs are stopped also where they hold spin locks",
            instead(_stop(preemptible=False)),
            _CHANGES,
        ),
        Mutant(
            "stop-interrupts",
            "the CPU that stops the others takes interrupts",
            instead(_stop(interrupts=True)),
            _CHANGES,
        ),
        Mutant(
            "fault-waits", "a fault on a broken entry does not wait", leave_out(_is(AllowFaults))
        ),
        Mutant(
            "swap",
            "entries are written, not compared and swapped",
            instead(_plain_write, result=True),
        ),
    )
}
"""Everything that is tried, by its name."""
