"""Steps that order others: locks, read-side sections, invalidations, barriers."""

from typing import TypeAlias

from hvo.check.effects.registry import WAIT, Again, Operation, Result, no_effect, page_range, ready
from hvo.check.model.footprint import LOCK, SECTIONS
from hvo.check.model.pending import empty, empty_all, let_go, taken, write_barrier
from hvo.check.model.properties import SEVERITY
from hvo.check.model.state import HELD, LOCKS, MASKED, OPEN, PENDING, SECTION, STOPPED, Model
from hvo.check.model.store_buffer import acquire, order, release
from hvo.check.model.tlb import Reach, complete, request
from hvo.check.model.world import World, change
from hvo.errors import HvoError
from hvo.steps.base import Assert, Step
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    EnterReadSection,
    FullBarrier,
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

_EXCLUDES = {
    Lock.PAGE_TABLE: (Lock.PAGE_TABLE,),
    Lock.HUGETLB: (Lock.HUGETLB,),
    Lock.MMAP_READ: (Lock.MMAP_WRITE,),
    Lock.MMAP_WRITE: (Lock.MMAP_READ, Lock.MMAP_WRITE),
    Lock.HOTPLUG: (Lock.HOTPLUG, Lock.HOTPLUG_READ),
    Lock.HOTPLUG_READ: (Lock.HOTPLUG,),
}
_FAMILY = {Lock.MMAP_READ: Lock.MMAP_WRITE, Lock.HOTPLUG_READ: Lock.HOTPLUG}
_SHARED = (Lock.MMAP_READ, Lock.HOTPLUG_READ)
_MASKING = (Lock.HUGETLB,)
"""Locks that are taken with interrupts masked (`spin_lock_irq(&hugetlb_lock)`)."""


# -- locks --


@ready(Acquire, Release)
def _ready_lock(model: Model, step: Acquire | Release) -> Operation:
    bit = 1 << LOCKS.index(step.lock)
    cell = LOCK + LOCKS.index(_FAMILY.get(step.lock, step.lock))
    mask = MASKED if step.lock in _MASKING else 0
    how = (cell, step.lock in _SHARED, bool(mask and model.interrupts))
    if isinstance(step, Release):
        return Operation(step, _release, (bit | mask, how))
    excludes = sum(1 << LOCKS.index(lock) for lock in _EXCLUDES[step.lock])
    return Operation(step, _acquire, (bit, excludes, mask, how))


_How: TypeAlias = tuple[int, bool, bool]
"""The cell of a lock, whether it is taken together with others, and whether interrupts can come
depends on it.
"""


def _touch_lock(world: World, how: _How) -> None:
    cell, shared, world.visible = how
    if shared:
        world.adds_to(cell)
    else:
        world.changes(cell)


def _acquire(
    world: World, actor: int, phase: int, bit: int, excludes: int, mask: int, how: _How
) -> Result:
    """Wait until nobody holds what excludes it; the first part of waiting masks interrupts, where
    the lock does that.
    """
    _touch_lock(world, how)
    held = world.actors[actor][HELD]
    others = any(
        record[HELD] & excludes for other, record in enumerate(world.actors) if other != actor
    )
    if others or held & bit & excludes:
        if not mask & ~held:
            return WAIT
        change(world, actor, HELD, held | mask)
        return Again(1)
    change(world, actor, HELD, held | bit | mask)
    acquire(world, actor)
    taken(world, actor, how[0])
    return None


def _release(world: World, actor: int, phase: int, bits: int, how: _How) -> Result:
    _touch_lock(world, how)
    change(world, actor, HELD, world.actors[actor][HELD] & ~bits)
    release(world, actor)
    let_go(world, actor, how[0])
    return None


# -- read-side sections --


@ready(EnterReadSection, LeaveReadSection)
def _ready_section(model: Model, step: Step[object]) -> Operation:
    return Operation(step, _section, (int(isinstance(step, EnterReadSection)),))


def _section(world: World, actor: int, phase: int, value: int) -> Result:
    """Bit 0 says that the actor is in a section, the others who waits for it to end."""
    world.adds_to(SECTIONS)
    change(world, actor, SECTION, value)
    return None


@ready(SynchronizeReaders)
def _ready_synchronize(model: Model, step: SynchronizeReaders) -> Operation:
    return Operation(step, _synchronize, ())


def _synchronize(world: World, actor: int, phase: int) -> Result:
    world.changes(SECTIONS)
    bit = 2 << actor
    empty_all(world)
    if not phase:
        order(world, actor)
        for other, record in enumerate(world.actors):
            if record[SECTION]:
                change(world, other, SECTION, record[SECTION] | bit)
        return Again(1)
    return WAIT if any(record[SECTION] & bit for record in world.actors) else None


# -- invalidations --


@ready(Invalidate, InvalidateAll)
def _ready_invalidate(model: Model, step: Invalidate | InvalidateAll) -> Operation:
    if isinstance(step, Invalidate):
        tables = step.tables or model.hardware.flush_drops_tables
        return Operation(
            step,
            _invalidate,
            (Reach(*page_range(model, int(step.start), int(step.end)), tables, step.this_cpu),),
        )
    if not model.hardware.flush_all:
        return Operation(step, no_effect, ())
    return Operation(
        step, _invalidate, (Reach(0, model.geometry.vmemmap_pages - 1, True, step.this_cpu),)
    )


def _invalidate(world: World, actor: int, phase: int, reach: Reach) -> Result:
    request(world, actor, reach)
    if not reach.this_cpu:
        first, last = reach.first, reach.last
        pending = world.actors[actor][PENDING]
        if pending:
            first, last = min(first, pending >> 8), max(last, (pending & 255) - 1)
        change(world, actor, PENDING, first << 8 | last + 1)
    return None


@ready(AwaitInvalidation)
def _ready_await(model: Model, step: AwaitInvalidation) -> Operation:
    return Operation(step, _await, ())


def _await(world: World, actor: int, phase: int) -> Result:
    """All that was asked for is done; and a DSB lets no later store come before an earlier one."""
    pending = world.actors[actor][PENDING]
    if pending and world.model.hardware.flush_interrupts:
        for lock in _MASKING:
            world.reads(LOCK + LOCKS.index(lock))
        if any(
            record[HELD] & MASKED for other, record in enumerate(world.actors) if other != actor
        ):
            return WAIT
    order(world, actor)
    empty(world, actor)
    if pending:
        empty_all(world)
        complete(world, actor, pending >> 8, (pending & 255) - 1)
        change(world, actor, PENDING, 0)
    return None


# -- barriers --


@ready(WriteBarrier)
def _ready_barrier(model: Model, step: WriteBarrier) -> Operation:
    return Operation(step, _barrier, ())


def _barrier(world: World, actor: int, phase: int) -> Result:
    order(world, actor)
    write_barrier(world, actor)
    return None


@ready(FullBarrier)
def _ready_full_barrier(model: Model, step: FullBarrier) -> Operation:
    return Operation(step, _full_barrier, ())


def _full_barrier(world: World, actor: int, phase: int) -> Result:
    order(world, actor)
    empty(world, actor)
    return None


@ready(ReadBarrier)
def _ready_read_barrier(model: Model, step: ReadBarrier) -> Operation:
    """Loads go early only past other loads (`hvo.check.search.speculation`), so that any other step
    holds them back, and this one does nothing else.
    """
    return Operation(step, no_effect, ())


@ready(Assert)
def _ready_assert(model: Model, step: Assert) -> Operation:
    if step.violates not in SEVERITY:
        raise HvoError(f"Assert violates {step.violates!r}: expected one of {', '.join(SEVERITY)}")
    return Operation(step, _assert, (bool(step.holds), step.says, step.violates))


def _assert(world: World, actor: int, phase: int, holds: bool, says: str, violates: str) -> Result:
    if not holds:
        world.note(violates, says)
    return None


_SPINNING = 1 << LOCKS.index(Lock.PAGE_TABLE) | 1 << LOCKS.index(Lock.HUGETLB)


_LOOKED_AT = (
    LOCK + LOCKS.index(Lock.PAGE_TABLE),
    LOCK + LOCKS.index(Lock.HUGETLB),
    SECTIONS,
)
"""What stopping CPUs looks at."""


@ready(StopCpus)
def _ready_stop(model: Model, step: StopCpus) -> Operation:
    return Operation(step, _stop, (step.preemptible, STOPPED | OPEN * step.interrupts))


def _stop(world: World, actor: int, phase: int, preemptible: bool, bits: int) -> Result:
    """Once every other CPU takes the interrupt, and, where it must be preemptible, holds no spin
    lock and is in no read-side section.
    """
    world.visible = True
    for cell in _LOOKED_AT:
        world.reads(cell)
    order(world, actor)
    empty_all(world)
    others = [record for other, record in enumerate(world.actors) if other != actor]
    if any(record[HELD] & MASKED for record in others):
        return WAIT
    if preemptible and any(record[HELD] & _SPINNING or record[SECTION] for record in others):
        return WAIT
    change(world, actor, HELD, world.actors[actor][HELD] | bits)
    return None


@ready(ResumeCpus)
def _ready_resume(model: Model, step: ResumeCpus) -> Operation:
    return Operation(step, _resume, ())


def _resume(world: World, actor: int, phase: int) -> Result:
    world.visible = True
    change(world, actor, HELD, world.actors[actor][HELD] & ~(STOPPED | OPEN))
    order(world, actor)
    return None
