"""Steps of pools, memory hotplug, other CPUs, and whoever gets the frames that were freed."""

from hvo.check.effects.ordering import SECTIONS
from hvo.check.effects.registry import WAIT, Operation, Result, place_of, ready
from hvo.check.effects.struct_pages import decode, field_of
from hvo.check.model.footprint import (
    ALLOCATOR,
    FRAME,
    LOCK,
    PHYSICAL,
    STRUCT_PAGE,
    TRANSLATION,
    WHOLE,
)
from hvo.check.model.geometry import FIRST_FRAME, PAGE, STRUCTS
from hvo.check.model.state import ALLOCATED, EMPTY, GIVEN, OTHER, STATUS, VANISHED, Model
from hvo.check.model.store_buffer import order
from hvo.check.model.world import World
from hvo.check.perform import HELD, LOCKS, MASKED, OPEN, SECTION, STOPPED, change
from hvo.kernel.struct_page import LINK, WORDS
from hvo.steps import consumer as k
from hvo.steps import folio as f
from hvo.steps import hotplug as h
from hvo.steps import pool as p
from hvo.steps import processors as x
from hvo.steps import raw_errors as e
from hvo.steps.vocabulary import Lock

_SPINNING = 1 << LOCKS.index(Lock.PAGE_TABLE) | 1 << LOCKS.index(Lock.HUGETLB)
_LOOKED_AT = (LOCKS.index(Lock.PAGE_TABLE), LOCKS.index(Lock.HUGETLB), SECTIONS)
"""What stopping CPUs looks at."""
_ERRORS = 98
FAULTS, RELEASED, ERRORS, BROKEN = 2, 1, 3, 4
"""Places in a state's `extra`: whether accesses may wait, huge pages released, pfns that a record
of errors has, and all that broke.
"""


def _extra(world: World, place: int, value: int) -> None:
    world.extra = (*world.extra[:place], value, *world.extra[place + 1 :])


# -- huge pages leave the pool --


@ready(p.PutFree)
def _ready_put_free(model: Model, step: p.PutFree) -> Operation:
    return Operation(step, _nothing, ())


def _nothing(world: World, actor: int, phase: int) -> Result:
    """Nothing that anybody here could see."""
    return None


@ready(f.FreeFolio)
def _ready_free_folio(model: Model, step: f.FreeFolio) -> Operation:
    return Operation(step, _free_folio, (_head(step),), bool)


def _head(step: f.FreeFolio) -> int:
    heads = step.heads
    return int(heads if isinstance(heads, int) else heads.ravel()[0] if heads.ndim else heads)


def _free_folio(world: World, actor: int, phase: int, head: int) -> Result:
    """The allocator takes a huge page whose tails lead to it, and unlinks each; an error that is
    still in the record is lost.
    """
    model = world.model
    number = head // (1 << model.geometry.order)
    world.touched.append((LOCK, _ERRORS, 1))
    first, end = _pages_of(model, head)
    if any(
        world.extra[BROKEN] >> pfn & 1 and not _holds(world, pfn, "hwpoison")
        for pfn in range(first, end)
    ):
        world.note(
            "poison-freed",
            f"the huge page at pfn {head} is freed with an error that no page is marked for",
        )
    if _holds(world, head, "hugetlb"):
        world.note(
            "leak",
            f"the allocator refuses the huge page at pfn {head}: it still has the HugeTLB mark (Bad"
            " page state)",
        )
        return 0
    for pfn in range(head + 1, head + model.geometry.used * STRUCTS):
        place = place_of(model, pfn, LINK)
        for frame in world.frames_of(
            place.page, write=True, what="the allocator, which takes the tails apart,"
        ):
            world.touched.append((STRUCT_PAGE, frame * STRUCTS + place.at // WORDS, 1))
            if world.contents[frame][place.at] != model.pages.link(head):
                world.note(
                    "leak",
                    f"the allocator refuses the huge page at pfn {head}: pfn {pfn} is no tail of it"
                    " (Bad page state)",
                )
                return 0
    _extra(world, RELEASED, world.extra[RELEASED] | 1 << number)
    return 1


def _holds(world: World, pfn: int, name: str) -> bool:
    """Whether `field` of the struct page of `pfn` is set, wherever a translation leads."""
    place, field = field_of(world.model, pfn, name)
    return any(
        decode(field, world.contents[frame][place.at])
        for frame in world.frames_of(place.page, write=False, what="the allocator")
    )


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
        raise world.fault(
            "access-freed", f"frame {frame}, which vanished with its memory block, is written"
        )
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


@ready(h.AddMemory)
def _ready_add(model: Model, step: h.AddMemory) -> Operation:
    return Operation(step, _nothing, ())


@ready(h.AllocateBlock)
def _ready_allocate_block(model: Model, step: h.AllocateBlock) -> Operation:
    """No block of frames is free here: what can be mapped by pages then is."""
    return Operation(step, _nothing, ())


@ready(h.FreeBlock)
def _ready_free_block(model: Model, step: h.FreeBlock) -> Operation:
    return Operation(step, _free_block, (int(step.pfn), 1 << step.order))


def _free_block(world: World, actor: int, phase: int, first: int, count: int) -> Result:
    for frame in range(first, first + count):
        world.free(frame)
    world.counters = (world.counters[0], world.counters[1] - count, *world.counters[2:])
    return None


# -- other CPUs --


@ready(x.StopCpus)
def _ready_stop(model: Model, step: x.StopCpus) -> Operation:
    return Operation(step, _stop, (step.preemptible, STOPPED | OPEN * step.interrupts))


def _stop(world: World, actor: int, phase: int, preemptible: bool, bits: int) -> Result:
    """Once every other CPU takes the interrupt, and, where it must be preemptible, holds no spin
    lock and is in no read-side section.
    """
    world.touched += [(WHOLE, 0, 1), *((LOCK, what, 0) for what in _LOOKED_AT)]
    order(world, actor)
    others = [record for other, record in enumerate(world.actors) if other != actor]
    if any(record[HELD] & MASKED for record in others):
        return WAIT
    if preemptible and any(record[HELD] & _SPINNING or record[SECTION] for record in others):
        return WAIT
    change(world, actor, HELD, world.actors[actor][HELD] | bits)
    return None


@ready(x.ResumeCpus)
def _ready_resume(model: Model, step: x.ResumeCpus) -> Operation:
    return Operation(step, _resume, ())


def _resume(world: World, actor: int, phase: int) -> Result:
    world.touched.append((WHOLE, 0, 1))
    change(world, actor, HELD, world.actors[actor][HELD] & ~(STOPPED | OPEN))
    order(world, actor)
    return None


@ready(x.CompareExchangeEntry)
def _ready_exchange(model: Model, step: x.CompareExchangeEntry) -> Operation:
    return Operation(
        step, _exchange, (int(step.location), int(step.expected), int(step.value), step.level), bool
    )


def _exchange(
    world: World, actor: int, phase: int, location: int, expected: int, value: int, level: int
) -> Result:
    """Compare and swap, with what a walker may have made of the entry."""
    world.touched.append((PHYSICAL, location, 1))
    frame, index = location // PAGE, location % PAGE // 8
    world.walk_on_a_guess(frame, index, level)
    if world.contents[frame][index] != expected:
        return 0
    order(world, actor)
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


@ready(e.AddRawError)
def _ready_add_error(model: Model, step: e.AddRawError) -> Operation:
    return Operation(step, _add_error, (step.pfn,))


def _add_error(world: World, actor: int, phase: int, pfn: int) -> Result:
    world.touched.append((LOCK, _ERRORS, 1))
    _extra(world, ERRORS, world.extra[ERRORS] | 1 << pfn)
    _extra(world, BROKEN, world.extra[BROKEN] | 1 << pfn)
    return None


@ready(e.TakeRawErrors)
def _ready_take_errors(model: Model, step: e.TakeRawErrors) -> Operation:
    return Operation(step, _take_errors, _pages_of(model, step.head))


def _pages_of(model: Model, head: int) -> tuple[int, int]:
    return head, head + (1 << model.geometry.order)


def _take_errors(world: World, actor: int, phase: int, first: int, end: int) -> Result:
    world.touched.append((LOCK, _ERRORS, 1))
    found = tuple(pfn for pfn in range(first, end) if world.extra[ERRORS] >> pfn & 1)
    _extra(world, ERRORS, world.extra[ERRORS] & ~sum(1 << pfn for pfn in found))
    return found
