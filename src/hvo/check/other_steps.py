"""Steps of pools, memory hotplug, other CPUs, and whoever gets the frames that were freed."""

from hvo.check.footprint import ALLOCATOR, FRAME, LOCK, PHYSICAL, STRUCT_PAGE, TRANSLATION, WHOLE
from hvo.check.geometry import FIRST_FRAME, PAGE, STRUCTS
from hvo.check.model import ALLOCATED, EMPTY, GIVEN, OTHER, STATUS, VANISHED, Model
from hvo.check.operations import WAIT, Operation, Result, place_of, ready
from hvo.check.perform import HELD, LOCKS, SECTION, STOPPED, change
from hvo.check.world import World
from hvo.kernel.struct_page import LINK, WORDS
from hvo.steps import consumer as k
from hvo.steps import folio as f
from hvo.steps import hotplug as h
from hvo.steps import pool as p
from hvo.steps import processors as x
from hvo.steps.vocabulary import Lock

_SPINNING = 1 << LOCKS.index(Lock.PAGE_TABLE) | 1 << LOCKS.index(Lock.HUGETLB)
_ERRORS = 98
FAULTS, RELEASED, ERRORS = 2, 1, 3
"""Places in a state's `extra`: whether accesses may wait, huge pages released, HugeTLB pages whose record has errors."""


def _extra(world: World, place: int, value: int) -> None:
    world.extra = (*world.extra[:place], value, *world.extra[place + 1 :])


# -- huge pages leave the pool --


@ready(p.PutFree)
def _ready_put_free(model: Model, step: p.PutFree) -> Operation:
    return Operation(step, _nothing, ())


def _nothing(world: World, actor: int, phase: int) -> Result:
    """The free list is nobody else's business here."""
    return None


@ready(f.FreeFolio)
def _ready_free_folio(model: Model, step: f.FreeFolio) -> Operation:
    return Operation(step, _free_folio, (_head(step),), bool)


def _head(step: f.FreeFolio) -> int:
    heads = step.heads
    return int(heads if isinstance(heads, int) else heads.ravel()[0] if heads.ndim else heads)


def _free_folio(world: World, actor: int, phase: int, head: int) -> Result:
    """The allocator takes a huge page whose tails lead to it, and unlinks each; an error that is still in the record is lost."""
    model = world.model
    number = head // (1 << model.geometry.order)
    world.touched.append((LOCK, _ERRORS, 1))
    if world.extra[ERRORS] >> number & 1:
        world.note("poison-freed", f"the page at pfn {head} is freed while its record has an error that no page is marked for")
    for pfn in range(head + 1, head + model.geometry.used * STRUCTS):
        place = place_of(model, pfn, LINK)
        for frame in world.frames_of(place.page, write=True, what="the allocator, which takes the tails apart,"):
            world.touched.append((STRUCT_PAGE, frame * STRUCTS + place.at // WORDS, 1))
            if world.contents[frame][place.at] != model.pages.link(head):
                world.note("leak", f"the allocator refuses the huge page at pfn {head}: pfn {pfn} is no tail of it (Bad page state)")
                return 0
    _extra(world, RELEASED, world.extra[RELEASED] | 1 << number)
    return 1


# -- whoever gets the frames --


@ready(k.TakeFreed)
def _ready_take_freed(model: Model, step: k.TakeFreed) -> Operation:
    return Operation(step, _take_freed, ())


def _take_freed(world: World, actor: int, phase: int) -> Result:
    world.touched.append((ALLOCATOR, 1, 1))
    freed = [frame for frame, status in enumerate(world.status) if status & STATUS == GIVEN]
    if not freed:
        return None
    frame = freed[world.choose(len(freed))]
    world.status[frame] = ALLOCATED | OTHER
    return frame


@ready(k.WriteData)
def _ready_write_data(model: Model, step: k.WriteData) -> Operation:
    return Operation(step, _write_data, (step.pfn,))


def _write_data(world: World, actor: int, phase: int, frame: int) -> Result:
    world.touched.append((FRAME, frame, 1))
    if world.status[frame] & STATUS == VANISHED:
        raise world.fault("access-freed", f"frame {frame}, which vanished with its memory block, is written")
    return None


# -- memory hotplug --


@ready(h.RemoveMemory)
def _ready_remove(model: Model, step: h.RemoveMemory) -> Operation:
    return Operation(step, _remove, ())


def _remove(world: World, actor: int, phase: int) -> Result:
    """The block goes; where it hosts its own struct pages, their frames go with it."""
    if world.model.hosted:
        for frame in range(FIRST_FRAME, FIRST_FRAME + world.model.geometry.vmemmap_pages):
            world.touched.append((FRAME, frame, 1))
            world.status[frame] = VANISHED
            world.fill(frame, EMPTY)
    return None


@ready(h.FreeBlock)
def _ready_free_block(model: Model, step: h.FreeBlock) -> Operation:
    return Operation(step, _free_block, (int(step.pfn), 1 << step.order))


def _free_block(world: World, actor: int, phase: int, first: int, count: int) -> Result:
    for frame in range(first, first + count):
        world.free(frame)
    return None


# -- other CPUs --


@ready(x.StopCpus)
def _ready_stop(model: Model, step: x.StopCpus) -> Operation:
    return Operation(step, _stop, (step.preemptible,))


def _stop(world: World, actor: int, phase: int, preemptible: bool) -> Result:
    world.touched.append((WHOLE, 0, 1))
    others = [record for other, record in enumerate(world.actors) if other != actor]
    if preemptible and any(record[HELD] & _SPINNING or record[SECTION] for record in others):
        return WAIT
    change(world, actor, HELD, world.actors[actor][HELD] | STOPPED)
    return None


@ready(x.ResumeCpus)
def _ready_resume(model: Model, step: x.ResumeCpus) -> Operation:
    return Operation(step, _resume, ())


def _resume(world: World, actor: int, phase: int) -> Result:
    world.touched.append((WHOLE, 0, 1))
    change(world, actor, HELD, world.actors[actor][HELD] & ~STOPPED)
    return None


@ready(x.CompareExchangeEntry)
def _ready_exchange(model: Model, step: x.CompareExchangeEntry) -> Operation:
    return Operation(step, _exchange, (int(step.location), int(step.expected), int(step.value), step.level), bool)


def _exchange(world: World, actor: int, phase: int, location: int, expected: int, value: int, level: int) -> Result:
    world.touched.append((PHYSICAL, location, 1))
    if world.contents[location // PAGE][location % PAGE // 8] != expected:
        return 0
    world.write_entry(location, value, level)
    return 1


@ready(x.AllowFaults)
def _ready_allow(model: Model, step: x.AllowFaults) -> Operation:
    return Operation(step, _allow, (int(step.allowed),))


def _allow(world: World, actor: int, phase: int, allowed: int) -> Result:
    world.touched.append((TRANSLATION, 0, 1))
    _extra(world, FAULTS, allowed)
    return None


# -- errors on HugeTLB pages --


@ready(k.RecordError, k.MoveErrors)
def _ready_errors(model: Model, step: k.RecordError | k.MoveErrors) -> Operation:
    number = step.head // (1 << model.geometry.order)
    return Operation(step, _errors, (number, int(isinstance(step, k.RecordError))))


def _errors(world: World, actor: int, phase: int, number: int, on: int) -> Result:
    world.touched.append((LOCK, _ERRORS, 1))
    _extra(world, ERRORS, world.extra[ERRORS] & ~(1 << number) | on << number)
    return None
