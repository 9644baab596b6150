"""A plain search: every interleaving of two actors, breadth first, on a small real machine.

Each step of an actor is one primitive. Steps that touch only what the other actor never does (a
table that is not installed yet, the PTEs and the struct pages of the actor's own huge page) go
along with the step before. A state is the machine plus what each actor received.
"""

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvo.kernel.hugetlb import Stack
from hvo.machine.machine import Machine
from hvo.steps.base import Composite, Step, Steps
from hvo.steps.entries import Entry, FillTable, Locate, ReadEntry, WriteEntry
from hvo.steps.frames import Count, ListAdd, ListEmpty, ListPop
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    Invalidate,
    InvalidateAll,
    Lock,
    Release,
    SynchronizeReaders,
    WriteBarrier,
)
from hvo.steps.struct_pages import CopyFrame, FillTails, StorePage, TestPage
from hvo.world.handlers import perform

PRIVATE = (
    FillTable,
    FillTails,
    CopyFrame,
    StorePage,
    TestPage,
    Count,
    ListAdd,
    ListEmpty,
    ListPop,
    WriteBarrier,
    Locate,
    Invalidate,
    InvalidateAll,
    AwaitInvalidation,
    SynchronizeReaders,
)
SHARED_LOCKS = (Lock.MMAP_READ,)


def private(step: Step | None) -> bool:
    """Whether only the actor itself can tell that `step` happened."""
    return isinstance(step, PRIVATE) or (
        isinstance(step, ReadEntry | WriteEntry) and step.level == 0
    )


@dataclass
class Actor:
    """An actor by what it is and what it has received: that decides its next step."""

    make: Callable[[Machine], Steps]
    received: tuple[Any, ...] = ()

    def next(self, machine: Machine) -> Step | None:
        """The step it wants to do now; None at its end."""
        walk = visible(self.make(machine))
        step = next(walk, None)
        for result in self.received:
            try:
                step = walk.send(result)
            except StopIteration:
                return None
        return step


def visible(actor: Steps) -> Steps:
    """`actor` taken apart, but for composites that work on private memory."""
    result = None
    while True:
        try:
            step = actor.send(result)
        except StopIteration as stop:
            return stop.value
        apart = isinstance(step, Composite) and not isinstance(
            step, FillTable | FillTails | CopyFrame
        )
        result = (yield from visible(step.parts())) if apart else (yield step)


@dataclass
class State:
    """A machine in the middle, the actors, each one's list of frames, and who holds which lock."""

    machine: Machine
    actors: list[Actor]
    lists: list[Stack]
    held: dict[Lock, int]
    trace: list[tuple[int, str]]

    def moves(self) -> list[int]:
        """The actors that can go on."""
        return [i for i, actor in enumerate(self.actors) if self._enabled(actor.next(self.machine))]

    def _enabled(self, step: Step | None) -> bool:
        return step is not None and not (isinstance(step, Acquire) and step.lock in self.held)

    def after(self, i: int) -> "State":
        """The state after actor `i` did one visible step, and the private ones behind it."""
        new = copy.deepcopy(self, {id(actor.make): actor.make for actor in self.actors})
        new._step(i)
        while private(new.actors[i].next(new.machine)):
            new._step(i)
        return new

    def _step(self, i: int) -> None:
        actor, world = self.actors[i], self.machine.world
        step = actor.next(self.machine)
        world.vmemmap_page_list = self.lists[i]
        result = self._lock(step) if isinstance(step, Acquire | Release) else perform(world, step)
        self.trace.append((i, type(step).__name__))
        actor.received = (*actor.received, result)

    def _lock(self, step: Acquire | Release) -> None:
        if step.lock in SHARED_LOCKS:
            return
        if isinstance(step, Acquire):
            self.held[step.lock] = 1
        else:
            del self.held[step.lock]

    def key(self) -> tuple[Any, ...]:
        """What makes states equal."""
        memory, zones = self.machine.world.memory, self.machine.world.zones.zones
        words = memory.read_frames(self.machine.plain_frames)
        queues = tuple(tuple(zone.queued_frames()[:64].tolist()) for zone in zones)
        received = tuple(
            tuple(_plain(result) for result in actor.received) for actor in self.actors
        )
        return words.tobytes(), queues, received, tuple(sorted(lock.value for lock in self.held))


def _plain(result: Any) -> Any:
    if isinstance(result, Entry):
        return result.kind, int(result.value)
    return (
        tuple(result.tolist())
        if isinstance(result, np.ndarray) and result.ndim
        else None
        if result is None
        else int(result)
    )


def search(
    start: State, violated: Callable[[State, bool], str | None]
) -> tuple[str, list[tuple[int, str]]] | None:
    """The first violation by number of steps, with its trace; None when every interleaving is fine.

    `violated(state, at_end)` says what is wrong with a state.
    """
    queue, seen = deque([start]), {start.key()}
    while queue:
        state = queue.popleft()
        moves = state.moves()
        found = violated(state, not moves)
        if found:
            return found, state.trace
        for i in moves:
            new = state.after(i)
            if (key := new.key()) not in seen:
                seen.add(key)
                queue.append(new)
    return None
