"""Page-table entries and kernel variables, one access at a time."""

from functools import partial

from hvo.check.effects.registry import Operation, Outcome, Result, as_word, ready
from hvo.check.model.access import walk_on_a_guess
from hvo.check.model.footprint import FAULTS, FRAME
from hvo.check.model.geometry import BASE, PAGE, PMD_FRAME
from hvo.check.model.pending import before_other_store, empty
from hvo.check.model.state import ALLOCATED, KIND, PRIVATE, STATUS, TABLE, Model
from hvo.check.model.store_buffer import order, publish, store
from hvo.check.model.tables import write_entry
from hvo.check.model.world import World
from hvo.errors import HvoError
from hvo.steps.entries import (
    AllowFaults,
    CompareExchangeEntry,
    Entry,
    EntryKind,
    Locate,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    StoreTableEntry,
    WriteEntry,
    WritePointer,
)


@ready(Locate)
def _locate(model: Model, step: Locate) -> Operation:
    address = int(step.address)
    if step.level == 1:
        return Operation(
            step, _constant, (PMD_FRAME * PAGE + 8 * ((address - BASE) // model.v.leaf),), as_word
        )
    raise HvoError(f"the checker locates PMD entries only, not those of level {step.level}")


def _constant(world: World, actor: int, phase: int, value: int) -> Result:
    return value


@ready(ReadEntry)
def _ready_read_entry(model: Model, step: ReadEntry) -> Operation:
    return Operation(step, _read_entry, (int(step.location),), partial(_entry, model, step.level))


def _entry(model: Model, level: int, outcome: Outcome) -> Entry:
    value = outcome if isinstance(outcome, int) else 0
    f = model.v.format
    kind = (
        EntryKind.TABLE
        if f.is_table(value, level)
        else EntryKind.LEAF
        if f.is_leaf(value, level)
        else EntryKind.NONE
    )
    return Entry(kind, value)


def _read_entry(world: World, actor: int, phase: int, location: int) -> Result:
    frame = location // PAGE
    world.reads(location // 8)
    world.reads(FRAME + frame)
    if world.status[frame] & STATUS not in (ALLOCATED, PRIVATE):
        raise world.fault("freed-table", f"an entry is read from frame {frame}, which was freed")
    return world.contents[frame][location % PAGE // 8]


@ready(WriteEntry)
def _ready_write_entry(model: Model, step: WriteEntry) -> Operation:
    return Operation(step, _write_entry, (int(step.location), int(step.value), step.level))


def _write_entry(
    world: World, actor: int, phase: int, location: int, value: int, level: int
) -> Result:
    before_other_store(world, actor)
    walk_on_a_guess(world, location // PAGE, location % PAGE // 8, level)
    write_entry(world, location, value, level)
    return None


@ready(StoreTableEntry)
def _ready_store_entry(model: Model, step: StoreTableEntry) -> Operation:
    return Operation(step, _store_entry, (int(step.table), step.index, int(step.value)))


def _store_entry(
    world: World, actor: int, phase: int, table: int, index: int, value: int
) -> Result:
    world.reads(FRAME + table)
    if world.status[table] & KIND != TABLE:
        world.changes(FRAME + table)
        world.status[table] = world.status[table] & STATUS | TABLE
    write_entry(world, table * PAGE + 8 * index, value, 0)
    store(world, actor, table)
    return None


@ready(ReadPointer)
def _ready_read_pointer(model: Model, step: ReadPointer) -> Operation:
    return Operation(step, _read_pointer, (int(step.location),))


def _read_pointer(world: World, actor: int, phase: int, location: int) -> Result:
    world.reads(location // 8)
    value = world.contents[location // PAGE][location % PAGE // 8]
    return value - 1 if value else None


@ready(WritePointer, PublishPointer)
def _ready_pointer(model: Model, step: WritePointer | PublishPointer) -> Operation:
    return Operation(
        step,
        _write_pointer,
        (int(step.location), int(step.value), isinstance(step, PublishPointer)),
    )


def _write_pointer(
    world: World, actor: int, phase: int, location: int, value: int, swap: bool
) -> Result:
    """Store frame number `value`; with `swap` only where there is none."""
    (empty if swap else before_other_store)(world, actor)
    found = _read_pointer(world, actor, phase, location)
    if swap and found is not None:
        return found
    world.changes(location // 8)
    world.reads(FRAME + value)
    if swap:
        order(world, actor)
    publish(world, value)
    if found is not None:
        world.note(
            "leak", f"the shared tail in frame {found} is forgotten for another in frame {value}"
        )
    world.put(location // PAGE, location % PAGE // 8, value + 1)
    if world.status[value] & STATUS == PRIVATE:
        world.changes(FRAME + value)
        world.status[value] = ALLOCATED | world.status[value] & KIND
    return None


@ready(CompareExchangeEntry)
def _ready_exchange(model: Model, step: CompareExchangeEntry) -> Operation:
    return Operation(
        step, _exchange, (int(step.location), int(step.expected), int(step.value), step.level), bool
    )


def _exchange(
    world: World, actor: int, phase: int, location: int, expected: int, value: int, level: int
) -> Result:
    """Compare and swap, with what a walker may have made of the entry."""
    frame, index = location // PAGE, location % PAGE // 8
    empty(world, actor)
    world.reads(location // 8)
    world.reads(FRAME + frame)
    walk_on_a_guess(world, frame, index, level)
    if world.contents[frame][index] != expected:
        return 0
    order(world, actor)
    write_entry(world, location, value, level)
    return 1


@ready(AllowFaults)
def _ready_allow(model: Model, step: AllowFaults) -> Operation:
    return Operation(step, _allow, (int(step.allowed),))


def _allow(world: World, actor: int, phase: int, allowed: int) -> Result:
    world.changes(FAULTS)
    world.faults_wait = allowed
    return None
