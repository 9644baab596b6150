"""Frames: allocated, freed, on an actor's list, in the hands of who gets them next."""

from typing import Any

import numpy as np

from hvo.check.effects.registry import Operation, Outcome, Result, no_effect, ready
from hvo.check.model.footprint import COUNTERS, FRAME, FREED, KEY, REFUSALS
from hvo.check.model.pending import before_other_store
from hvo.check.model.state import (
    ALLOCATED,
    FREED_TO_BUDDY,
    OFFLINED,
    OTHER,
    PRIVATE,
    STATUS,
    STRUCT,
    VMEMMAP_PAGES,
    Model,
)
from hvo.check.model.tables import free
from hvo.check.model.world import World, change
from hvo.errors import HvoError
from hvo.steps.frames import (
    AllocateBlock,
    AllocateFrame,
    Count,
    Counter,
    FreeBlock,
    FreeFrame,
    ListAdd,
    ListEmpty,
    ListPop,
    ReadCounter,
    TakeFreed,
    WriteData,
)


@ready(AllocateFrame)
def _ready_allocate(model: Model, step: AllocateFrame) -> Operation:
    return Operation(step, _allocate, (int(step.node), step.this_node_only, step.memmap))


def _allocate(world: World, actor: int, phase: int, node: int, only: bool, memmap: bool) -> Result:
    """The next frame of the actor's reserve; refused where its node has none and others are not
    asked, or where allocations may fail.
    """
    if only and node in world.model.empty_nodes:
        world.adds_to(COUNTERS)
        world.refused |= 1 << actor
        return None
    world.reads(REFUSALS)
    if world.failures:
        world.changes(REFUSALS)
        if world.choose(2):
            world.failures -= 1
            return None
    first = world.model.geometry.first_reserved(actor)
    for frame in range(first, first + world.model.geometry.reserve):
        world.reads(FRAME + frame)
        if not world.status[frame] & STATUS:
            world.changes(FRAME + frame)
            world.status[frame] = PRIVATE | (STRUCT if memmap else 0)
            world.fill(frame, world.model.poison)
            _count(world, actor, 0, 1, int(memmap))
            return frame
    raise HvoError(
        f"actor {actor + 1} needs more than {world.model.geometry.reserve} frames: give the"
        " geometry a larger reserve"
    )


@ready(FreeFrame)
def _ready_free(model: Model, step: FreeFrame) -> Operation:
    return Operation(step, _free, (int(step.pfn), step.memmap))


def _free(world: World, actor: int, phase: int, frame: int, memmap: bool) -> Result:
    before_other_store(world, actor)
    free(world, frame)
    _count(world, actor, 0, 1, -int(memmap))
    return None


@ready(Count)
def _ready_count(model: Model, step: Count) -> Operation:
    return Operation(step, _count, (0 if step.counter is Counter.OPTIMIZED_KEY else 1, step.delta))


def _count(world: World, actor: int, phase: int, which: int, delta: int) -> Result:
    world.adds_to(COUNTERS if which else KEY)
    counters = world.counters
    world.counters = (*counters[:which], counters[which] + delta, *counters[which + 1 :])
    return None


@ready(ReadCounter)
def _ready_read_counter(model: Model, step: ReadCounter) -> Operation:
    return Operation(step, _read_counter, (0 if step.counter is Counter.OPTIMIZED_KEY else 1,))


def _read_counter(world: World, actor: int, phase: int, which: int) -> Result:
    world.reads(COUNTERS if which else KEY)
    return world.counters[which]


@ready(ListAdd)
def _ready_list_add(model: Model, step: ListAdd) -> Operation:
    return Operation(step, _list_add, (tuple(np.atleast_1d(step.pfns).tolist()),))


def _list_add(world: World, actor: int, phase: int, frames: tuple[int, ...]) -> Result:
    change(world, actor, VMEMMAP_PAGES, world.actors[actor][VMEMMAP_PAGES] + frames)
    return None


@ready(ListEmpty)
def _ready_list_empty(model: Model, step: ListEmpty) -> Operation:
    return Operation(step, _list_empty, (), bool)


def _list_empty(world: World, actor: int, phase: int) -> Result:
    return int(not world.actors[actor][VMEMMAP_PAGES])


@ready(ListPop)
def _ready_take(model: Model, step: ListPop) -> Operation:
    return Operation(step, _take, (step.count,), _frames)


def _take(world: World, actor: int, phase: int, count: int | None) -> Result:
    vmemmap_page_list = world.actors[actor][VMEMMAP_PAGES]
    keep = 0 if count is None else len(vmemmap_page_list) - count
    change(world, actor, VMEMMAP_PAGES, vmemmap_page_list[:keep])
    return vmemmap_page_list[keep:][::-1]


def _frames(outcome: Outcome) -> Any:
    return np.array(outcome, np.int64)


@ready(TakeFreed)
def _ready_take_freed(model: Model, step: TakeFreed) -> Operation:
    return Operation(step, _take_freed, ())


def _take_freed(world: World, actor: int, phase: int) -> Result:
    world.changes(FREED)
    freed = [
        frame for frame, status in enumerate(world.status) if status & STATUS == FREED_TO_BUDDY
    ]
    if not freed:
        return None
    frame = freed[world.choose(len(freed))]
    world.changes(FRAME + frame)
    world.status[frame] = ALLOCATED | OTHER
    return frame


@ready(WriteData)
def _ready_write_data(model: Model, step: WriteData) -> Operation:
    return Operation(step, _write_data, (step.pfn,))


def _write_data(world: World, actor: int, phase: int, frame: int) -> Result:
    world.reads(FRAME + frame)
    if world.status[frame] & STATUS == OFFLINED:
        raise world.fault(
            "access-freed", f"frame {frame}, which vanished with its memory block, is written"
        )
    return None


@ready(AllocateBlock)
def _ready_allocate_block(model: Model, step: AllocateBlock) -> Operation:
    """No block of frames is free here: what can be mapped by pages then is."""
    return Operation(step, no_effect, ())


@ready(FreeBlock)
def _ready_free_block(model: Model, step: FreeBlock) -> Operation:
    return Operation(step, _free_block, (int(step.pfn), 1 << step.order))


def _free_block(world: World, actor: int, phase: int, first: int, count: int) -> Result:
    for frame in range(first, first + count):
        free(world, frame)
    return _count(world, actor, 0, 1, -count)
