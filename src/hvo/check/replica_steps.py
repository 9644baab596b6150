"""What each kind of step does to the bytes of the small machine: entries and struct pages at their
physical addresses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import numpy as np

from hvo.check.effects.struct_pages import decode, encode
from hvo.check.model.geometry import BASE, KERNEL_FRAME, PAGE, PUD_FRAME, ROW
from hvo.check.model.state import KIND, STRUCT, TABLE, Model, State
from hvo.check.search.replay import Done
from hvo.kernel.struct_page import LINK, MAPPING, WORDS
from hvo.memory.interface import Words
from hvo.memory.simulated import SimulatedMemory
from hvo.mmu.format import Format
from hvo.mmu.walk import path
from hvo.steps.base import Step, strided
from hvo.steps.entries import (
    CompareExchangeEntry,
    Entry,
    EntryKind,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    StoreTableEntry,
    WriteEntry,
    WritePointer,
)
from hvo.steps.frames import AllocateFrame, FreeBlock, FreeFrame
from hvo.steps.struct_pages import (
    CopyTailWords,
    CopyWords,
    DropReference,
    FillTail,
    FreezeCount,
    IncrementUnlessZero,
    LinkTail,
    LoadPage,
    StorePage,
    TestPage,
)

_SPACING = PAGE // ROW
"""Bytes from one word of a small struct page to the next: a word stands for this many."""


class TOLD(Enum):
    """`NOTHING`: memory does not tell the result of a step."""

    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, eq=False)
class Unknown(Step):
    """What an actor does that is done."""


class ByteMemory:
    """Simulated memory with the tables and struct pages of a small machine, reached as its format
    says.
    """

    def __init__(self, model: Model, start: State) -> None:
        self.model = model
        self.memory = SimulatedMemory(PAGE, [(0, len(start.status) * PAGE)])
        self.root = PUD_FRAME * PAGE
        for frame, number in enumerate(start.contents):
            table = start.status[frame] & KIND != STRUCT and frame != KERNEL_FRAME
            self._store(frame, model.rows[number], table=table)
        tail = model.rows[start.contents[KERNEL_FRAME]][0]
        self.put(KERNEL_FRAME * PAGE, max(tail - 1, 0))

    @property
    def format(self) -> Format:
        """How the entries are to be read."""
        return self.model.v.format

    def _store(self, frame: int, row: tuple[int, ...], *, table: bool) -> None:
        self.memory.write_words(
            self._places(frame, len(row), table=table), np.array(row, np.uint64)
        )

    def _places(self, frame: int, count: int, *, table: bool) -> Words:
        return strided(frame * PAGE, count, 8 if table else _SPACING)

    def words(self, frame: int, count: int, *, table: bool) -> Words:
        """The first `count` entries of a table, or words of struct pages."""
        return self.memory.read_words(self._places(frame, count, table=table))

    def get(self, location: int) -> int:
        """The word at a physical address."""
        return int(self.memory.read_words(np.array([location], np.uint64))[0])

    def put(self, location: int, value: int) -> None:
        """Store the word at a physical address."""
        self.memory.write_words(np.array([location], np.uint64), value)

    def frame_of(self, page: int) -> int | None:
        """The frame that the tables in memory map the vmemmap page `page` to now; the walker sets
        an access flag that it finds clear.
        """
        format = self.model.v.format
        found = path(self.memory, format, self.root, BASE + page * PAGE)[-1]
        if not format.is_leaf(found.entry, found.level):
            return None
        if self.model.hardware.hardware_access_flag:
            self.put(found.location, found.entry | format.accessed)
        return int(format.translate(found.entry, found.level, BASE + page * PAGE)) // PAGE

    def place(self, pfn: int, word: int, done: Done) -> int | None:
        """The physical address of `word` of the struct page of `pfn`, as mapped now.

        A write that came by an older translation lands in the frame that the checker says: the only
        one of the vmemmap that changed.
        """
        page, at = self.model.geometry.place(pfn, word)
        frame = self.frame_of(page)
        changed = [
            i
            for i, (a, b) in enumerate(zip(done.before.contents, done.after.contents, strict=True))
            if a != b
        ]
        changed = [i for i in changed if done.after.status[i] & KIND != TABLE]
        if changed and frame not in changed:
            frame = changed[0]
        return None if frame is None else frame * PAGE + at * _SPACING

    def may_be_stale(self, step: Step, done: Done) -> bool:
        """Whether what a step read may have come by a translation that memory does not show."""
        return isinstance(step, _THROUGH_THE_MAPPING) and bool(done.before.stale)


_THROUGH_THE_MAPPING = (
    TestPage,
    LoadPage,
    IncrementUnlessZero,
    FreezeCount,
    DropReference,
    CopyWords,
)
Effect: TypeAlias = Callable[[ByteMemory, Any, Done], Any]
EFFECTS: dict[type, Effect] = {}
"""What each kind of step does to memory -> its result, `TOLD.NOTHING` where memory does not tell
it; others do nothing.
"""


def _does(*kinds: type) -> Callable[[Effect], Effect]:
    def register(effect: Effect) -> Effect:
        EFFECTS.update(dict.fromkeys(kinds, effect))
        return effect

    return register


# -- entries and variables --


@_does(ReadEntry)
def _read_entry(memory: ByteMemory, step: ReadEntry, done: Done) -> Entry:
    value, format = memory.get(int(step.location)), memory.model.v.format
    leaf, table = format.is_leaf(value, step.level), format.is_table(value, step.level)
    return Entry(EntryKind.TABLE if table else EntryKind.LEAF if leaf else EntryKind.NONE, value)


@_does(WriteEntry)
def _write_entry(memory: ByteMemory, step: WriteEntry, done: Done) -> None:
    memory.put(int(step.location), int(step.value))


@_does(StoreTableEntry)
def _store_entry(memory: ByteMemory, step: StoreTableEntry, done: Done) -> None:
    memory.put(int(step.table) * PAGE + 8 * step.index, int(step.value))


@_does(CompareExchangeEntry)
def _exchange(memory: ByteMemory, step: CompareExchangeEntry, done: Done) -> bool:
    frame, index = int(step.location) // PAGE, int(step.location) % PAGE // 8
    now = memory.model.rows[done.after.contents[frame]][index]
    if now == int(step.expected) | memory.format.accessed and now != int(step.value):
        memory.put(int(step.location), now)  # a walker had set the flag meanwhile
    if memory.get(int(step.location)) != int(step.expected):
        return False
    memory.put(int(step.location), int(step.value))
    return True


@_does(ReadPointer)
def _read_pointer(memory: ByteMemory, step: ReadPointer, done: Done) -> int | None:
    return memory.get(int(step.location)) or None


@_does(WritePointer)
def _write_pointer(memory: ByteMemory, step: WritePointer, done: Done) -> None:
    memory.put(int(step.location), int(step.value))


@_does(PublishPointer)
def _publish(memory: ByteMemory, step: PublishPointer, done: Done) -> int | None:
    found = memory.get(int(step.location)) or None
    if found is None:
        memory.put(int(step.location), int(step.value))
    return found


@_does(AllocateFrame)
def _allocate(memory: ByteMemory, step: AllocateFrame, done: Done) -> TOLD:
    """Which frame it is the checker tells; it comes with what somebody left in there."""
    changed = zip(done.before.contents, done.after.contents, strict=True)
    for frame in [frame for frame, (old, new) in enumerate(changed) if old != new]:
        for spacing in (8, _SPACING):
            memory.memory.write_words(strided(frame * PAGE, ROW, spacing), memory.model.poison[0])
    return TOLD.NOTHING


@_does(FreeFrame, FreeBlock)
def _free(memory: ByteMemory, step: FreeFrame | FreeBlock, done: Done) -> None:
    count = 1 << step.order if isinstance(step, FreeBlock) else 1
    frames = np.arange(int(step.pfn), int(step.pfn) + count)
    memory.memory.forget(frames[frames < len(done.after.status)])


# -- struct pages, through the mapping --


@_does(TestPage, LoadPage)
def _load(memory: ByteMemory, step: TestPage | LoadPage, done: Done) -> Any:
    if step.field == "self_hosted":
        return TOLD.NOTHING
    field = memory.model.pages.field(step.field)
    place = memory.place(int(step.pfn) + field.page, field.word, done)
    if place is None:
        return TOLD.NOTHING
    value = decode(field, memory.get(place))
    return value != 0 if isinstance(step, TestPage) else value


def _change(
    memory: ByteMemory, pfn: int, name: str, done: Done, change: Callable[[int], int | None]
) -> int | None:
    """Replace the value of a field by what `change` makes of it (None: nothing) -> the new
    value.
    """
    field = memory.model.pages.field(name)
    place = memory.place(pfn + field.page, field.word, done)
    if place is None:
        return None
    word = memory.get(place)
    value = change(decode(field, word))
    if value is not None:
        memory.put(place, encode(field, word, value))
    return value


@_does(StorePage)
def _store_page(memory: ByteMemory, step: StorePage, done: Done) -> None:
    _change(memory, int(step.pfn), step.field, done, lambda _: int(step.value))


@_does(FreezeCount)
def _freeze(memory: ByteMemory, step: FreezeCount, done: Done) -> bool:
    return (
        _change(
            memory,
            int(step.pfn),
            "refcount",
            done,
            lambda count: 0 if count == step.expected else None,
        )
        is not None
    )


@_does(DropReference)
def _drop(memory: ByteMemory, step: DropReference, done: Done) -> int | None:
    return _change(memory, int(step.pfn), "refcount", done, lambda count: count - 1)


@_does(IncrementUnlessZero)
def _increment(memory: ByteMemory, step: IncrementUnlessZero, done: Done) -> Any:
    """The compare-and-swap only: what is read before it changes nothing, and is the checker's to
    tell.
    """
    if done.before.contents == done.after.contents:
        return TOLD.NOTHING
    return (
        _change(memory, int(step.pfn), step.field, done, lambda count: count + 1 if count else None)
        is not None
    )


@_does(LinkTail)
def _link(memory: ByteMemory, step: LinkTail, done: Done) -> None:
    row = memory.model.pages.tail(step.head)
    for word in (LINK, MAPPING):
        place = memory.place(step.pfn, word, done)
        if place is not None:
            memory.put(place, row[word])


# -- copies, into frames that nobody reads yet --


def _fill(memory: ByteMemory, target: int, index: int, words: Words) -> None:
    memory.memory.write_words(
        strided(target * PAGE + index * WORDS * _SPACING, WORDS, _SPACING), words
    )


@_does(CopyWords)
def _copy(memory: ByteMemory, step: CopyWords, done: Done) -> Any:
    """Through the mapping; where a TLB may still hold another translation, what the checker
    copied.
    """
    target, index = int(step.target), step.index
    frame = memory.frame_of((int(step.source) - BASE) // PAGE)
    if frame is not None:
        _fill(
            memory,
            target,
            index,
            memory.words(frame, (index + 1) * WORDS, table=False)[index * WORDS :],
        )
    if done.before.stale or frame is None:
        row = memory.model.rows[done.after.contents[target]]
        _fill(memory, target, index, np.array(row[index * WORDS : (index + 1) * WORDS], np.uint64))
    return None


@_does(CopyTailWords)
def _copy_tail(memory: ByteMemory, step: CopyTailWords, done: Done) -> None:
    words = memory.words(int(step.target), (step.source + 1) * WORDS, table=False)[
        step.source * WORDS :
    ]
    _fill(memory, int(step.target), step.index, words)


@_does(FillTail)
def _fill_tail(memory: ByteMemory, step: FillTail, done: Done) -> None:
    _fill(
        memory,
        int(step.target),
        step.index,
        np.array(memory.model.pages.tail(int(step.head)), np.uint64),
    )
