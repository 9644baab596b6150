"""What steps of a run touch that other pages of it might touch as well."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hvo.machine.batch.conflicts import Access, Lanes
from hvo.memory.interface import Words
from hvo.steps.base import Step
from hvo.steps.entries import (
    CompareExchangeEntry,
    Entry,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    RemapEntries,
    RestoreEntries,
    WriteEntry,
    WritePointer,
)
from hvo.steps.struct_pages import FreezeCount, IncrementUnlessZero, LoadPage, StorePage, TestPage
from hvo.world.state import World

PAGE_STEPS = (TestPage, LoadPage, StorePage, IncrementUnlessZero, FreezeCount)
_READS = (ReadEntry, ReadPointer, TestPage, LoadPage)


def place_of(world: World, step: Step[object], lanes: Lanes) -> Words | None:
    """The word that each page reads or changes in `step`, where it is one that another page might
    touch.
    """
    if isinstance(step, ReadEntry | ReadPointer | PublishPointer | CompareExchangeEntry):
        return _one_each(step.location, lanes)
    if isinstance(step, PAGE_STEPS):
        name = "refcount" if isinstance(step, FreezeCount) else step.field
        place = world.field_location(step.pfn, name, write=isinstance(step, StorePage))
        return _one_each(place, lanes)
    return None


def access_of(step: Step[object], place: Words | None, lanes: Lanes) -> Access | None:
    """What `step`, whose word is at `place`, touched."""
    if place is not None:
        return Access(place, 8, lanes, not isinstance(step, _READS))
    if isinstance(step, WriteEntry | WritePointer):
        return Access(_one_each(step.location, lanes), 8, lanes, write=True)
    if isinstance(step, RemapEntries | RestoreEntries):
        starts = np.ascontiguousarray(step.locations[:, 0])
        return Access(starts, 8 * step.locations.shape[1], lanes, write=True)
    return None


def _one_each(value: object, lanes: Lanes) -> Words:
    return np.broadcast_to(np.asarray(value, np.uint64), lanes.shape)


def select(result: Any, pages: NDArray[np.bool_]) -> Any:
    """What the chosen pages received."""
    if isinstance(result, Entry):
        return Entry(result.kind, select(result.value, pages))
    if isinstance(result, np.ndarray):
        values = cast("NDArray[Any]", result)
        return values[pages] if values.ndim and len(values) == len(pages) else values
    return result


def first_of_each(points: Words) -> NDArray[np.bool_]:
    """For each value the first place where it stands."""
    steps = points[1:] != points[:-1]
    if (points[1:] >= points[:-1]).all():
        return np.concatenate([np.ones(min(1, points.size), np.bool_), steps])
    out = np.zeros(points.shape, np.bool_)
    out[np.unique(points, return_index=True)[1]] = True
    return out
