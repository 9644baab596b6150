"""Steps on page tables, frames and the actor's own list, one at a time."""

from functools import partial
from typing import Any, Final

import numpy as np

from hvo.check.effects.registry import Operation, Outcome, Result, as_word, ready
from hvo.check.model.footprint import ALLOCATOR, FRAME, PHYSICAL
from hvo.check.model.geometry import BASE, PAGE, PMD_FRAME
from hvo.check.model.state import ALLOCATED, KIND, PRIVATE, STATUS, STRUCT, TABLE, Model
from hvo.check.model.store_buffer import order, publish, store
from hvo.check.model.world import World
from hvo.errors import HvoError
from hvo.steps import vocabulary as s
from hvo.steps.vocabulary import Counter, Entry, EntryKind, Lock

LOCKS = tuple(Lock)
STOPPED = 1 << len(LOCKS)
"""Beside the locks that an actor holds: it has stopped all other CPUs."""
MASKED = STOPPED << 1
"""Beside them: it has masked interrupts on its CPU, to hold a lock that interrupts take or to wait
for one.
"""
OPEN = STOPPED << 2
"""Beside `STOPPED`: it still takes interrupts itself."""
NODE: Final = 0
PHASE: Final = 1
PILE: Final = 2
HELD: Final = 3
SECTION: Final = 4
PENDING: Final = 5
"""What an actor's record holds: its node, how far its step is, its list, its locks, its read-side
section and who waits, its flush; then `hvo.check.model.store_buffer.STORES`."""


def change(world: World, actor: int, item: int, value: Any) -> None:
    """Set one item of an actor's record."""
    record = world.actors[actor]
    changed: Any = (*record[:item], value, *record[item + 1 :])
    world.actors[actor] = changed


# -- entries and variables --


@ready(s.Locate)
def _locate(model: Model, step: s.Locate) -> Operation:
    address = int(step.address)
    if step.level == 1:
        return Operation(
            step, _constant, (PMD_FRAME * PAGE + 8 * ((address - BASE) // model.v.leaf),), as_word
        )
    raise HvoError(f"the checker locates PMD entries only, not those of level {step.level}")


def _constant(world: World, actor: int, phase: int, value: int) -> Result:
    return value


@ready(s.ReadEntry)
def _ready_read_entry(model: Model, step: s.ReadEntry) -> Operation:
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
    world.touched += [(PHYSICAL, location, 0), (FRAME, frame, 0)]
    if world.status[frame] & STATUS not in (ALLOCATED, PRIVATE):
        raise world.fault("freed-table", f"an entry is read from frame {frame}, which was freed")
    return world.contents[frame][location % PAGE // 8]


@ready(s.WriteEntry)
def _ready_write_entry(model: Model, step: s.WriteEntry) -> Operation:
    return Operation(step, _write_entry, (int(step.location), int(step.value), step.level))


def _write_entry(
    world: World, actor: int, phase: int, location: int, value: int, level: int
) -> Result:
    world.walk_on_a_guess(location // PAGE, location % PAGE // 8, level)
    world.write_entry(location, value, level)
    return None


@ready(s.StoreTableEntry)
def _ready_store_entry(model: Model, step: s.StoreTableEntry) -> Operation:
    return Operation(step, _store_entry, (int(step.table), step.index, int(step.value)))


def _store_entry(
    world: World, actor: int, phase: int, table: int, index: int, value: int
) -> Result:
    world.status[table] = world.status[table] & STATUS | TABLE
    world.write_entry(table * PAGE + 8 * index, value, 0)
    store(world, actor, table)
    return None


@ready(s.ReadPointer)
def _ready_read_pointer(model: Model, step: s.ReadPointer) -> Operation:
    return Operation(step, _read_pointer, (int(step.location),))


def _read_pointer(world: World, actor: int, phase: int, location: int) -> Result:
    world.touched.append((PHYSICAL, location, 0))
    value = world.contents[location // PAGE][location % PAGE // 8]
    return value - 1 if value else None


@ready(s.WritePointer, s.PublishPointer)
def _ready_pointer(model: Model, step: s.WritePointer | s.PublishPointer) -> Operation:
    return Operation(
        step,
        _write_pointer,
        (int(step.location), int(step.value), isinstance(step, s.PublishPointer)),
    )


def _write_pointer(
    world: World, actor: int, phase: int, location: int, value: int, swap: bool
) -> Result:
    """Store frame number `value`; with `swap` only where there is none."""
    found = _read_pointer(world, actor, phase, location)
    world.touched += [(PHYSICAL, location, 1), (FRAME, value, 0)]
    if swap and found is not None:
        return found
    if swap:
        order(world, actor)
    publish(world, value)
    if found is not None:
        world.note(
            "leak", f"the shared tail in frame {found} is forgotten for another in frame {value}"
        )
    world.put(location // PAGE, location % PAGE // 8, value + 1)
    if world.status[value] & STATUS == PRIVATE:
        world.status[value] = ALLOCATED | world.status[value] & KIND
    return None


# -- frames --


@ready(s.AllocateFrame)
def _ready_allocate(model: Model, step: s.AllocateFrame) -> Operation:
    return Operation(step, _allocate, (int(step.node), step.this_node_only, step.memmap))


def _allocate(world: World, actor: int, phase: int, node: int, only: bool, memmap: bool) -> Result:
    """The next frame of the actor's reserve; refused where its node has none and others are not
    asked, or where allocations may fail.
    """
    if only and node in world.model.empty_nodes:
        world.extra = (world.extra[0] | 1 << actor, *world.extra[1:])
        return None
    if world.failures:
        world.touched.append((ALLOCATOR, 0, 1))
        if world.choose(2):
            world.failures -= 1
            return None
    first = world.model.geometry.first_reserved(actor)
    for frame in range(first, first + world.model.geometry.reserve):
        if not world.status[frame] & STATUS:
            world.status[frame] = PRIVATE | (STRUCT if memmap else 0)
            world.fill(frame, world.model.garbage)
            _count(world, actor, 0, 1, int(memmap))
            return frame
    raise HvoError(
        f"actor {actor + 1} needs more than {world.model.geometry.reserve} frames: give the"
        " geometry a larger reserve"
    )


@ready(s.FreeFrame)
def _ready_free(model: Model, step: s.FreeFrame) -> Operation:
    return Operation(step, _free, (int(step.pfn), step.memmap))


def _free(world: World, actor: int, phase: int, frame: int, memmap: bool) -> Result:
    world.free(frame)
    _count(world, actor, 0, 1, -int(memmap))
    return None


@ready(s.Count)
def _ready_count(model: Model, step: s.Count) -> Operation:
    return Operation(step, _count, (0 if step.counter is Counter.OPTIMIZED_KEY else 1, step.delta))


def _count(world: World, actor: int, phase: int, which: int, delta: int) -> Result:
    counters = world.counters
    world.counters = (*counters[:which], counters[which] + delta, *counters[which + 1 :])
    return None


# -- the actor's own list --


@ready(s.PileFrames)
def _ready_pile(model: Model, step: s.PileFrames) -> Operation:
    return Operation(step, _pile, (tuple(np.atleast_1d(step.pfns).tolist()),))


def _pile(world: World, actor: int, phase: int, frames: tuple[int, ...]) -> Result:
    change(world, actor, PILE, world.actors[actor][PILE] + frames)
    return None


@ready(s.PileIsEmpty)
def _ready_pile_is_empty(model: Model, step: s.PileIsEmpty) -> Operation:
    return Operation(step, _pile_is_empty, (), bool)


def _pile_is_empty(world: World, actor: int, phase: int) -> Result:
    return int(not world.actors[actor][PILE])


@ready(s.TakePiled)
def _ready_take(model: Model, step: s.TakePiled) -> Operation:
    return Operation(step, _take, (step.count,), _frames)


def _take(world: World, actor: int, phase: int, count: int | None) -> Result:
    pile = world.actors[actor][PILE]
    keep = 0 if count is None else len(pile) - count
    change(world, actor, PILE, pile[:keep])
    return pile[keep:][::-1]


def _frames(outcome: Outcome) -> Any:
    return np.array(outcome, np.int64)
