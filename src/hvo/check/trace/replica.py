"""A run on bytes: every step done again on a machine's memory, by the code that the machine runs
(`hvo.world`), and compared with the checker's.

The checker keeps what frames hold as numbered rows, and translations as sets. Here the same
interleaving runs on `SimulatedMemory`: entries are words at their locations, struct pages are
reached through a walk of the tables, and the generators go on from what is read there. Only what
memory cannot tell is taken from the checker: which frame the allocator gave, who waits, and what
came by a translation that a TLB still held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from hvo.check.model.geometry import KERNEL_FRAME, PAGE, PMD_FRAME, PUD_FRAME, ROW
from hvo.check.model.pending import Pending
from hvo.check.model.state import (
    ALLOCATED,
    BUFFER,
    KIND,
    NODE,
    PRIVATE,
    STATUS,
    STRUCT,
    TABLE,
    Model,
)
from hvo.check.search.replay import Done
from hvo.check.search.tree import Forest, single
from hvo.check.trace.rerun import Rerun
from hvo.errors import HvoError
from hvo.kernel.struct_page import WORDS
from hvo.kernel.zones import Zones
from hvo.memory.interface import Words
from hvo.memory.simulated import SimulatedMemory
from hvo.mmu.access import PageFault
from hvo.mmu.walk import path
from hvo.steps.base import Step, Steps, strided
from hvo.steps.entries import (
    CompareExchangeEntry,
    Entry,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    StoreTableEntry,
    WriteEntry,
    WritePointer,
)
from hvo.steps.frames import AllocateFrame, FreeBlock, FreeFrame
from hvo.steps.ordering import StoreVisible
from hvo.steps.struct_pages import (
    CopyTailWords,
    CopyWords,
    DropReference,
    FillTail,
    FreezeCount,
    IncrementUnlessZero,
    InitPage,
    LinkTail,
    LoadPage,
    StorePage,
    TestPage,
)
from hvo.world.handlers import perform
from hvo.world.state import World

_SPACING = PAGE // ROW
"""Bytes from one word of a small struct page to the next: a word stands for this many."""
IN_MEMORY = (
    ReadEntry,
    WriteEntry,
    CompareExchangeEntry,
    StoreTableEntry,
    ReadPointer,
    WritePointer,
    PublishPointer,
    TestPage,
    LoadPage,
    StorePage,
    IncrementUnlessZero,
    FreezeCount,
    DropReference,
    CopyWords,
    CopyTailWords,
    FillTail,
    LinkTail,
    InitPage,
)
"""The steps that memory tells the result of; the checker tells that of all others."""
_BY_TRANSLATION = (TestPage, LoadPage, IncrementUnlessZero, FreezeCount, DropReference, CopyWords)


class TOLD(Enum):
    """`NOTHING`: memory does not tell the result of a step."""

    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, eq=False)
class Unknown(Step[None]):
    """What an actor does that is done."""


class SmallWorld(World):
    """The state of the checker's small machine, in bytes.

    The walker sets an access flag that it finds clear, where the hardware does that; a write that
    came by an older translation lands in the frame that the checker says (`written`).
    """

    hardware_access_flag = False
    written: tuple[int, ...] = ()

    def translate(self, addresses: Words, *, write: bool = False) -> Words:
        """Physical addresses of `addresses`, which lie in one page; raises PageFault."""
        addresses = np.asarray(addresses, np.uint64)
        frame = self._frame_at(int(addresses.flat[0]))
        if write and self.written and frame not in self.written:
            frame = self.written[0]
        return self.in_frame(frame, 0) + addresses % np.uint64(PAGE)

    def _frame_at(self, address: int) -> int:
        f = self.vmemmap.format
        level, location, entry = path(self.memory, f, self.root, address)[-1]
        if not f.is_leaf(entry, level):
            raise PageFault("not-present", address, entry, level)
        if self.hardware_access_flag:
            self.put(location, entry | f.accessed)
        return int(f.translate(entry, level, address)) // PAGE

    def node_and_zone(self, pfn: int) -> tuple[int, int]:
        """The node and zone of `pfn`; no page allocator is here to ask."""
        return int(self.vmemmap.node_of(pfn)), int(self.vmemmap.zone_of(pfn))

    def get(self, location: int) -> int:
        """The word at a physical address."""
        return int(self.memory.read_words(np.array([location], np.uint64))[0])

    def put(self, location: int, value: int) -> None:
        """Store the word at a physical address."""
        self.memory.write_words(np.array([location], np.uint64), value)

    def words(self, frame: int, count: int, *, table: bool) -> Words:
        """The first `count` entries of a table, or words of struct pages."""
        return self.memory.read_words(_places(frame, count, table=table))

    def fill(self, frame: int, row: tuple[int, ...], first: int = 0, *, table: bool) -> None:
        """Store `row` in a frame, from entry or word `first` on."""
        places = _places(frame, first + len(row), table=table)[first:]
        self.memory.write_words(places, np.array(row, np.uint64))


def _places(frame: int, count: int, *, table: bool) -> Words:
    return strided(frame * PAGE, count, 8 if table else _SPACING)


def _world(run: Rerun) -> SmallWorld:
    """The state that `run` begins in."""
    model, start = run.forest.model, run.start
    memory = SimulatedMemory(PAGE, [(0, len(start.status) * PAGE)])
    layout = replace(model.pages.layout, stride=_SPACING)
    if model.v.struct_page_size & (model.v.struct_page_size - 1):
        layout = replace(layout, link="pointer")  # a mask works for powers of two only
    world = SmallWorld(memory, PUD_FRAME * PAGE, model.v, Zones([]), layout)
    world.hardware_access_flag = model.hardware.hardware_access_flag
    for frame, number in enumerate(start.contents):
        table = start.status[frame] & KIND != STRUCT and frame != KERNEL_FRAME
        world.fill(frame, model.rows[number], table=table)
    tail = model.rows[start.contents[KERNEL_FRAME]][0]
    world.put(KERNEL_FRAME * PAGE, max(tail - 1, 0))
    return world


class Replica:
    """The run's machine in bytes: `world`, and the actors that go on from what they read there;
    `taken` counts results that memory could not tell."""

    def __init__(self, run: Rerun) -> None:
        self._forest = run.forest
        self.model: Model = run.forest.model
        self.world = _world(run)
        self.taken = 0
        self._actors: list[Steps[object]] = [
            single(actor.act(self.model.v, self.model.geometry))
            for actor in run.case.scenario.actors
        ]
        self._steps: list[Step[object]] = [next(actor, Unknown()) for actor in self._actors]

    def do(self, done: Done) -> None:
        """Do one step of the run; raises HvoError when memory says something else than the checker
        did.
        """
        self._become_visible(done)
        if isinstance(done.step, StoreVisible):
            return
        step, outcomes = self._steps[done.lane], _outcomes(self._forest, done)
        told = outcomes[0] if outcomes else TOLD.NOTHING
        if told is TOLD.NOTHING and done.violated:
            return  # it ended in a fault
        result = self._perform(step, done)
        if told is TOLD.NOTHING:
            return  # a part of a step; the rest comes
        elsewhere = done.before.stale or done.before.actors[done.actor][BUFFER]
        stale = isinstance(step, _BY_TRANSLATION) and bool(elsewhere)
        if result is TOLD.NOTHING or (stale and not _same(result, told)):
            self.taken, result = self.taken + 1, told
        elif not _same(result, told):
            what = f"the bytes say {_plain(result)}, the checker said {_plain(told)}"
            raise HvoError(f"{type(step).__name__}: {what}: that is a defect of the checker")
        self.taken += len(outcomes) - 1
        for sent in (result, *outcomes[1:]):
            try:
                self._steps[done.lane] = self._actors[done.lane].send(sent)
            except StopIteration:
                self._steps[done.lane] = Unknown()

    def _perform(self, step: Step[object], done: Done) -> Any:
        """Do `step` in memory -> its result, `TOLD.NOTHING` where memory does not tell it."""
        if isinstance(step, StorePage) and _is_held_back(done):
            return None
        before = _BEFORE.get(type(step))
        if before is not None:
            before(self, step, done)
        if not isinstance(step, IN_MEMORY) or _only_looks(step, done):
            return TOLD.NOTHING
        self.world.written = tuple(
            frame for frame in _changed(done) if done.after.status[frame] & KIND != TABLE
        )
        try:
            result = perform(self.world, step)
        except PageFault:
            result = TOLD.NOTHING
        if isinstance(step, CopyWords) and (done.before.stale or result is TOLD.NOTHING):
            self._take_copy(step, done)
            return None
        return result

    def _become_visible(self, done: Done) -> None:
        """Stores that leave a store buffer reach memory."""
        for old, new in zip(done.before.actors, done.after.actors, strict=True):
            gone: set[Pending] = {*old[BUFFER]} - {*new[BUFFER]}
            for store in gone:
                if store.frame >= 0:
                    word = self._row(done, store.frame)[store.at]
                    self.world.fill(store.frame, (word,), store.at, table=False)

    def _take_copy(self, step: CopyWords, done: Done) -> None:
        """Where a TLB may still hold another translation, a copy is what the checker copied."""
        row, first = self._row(done, int(step.target)), step.index * WORDS
        self.world.fill(int(step.target), row[first : first + WORDS], first, table=False)

    def _row(self, done: Done, frame: int) -> tuple[int, ...]:
        return self.model.rows[done.after.contents[frame]]

    def walked(self, step: CompareExchangeEntry, done: Done) -> None:
        """A walker may have set the access flag of the entry before it is compared."""
        frame, offset = divmod(int(step.location), PAGE)
        now = self._row(done, frame)[offset // 8]
        flagged = int(step.expected) | self.world.vmemmap.format.accessed
        if now == flagged and now != int(step.value):
            self.world.put(int(step.location), now)

    def allocated(self, step: AllocateFrame, done: Done) -> None:
        """The frame that the checker gave comes with what somebody left in there."""
        for frame in _changed(done):
            for table in (True, False):
                self.world.fill(frame, self.model.poison[:1] * ROW, table=table)

    def freed(self, step: FreeFrame | FreeBlock, done: Done) -> None:
        """What frames held that are freed is gone."""
        count = 1 << step.order if isinstance(step, FreeBlock) else 1
        frames = np.arange(int(step.pfn), int(step.pfn) + count)
        self.world.memory.forget(frames[frames < len(done.after.status)])


_BEFORE: dict[type, Callable[[Replica, Any, Done], None]] = {
    CompareExchangeEntry: Replica.walked,
    AllocateFrame: Replica.allocated,
    FreeFrame: Replica.freed,
    FreeBlock: Replica.freed,
}
"""What the checker did of its own, to be done in memory before the step."""


def _is_held_back(done: Done) -> bool:
    """Whether a store went into the CPU's store buffer."""
    before, after = (state.actors[done.actor][BUFFER] for state in (done.before, done.after))
    return len(after) > len(before)


def _only_looks(step: Step[object], done: Done) -> bool:
    """The flag of self-hosted memory is nowhere in this memory, and of a locked increment the read
    before it is the checker's to tell.
    """
    if isinstance(step, IncrementUnlessZero):
        return done.before.contents == done.after.contents
    return isinstance(step, TestPage | LoadPage) and step.field == "self_hosted"


def _changed(done: Done) -> list[int]:
    """The frames whose contents the step changed."""
    both = zip(done.before.contents, done.after.contents, strict=True)
    return [frame for frame, (old, new) in enumerate(both) if old != new]


def _outcomes(forest: Forest, done: Done) -> tuple[Any, ...]:
    """What the actor was sent for the step, and for loads behind it that were done early; none when
    it did not go on to another.
    """
    before, after = (
        forest.nodes[state.actors[done.actor][NODE]] for state in (done.before, done.after)
    )
    return after.history[len(before.history) :]


def _plain(value: Any) -> Any:
    """Words and entries as plain numbers, to be compared."""
    value = value.value if isinstance(value, Entry) else value
    return value if value is None or isinstance(value, bool) else np.asarray(value).tolist()


def _same(one: Any, other: Any) -> bool:
    return _plain(one) == _plain(other)


def on_bytes(run: Rerun) -> Replica:
    """The whole run in bytes."""
    replica = Replica(run)
    for done in run.steps:
        replica.do(done)
    return replica


def differences(run: Rerun, replica: Replica) -> Iterator[str]:
    """Where the bytes end otherwise than the checker's last state: entries of live tables, and
    struct pages of live frames.
    """
    state, model = run.end, run.forest.model
    for frame, number in enumerate(state.contents):
        status, row = state.status[frame], model.rows[number]
        if status & STATUS not in (ALLOCATED, PRIVATE) or status & KIND not in (TABLE, STRUCT):
            continue
        table = status & KIND == TABLE
        count = model.geometry.leaf if table and frame not in (PMD_FRAME, PUD_FRAME) else ROW
        found = replica.world.words(frame, count, table=table)
        for index in np.flatnonzero(found != np.array(row[:count], np.uint64)).tolist():
            what = "entry" if table else "word"
            yield (
                f"frame {frame} {what} {index}: bytes {int(found[index]):#x}, checker"
                f" {row[index]:#x}"
            )
