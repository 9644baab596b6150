"""Random blocks of steps for a `ForEach`, and a world so small that thousands of them run.

The world has 1024 page frames, half of them movable. Eight of its vmemmap pages take part: pages 4
to 7 share one frame, 5 read-only and 6 writable. Programs work on six words that entries are read
from and six kernel variables, on fields of struct pages, on the entries that map these eight pages,
on frames that they allocated, on the actor's list, huge pages, counters, locks and flushes.

What a program uses is a constant, made of its page, or of an earlier result; so pages meet on the
same words in all ways. It keeps to what the array executor asks of protocols: it branches on None,
bool and EntryKind only, writes frames only that it has allocated, and frees those only.
"""

import copy
from collections.abc import Callable, Iterator
from hashlib import sha256
from math import prod
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from hvo.kernel.buddy import Zone
from hvo.kernel.hugetlb import HugetlbPool
from hvo.kernel.struct_page import ERA_LAYOUT
from hvo.kernel.zones import Zones
from hvo.memory.simulated import SimulatedMemory
from hvo.mmu.formats import format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.walk import entry_locations
from hvo.protocol import (
    Acquire,
    AllocateFolio,
    AllocateFrame,
    AllocateFrames,
    AwaitInvalidation,
    CompareExchangeEntry,
    CopyFrame,
    CopyTailWords,
    CopyWords,
    Count,
    Counter,
    EnterReadSection,
    EntryKind,
    FillTable,
    FillTail,
    FillTails,
    Flush,
    FlushAll,
    ForEach,
    FreeFolio,
    FreeFrame,
    FreeVmemmapPageList,
    FreezeCount,
    IncrementUnlessZero,
    Invalidate,
    InvalidateAll,
    LeaveReadSection,
    ListAdd,
    ListEmpty,
    ListPop,
    LoadPage,
    Locate,
    Lock,
    PublishPointer,
    PutFree,
    ReadBarrier,
    ReadEntry,
    ReadPointer,
    Release,
    RemapEntries,
    RestoreEntries,
    Steps,
    StorePage,
    StoreTableEntry,
    SynchronizeReaders,
    TestPage,
    WriteBarrier,
    WriteEntry,
    WritePointer,
)
from hvo.vmemmap.context import Vmemmap
from hvo.vmemmap.era import era
from hvo.world.state import World

PAGE, FRAMES, STRUCTS = 4096, 1024, 64
BASE = 0xFFFF_EA00_0000_0000
ROOT, WORDS, VARIABLES, FIRST = 0x1000, 0x10000, 0x10800, 32
"""Physical addresses of the top table, of the words and of the variables; the first frame that
holds struct pages.
"""
FORMAT = format_for("x86_64", PAGE, 48)
SLOTS, MAPPED = 6, 8
"""Words and variables; vmemmap pages that programs touch."""
FIELDS = ("refcount", "dcache_clean", "hwpoison", "private")
LOCKS = (Lock.PAGE_TABLE, Lock.MMAP_READ, Lock.HUGETLB)
SIZE, ORDER = 64 * PAGE, 6
VALUES = np.array(
    [
        0,
        FORMAT.make_leaf(FIRST * PAGE, 0),
        FORMAT.make_leaf((FIRST + 1) * PAGE, 0, writable=False),
        FORMAT.make_leaf((FIRST + 4) * PAGE, 0),
        FORMAT.make_leaf((FIRST + 5) * PAGE, 0),
    ],
    np.uint64,
)
"""Entries that programs write."""


def _zero(pfn: Any, *_: Any) -> Any:
    return np.asarray(pfn) * 0


def _tail_slot(*_: Any) -> np.uint64:
    return np.uint64(VARIABLES)


def new_world() -> World:
    """The world that every program begins with."""
    memory = SimulatedMemory(PAGE, [(0, FRAMES * PAGE)])
    tables = iter(range(2, 16))

    def allocate(count: int) -> Any:
        return np.array([next(tables) * PAGE for _ in range(count)], np.uint64)

    vmemmap = Vmemmap(FORMAT, PAGE, BASE, 64, era("7.1"), _zero, _zero, _tail_slot)
    size = FRAMES // STRUCTS * PAGE
    map_range(memory, FORMAT, ROOT, BASE, FIRST * PAGE, size, 0, allocate)
    zones = Zones([Zone(0, "Normal", 64, 512), Zone(0, "Movable", 512, FRAMES, movable=True)])
    world = World(memory, ROOT, vmemmap, zones, ERA_LAYOUT["7.1"])
    world.pools[SIZE] = HugetlbPool(SIZE, ORDER, (0,))
    rows = np.tile(world.layout.free_row(0, 0), FRAMES).reshape(-1, 512)
    rows[:, world.layout.fields["refcount"].word :: 8] += np.uint64(1 << 32)
    memory.write_frames(np.arange(FIRST, FIRST + rows.shape[0]), rows)
    words = np.arange(SLOTS, dtype=np.uint64)
    memory.write_words(WORDS + words * np.uint64(8), VALUES[words % np.uint64(len(VALUES))])
    memory.write_words(VARIABLES + words * np.uint64(8), words % np.uint64(3))
    shared = [FORMAT.make_leaf((FIRST + 4) * PAGE, 0, writable=n != 1) for n in range(4)]
    memory.write_words(ptes(np.arange(4, 8), memory), np.array(shared, np.uint64))
    return world


def ptes(pages: Any, memory: Any = None) -> Any:
    """Where the entries of vmemmap pages lie."""
    global _PTES
    if memory is not None:
        address = np.uint64(BASE) + np.arange(16, dtype=np.uint64) * np.uint64(PAGE)
        _PTES = entry_locations(memory, FORMAT, ROOT, address, 0)
    return _PTES[np.asarray(pages)]


_PTES: Any = None
_TEMPLATE = new_world()


# -- programs --


class Op(NamedTuple):
    """One instruction: a name, what it uses (kind, number), and a small number that varies it."""

    name: str
    use: tuple[str, int]
    other: tuple[str, int]
    vary: int


class Program(NamedTuple):
    """A block, for how many pages, how many allocations go well (None: all), and whether the first
    page that returns an error is the last.
    """

    ops: tuple[Op, ...]
    pages: int
    refuse_after: int | None
    stops: bool
    reversed: bool


class Page:
    """What one run of a block knows: its page (or pages), results, and frames of its own."""

    def __init__(self, item: Any) -> None:
        self.item = np.asarray(item, np.int64)
        self.results: list[Any] = [self.item]
        self.frames: list[Any] = []
        self.folios: list[Any] = []
        self.locks: list[Lock] = []

    def value(self, use: tuple[str, int]) -> Any:
        """The number that an instruction uses."""
        kind, number = use
        if kind == "constant":
            return np.int64(number)
        if kind == "result":
            return self.results[-1 - number % len(self.results)]
        if kind == "half":
            return self.item // 2 + number
        return self.item + number if kind == "item" else 7 - self.item + number

    def note(self, value: Any) -> None:
        """A result that later instructions may use."""
        self.results.append(np.asarray(value).astype(np.int64) & 15)


INSTRUCTIONS: dict[str, Callable[[Page, Op], Steps[Any]]] = {}


def instruction(function: Callable[[Page, Op], Steps[Any]]) -> Callable[[Page, Op], Steps[Any]]:
    """One more that programs may have."""
    INSTRUCTIONS[function.__name__] = function
    return function


def block_of(program: Program) -> Any:
    """The block."""

    def block(item: Any) -> Steps[Any]:
        page = Page(item)
        for op in program.ops:
            code = yield from INSTRUCTIONS[op.name](page, op)
            if code is not None:
                break
        for lock in page.locks:
            yield Release(lock)
        return np.int64(0) if code is None else code

    return block


def _word(page: Page, use: tuple[str, int], base: int = WORDS) -> Any:
    return (np.uint64(base) + (page.value(use) % SLOTS * 8).astype(np.uint64)).astype(np.uint64)


def _entry(page: Page, use: tuple[str, int]) -> Any:
    return VALUES[page.value(use) % len(VALUES)]


def _pfn(page: Page, use: tuple[str, int], vary: int) -> Any:
    return page.value(use) % MAPPED * STRUCTS + vary % 2


def _address(page: Page, use: tuple[str, int]) -> Any:
    pages = (page.value(use) % MAPPED).astype(np.uint64)
    return np.uint64(BASE) + pages * np.uint64(PAGE)


@instruction
def read_entry(page: Page, op: Op) -> Steps[Any]:
    entry = yield ReadEntry(_word(page, op.use), 0)
    page.note(np.asarray(entry.value, np.uint64) >> np.uint64(12))
    return np.int64(op.vary) if entry.kind is EntryKind.NONE and op.vary > 3 else None


@instruction
def write_entry(page: Page, op: Op) -> Steps[Any]:
    yield WriteEntry(_word(page, op.use), _entry(page, op.other), 0, np.uint64(BASE))


@instruction
def exchange_entry(page: Page, op: Op) -> Steps[Any]:
    location, expected = _word(page, op.use), VALUES[op.vary % len(VALUES)]
    done = yield CompareExchangeEntry(location, expected, _entry(page, op.other), 0, BASE)
    page.note(np.int64(bool(done)))


@instruction
def read_pointer(page: Page, op: Op) -> Steps[Any]:
    value = yield ReadPointer(_word(page, op.use, VARIABLES))
    page.note(np.int64(9) if value is None else value)


@instruction
def write_pointer(page: Page, op: Op) -> Steps[Any]:
    yield WritePointer(_word(page, op.use, VARIABLES), page.value(op.other) % 4)


@instruction
def publish_pointer(page: Page, op: Op) -> Steps[Any]:
    found = yield PublishPointer(_word(page, op.use, VARIABLES), page.value(op.other) % 3 + 1)
    page.note(np.int64(7) if found is None else found)


@instruction
def load(page: Page, op: Op) -> Steps[Any]:
    page.note((yield LoadPage(_pfn(page, op.use, op.vary), FIELDS[op.vary % len(FIELDS)])))


@instruction
def store(page: Page, op: Op) -> Steps[Any]:
    value = (page.value(op.other) % 3).astype(np.uint64)
    field = FIELDS[op.vary % len(FIELDS)]
    yield StorePage(_pfn(page, op.use, op.vary), field, value & np.uint64(1 if op.vary % 4 else 3))


@instruction
def test(page: Page, op: Op) -> Steps[Any]:
    set_ = yield TestPage(_pfn(page, op.use, op.vary), FIELDS[op.vary % len(FIELDS)])
    return np.int64(0) if set_ and op.vary > 3 else None


@instruction
def increment(page: Page, op: Op) -> Steps[Any]:
    page.note(np.int64(bool((yield IncrementUnlessZero(_pfn(page, op.use, op.vary), "refcount")))))


@instruction
def freeze(page: Page, op: Op) -> Steps[Any]:
    page.note(np.int64(bool((yield FreezeCount(_pfn(page, op.use, op.vary), 1 + op.vary % 2)))))


@instruction
def remap(page: Page, op: Op) -> Steps[Any]:
    """Another translation of a vmemmap page."""
    location = ptes(page.value(op.use) % MAPPED)
    yield WriteEntry(location, VALUES[1:][page.value(op.other) % 4], 0, _address(page, op.use))


def _pair(page: Page, op: Op) -> Any:
    first = page.value(op.use) % (MAPPED // 2) * 2 + page.item * 0  # locations have a page axis
    return ptes(first[..., None] + np.arange(2))


@instruction
def remap_both(page: Page, op: Op) -> Steps[Any]:
    values = np.broadcast_to(VALUES[1:][page.value(op.other) % 4][..., None], _pair(page, op).shape)
    old = yield RemapEntries(_pair(page, op), values, np.uint64(BASE), PAGE)
    page.note((np.asarray(old)[..., 0] >> np.uint64(12)).astype(np.int64))


@instruction
def restore(page: Page, op: Op) -> Steps[Any]:
    """Frames of its own for two vmemmap pages, which it gives away with that."""
    if len(page.frames) < 2:
        return
    frames = np.stack([page.frames.pop(), page.frames.pop()], axis=-1)
    values = FORMAT.make_leaf(frames.astype(np.uint64) * np.uint64(PAGE), 0)
    locations = np.broadcast_to(_pair(page, op), frames.shape)
    source = None if op.vary % 2 else _address(page, op.other)
    address = np.uint64(BASE) + (page.value(op.use) % 4 * 2 * PAGE).astype(np.uint64)
    yield RestoreEntries(locations, frames, values, source, address, PAGE, STRUCTS, op.vary > 3)


@instruction
def allocate(page: Page, op: Op) -> Steps[Any]:
    pfn = yield AllocateFrame(np.int64(0), memmap=op.vary % 2 == 0)
    if pfn is None:
        return np.int64(-12) if op.vary < 4 else None
    page.frames.append(np.asarray(pfn, np.int64))
    if op.vary == 5:
        page.note(pfn)


@instruction
def allocate_two(page: Page, op: Op) -> Steps[Any]:
    pfns = yield AllocateFrames(2, np.int64(0), memmap=op.vary % 2 == 0)
    if pfns is None:
        return np.int64(-12)
    page.frames += [pfns[..., 0], pfns[..., 1]]


@instruction
def free(page: Page, op: Op) -> Steps[Any]:
    if page.frames:
        at = op.vary % len(page.frames)
        yield FreeFrame(page.frames.pop(at), memmap=op.vary > 0)


@instruction
def list_add(page: Page, op: Op) -> Steps[Any]:
    count = min(1 + op.vary % 2, len(page.frames))
    if count:
        yield ListAdd(np.stack([page.frames.pop() for _ in range(count)], axis=-1))


@instruction
def list_free(page: Page, op: Op) -> Steps[Any]:
    yield FreeVmemmapPageList()


@instruction
def list_empty(page: Page, op: Op) -> Steps[Any]:
    page.note(np.int64(bool((yield ListEmpty()))))


@instruction
def list_pop(page: Page, op: Op) -> Steps[Any]:
    if not (yield ListEmpty()):
        pfns = yield ListPop(1)
        page.frames.append(np.asarray(pfns)[..., 0])


@instruction
def copy_frame(page: Page, op: Op) -> Steps[Any]:
    if page.frames:
        yield CopyFrame(_address(page, op.use), page.frames[-1], STRUCTS)


@instruction
def copy_words(page: Page, op: Op) -> Steps[Any]:
    if page.frames:
        yield CopyWords(_address(page, op.use), page.frames[-1], op.vary)


@instruction
def copy_tail(page: Page, op: Op) -> Steps[Any]:
    if page.frames:
        yield CopyTailWords(page.frames[-1], op.vary + 1, op.vary)


@instruction
def fill_tail(page: Page, op: Op) -> Steps[Any]:
    if page.frames:
        yield FillTail(page.frames[-1], page.value(op.use) % 16, 6, op.vary)


@instruction
def fill_tails(page: Page, op: Op) -> Steps[Any]:
    if page.frames:
        yield FillTails(page.frames[-1], page.value(op.use) % 16, 6, STRUCTS)


@instruction
def fill_table(page: Page, op: Op) -> Steps[Any]:
    if page.frames and not op.vary:  # 512 steps one by one
        values = _entry(page, op.use)[..., None] + np.zeros(512, np.uint64)
        shape = (*page.frames[-1].shape, 512)
        yield FillTable(page.frames[-1], np.broadcast_to(values, shape))


@instruction
def table_entry(page: Page, op: Op) -> Steps[Any]:
    if page.frames:
        yield StoreTableEntry(page.frames[-1], op.vary, _entry(page, op.use))


@instruction
def count(page: Page, op: Op) -> Steps[Any]:
    yield Count(tuple(Counter)[op.vary % 3], 1 if op.vary < 3 else -1)


@instruction
def lock(page: Page, op: Op) -> Steps[Any]:
    lock = LOCKS[op.vary % len(LOCKS)]
    if lock not in page.locks:
        page.locks.append(lock)
        yield Acquire(lock)


@instruction
def unlock(page: Page, op: Op) -> Steps[Any]:
    if page.locks:
        yield Release(page.locks.pop())


@instruction
def flush(page: Page, op: Op) -> Steps[Any]:
    start = _address(page, op.use)
    end = start + np.uint64(PAGE)
    yield (Invalidate(start, end), InvalidateAll(), Flush(start, end), FlushAll())[op.vary % 4]


@instruction
def wait(page: Page, op: Op) -> Steps[Any]:
    steps = AwaitInvalidation, SynchronizeReaders, WriteBarrier, ReadBarrier
    yield (*steps, EnterReadSection, LeaveReadSection)[op.vary]()


@instruction
def allocate_folio(page: Page, op: Op) -> Steps[Any]:
    head = yield AllocateFolio(ORDER, np.int64(0))
    if head is None:
        return np.int64(-12)
    page.folios.append(np.asarray(head, np.int64))


@instruction
def free_folio(page: Page, op: Op) -> Steps[Any]:
    if page.folios:
        page.note(np.int64(bool((yield FreeFolio(page.folios.pop(), ORDER)))))


@instruction
def pool(page: Page, op: Op) -> Steps[Any]:
    if page.folios:
        yield PutFree(SIZE, page.folios.pop(), op.vary % 2 == 0)


@instruction
def locate(page: Page, op: Op) -> Steps[Any]:
    page.note(np.asarray((yield Locate(_address(page, op.use), 0))) >> np.uint64(3))


@instruction
def return_code(page: Page, op: Op) -> Steps[Any]:
    yield WriteBarrier()
    return page.value(op.use) % 3 - 1


@instruction
def return_if_odd(page: Page, op: Op) -> Steps[Any]:
    """One answer for every page of a run, as a branch needs it."""
    if (yield TestPage(_pfn(page, op.use, op.vary), "dcache_clean")):
        return np.int64(op.vary - 3)
    return None


@instruction
def nested(page: Page, op: Op) -> Steps[Any]:
    """A block within the block."""

    def inner(item: Any) -> Steps[Any]:
        yield Count(Counter.MEMMAP, 1)
        yield WritePointer(np.uint64(VARIABLES) + np.uint64(8 * op.vary), item)
        return np.int64(0)

    yield ForEach(inner, np.arange(1 + op.vary % 3))


_KINDS = ("constant", "item", "back", "half", "result", "item")
_RADICES = (6, len(_KINDS), 6, len(_KINDS), 6)


def _op(name: str, number: int) -> Op:
    """An instruction whose parts are the digits of a number: one draw in place of five."""
    digits: list[int] = []
    for radix in _RADICES:
        number, digit = divmod(number, radix)
        digits.append(digit)
    return Op(name, (_KINDS[digits[1]], digits[2]), (_KINDS[digits[3]], digits[4]), digits[0])


_OPS = st.builds(_op, st.sampled_from(sorted(INSTRUCTIONS)), st.integers(0, prod(_RADICES) - 1))
PROGRAMS = st.builds(
    Program,
    st.lists(_OPS, min_size=1, max_size=8).map(tuple),
    st.integers(3, 7),
    st.one_of(st.none(), st.integers(0, 12)),
    st.booleans(),
    st.sampled_from((False, False, True)),
)


# -- running, and what is left behind --


def outcome(executor_type: Any, program: Program) -> tuple[Any, ...]:
    """Run a program in a world of its own -> everything that it left behind, with what it returned
    or raised.
    """
    world = copy.deepcopy(_TEMPLATE)
    world.zones.fail_after = program.refuse_after
    items = np.arange(program.pages, dtype=np.int64)
    step = ForEach(
        block_of(program),
        items[::-1].copy() if program.reversed else items,
        _failed if program.stops else None,
    )
    executor = executor_type(world)
    try:
        returned = executor.run(_only(step)).tolist()
    except Exception as error:  # whatever it is, both must raise it
        returned = f"{type(error).__name__}: {error}"
    return (returned, *left_behind(world), getattr(executor, "at_once", 0))


def _failed(result: int) -> bool:
    return result != 0


def _only(step: ForEach) -> Steps[Any]:
    return (yield step)


def left_behind(world: World) -> Iterator[tuple[str, Any]]:
    """Memory, allocator, counters, pools and lists."""
    everything = np.arange(FRAMES, dtype=np.int64)
    free = world.zones.is_free(everything)
    contents = world.memory.read_frames(everything[~free])
    yield "memory", sha256(contents.tobytes()).hexdigest()
    yield "queues", [zone.queued_frames().tolist() for zone in world.zones.zones]
    yield "blocks", [[part.tolist() for part in zone.free_blocks()] for zone in world.zones.zones]
    yield "left to refuse", world.zones.fail_after
    yield "counters", {name.value: count for name, count in world.counters.items() if count}
    yield "list", world.vmemmap_page_list.pages().tolist()
    pool = world.pools[SIZE]
    yield "pool", (pool.free[0].pages().tolist(), pool.surplus, pool.reserved)
    yield "lost", world.lost
    yield "locks", sorted(lock.value for lock in world.locks)
    yield "flushes", (world.costs.counts, world.synchronizations)
