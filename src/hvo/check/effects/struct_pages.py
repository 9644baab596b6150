"""Steps on struct pages, through the mapping of the vmemmap: any translation that may be in a TLB
is used.
"""

from typing import Any

from hvo.check.effects.registry import (
    WAIT,
    Again,
    Operation,
    Place,
    Result,
    as_word,
    place_of,
    ready,
)
from hvo.check.model.access import frames_of
from hvo.check.model.contents import check_contents, put_word
from hvo.check.model.footprint import COPY, FRAME, WORDS_OF_FRAME
from hvo.check.model.geometry import BASE, PAGE
from hvo.check.model.pending import before_other_store, empty, forwarded, hold_back
from hvo.check.model.state import ALLOCATED, KIND, PRIVATE, STATUS, STRUCT, Model
from hvo.check.model.store_buffer import order, store
from hvo.check.model.world import World
from hvo.kernel.struct_page import LINK, MAPPING, WORDS, Field
from hvo.mmu.shape import WORD
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


def field_of(model: Model, pfn: Any, name: str) -> tuple[Place, Field]:
    """Where the field `name` of the struct page of `pfn` is: its word, and its bits there."""
    field = model.pages.field(name)
    return place_of(model, int(pfn) + field.page, field.word), field


def decode(field: Field, word: int) -> int:
    """The value of `field` in the word that holds it."""
    value = (word & field.mask) >> field.shift
    return value if field.marks is None else int(value == field.marks[1])


def encode(field: Field, word: int, value: int) -> int:
    """`word` with `field` set to `value`."""
    raw = value if field.marks is None else field.marks[1 if value else 0]
    return word & (field.mask ^ WORD) | raw << field.shift & field.mask


# -- reads --


@ready(TestPage, LoadPage)
def _ready_load(model: Model, step: TestPage | LoadPage) -> Operation:
    test = isinstance(step, TestPage)
    if (
        step.field == "self_hosted"
    ):  # a flag of the frames that hold the struct pages; the struct pages of those are elsewhere
        return Operation(step, _self_hosted, (), bool)
    place, field = field_of(model, step.pfn, step.field)
    return Operation(
        step,
        _load,
        (place, field, test, f"a read of {step.field} of pfn {int(step.pfn)}"),
        bool if test else as_word,
    )


def _self_hosted(world: World, actor: int, phase: int) -> Result:
    return int(world.model.hosted)


def _load(
    world: World, actor: int, phase: int, place: Place, field: Field, test: bool, what: str
) -> Result:
    values: list[int] = []
    for frame in frames_of(world, place.page, write=False, what=what):
        world.reads(frame * WORDS_OF_FRAME + place.at)
        (word,) = forwarded(world, actor, frame, place.at, (world.contents[frame][place.at],))
        value = decode(field, word)
        value = int(value != 0) if test else value
        if value not in values:
            values.append(value)
    return values[world.choose(len(values))]


# -- writes --


@ready(StorePage)
def _ready_store(model: Model, step: StorePage) -> Operation:
    place, field = field_of(model, step.pfn, step.field)
    return Operation(
        step,
        _store,
        (place, field, int(step.value), f"a write of {step.field} of pfn {int(step.pfn)}"),
    )


def _store(
    world: World, actor: int, phase: int, place: Place, field: Field, value: int, what: str
) -> Result:
    frame = _written(world, place, what)
    raw = encode(field, 0, value)
    held = hold_back(world, actor, frame, place.at, (field.mask, raw))
    if held is None:
        return WAIT
    if not held:
        put_word(world, frame, place.at, encode(field, world.contents[frame][place.at], value))
    return None


def _written(world: World, place: Place, what: str) -> int:
    """The frame that a write reaches, one of those that it may reach."""
    frames = frames_of(world, place.page, write=True, what=what)
    frame = frames[world.choose(len(frames))]
    world.changes(frame * WORDS_OF_FRAME + place.at)
    return frame


def _put(world: World, place: Place, frame: int, value: int) -> None:
    """Store a word of a struct page that is not held back."""
    before_other_store(world, world.actor)
    put_word(world, frame, place.at, value)


@ready(LinkTail)
def _ready_link(model: Model, step: LinkTail) -> Operation:
    row = model.pages.tail(step.head)
    words = tuple((place_of(model, step.pfn, word), row[word]) for word in (LINK, MAPPING))
    return Operation(step, _store_words, (words, f"the link of pfn {step.pfn}"))


@ready(InitPage)
def _ready_init(model: Model, step: InitPage) -> Operation:
    words = tuple(
        (place_of(model, step.pfn, word), value)
        for word, value in enumerate(model.pages.ordinary())
    )
    return Operation(step, _store_words, (words, f"the struct page of pfn {step.pfn}"))


def _store_words(
    world: World, actor: int, phase: int, words: tuple[tuple[Place, int], ...], what: str
) -> Result:
    for place, value in words:
        _put(world, place, _written(world, place, what), value)
    return None


# -- locked operations: they write even when the compare fails --


@ready(IncrementUnlessZero)
def _ready_increment(model: Model, step: IncrementUnlessZero) -> Operation:
    place, field = field_of(model, step.pfn, step.field)
    return Operation(step, _increment, (place, field, f"a reference to pfn {int(step.pfn)}"), bool)


def _increment(
    world: World, actor: int, phase: int, place: Place, field: Field, what: str
) -> Result:
    """Read; unless 0, compare and swap with what was read, and begin again when it has changed
    (`atomic_add_unless`).
    """
    if not phase:
        value = _load(world, actor, 0, place, field, False, what)
        assert isinstance(value, int)
        return Again(value) if value else 0
    empty(world, actor)
    frame = _written(world, place, what)
    now = decode(field, world.contents[frame][place.at])
    if now != phase:
        return Again(now) if now else 0
    _put(world, place, frame, encode(field, world.contents[frame][place.at], now + 1))
    order(world, actor)
    return 1


@ready(FreezeCount)
def _ready_freeze(model: Model, step: FreezeCount) -> Operation:
    place, field = field_of(model, step.pfn, "refcount")
    return Operation(
        step, _freeze, (place, field, step.expected, f"the freeze of pfn {int(step.pfn)}"), bool
    )


def _freeze(
    world: World, actor: int, phase: int, place: Place, field: Field, expected: int, what: str
) -> Result:
    empty(world, actor)
    frame = _written(world, place, what)
    word = world.contents[frame][place.at]
    if decode(field, world.contents[frame][place.at]) != expected:
        return 0
    _put(world, place, frame, encode(field, word, 0))
    order(world, actor)
    return 1


@ready(DropReference)
def _ready_drop(model: Model, step: DropReference) -> Operation:
    return Operation(
        step, _drop, (*field_of(model, step.pfn, "refcount"), f"a reference to pfn {int(step.pfn)}")
    )


def _drop(world: World, actor: int, phase: int, place: Place, field: Field, what: str) -> Result:
    empty(world, actor)
    frame = _written(world, place, what)
    left = decode(field, world.contents[frame][place.at]) - 1
    _put(world, place, frame, encode(field, world.contents[frame][place.at], left))
    order(world, actor)
    return left


# -- copies, and frames that nobody reads yet --


@ready(CopyWords)
def _ready_copy(model: Model, step: CopyWords) -> Operation:
    return Operation(
        step,
        _copy,
        (Place((int(step.source) - BASE) // PAGE, step.index * WORDS), int(step.target)),
    )


def _copy(world: World, actor: int, phase: int, place: Place, target: int) -> Result:
    start = place.at
    found: dict[tuple[int, ...], int] = {}
    for frame in frames_of(world, place.page, write=False, what="a copy"):
        world.reads_words(frame, start, WORDS)
        row = world.contents[frame][start : start + WORDS]
        found.setdefault(forwarded(world, actor, frame, start, row), frame)
    words = list(found)[world.choose(len(found))]
    _fill(world, target, start // WORDS, words)
    world.changes(COPY + target)
    copy = (place.page, found[words], target, start // WORDS, 0)
    world.copies = tuple(sorted({copy, *(old for old in world.copies if old[:4] != copy[:4])}))
    return None


def _fill(world: World, target: int, index: int, words: tuple[int, ...]) -> None:
    world.reads(FRAME + target)
    if world.status[target] & STATUS not in (ALLOCATED, PRIVATE):
        raise world.fault(
            "access-freed", f"struct pages are written into frame {target}, which is free"
        )
    if world.status[target] & KIND != STRUCT:
        world.changes(FRAME + target)
        world.status[target] = world.status[target] & ~KIND | STRUCT
    world.changes_words(target, index * WORDS, WORDS)
    row = world.contents[target]
    world.fill(target, (*row[: index * WORDS], *words, *row[(index + 1) * WORDS :]))
    store(world, world.actor, target)
    check_contents(world, target)


@ready(CopyTailWords)
def _ready_copy_tail(model: Model, step: CopyTailWords) -> Operation:
    return Operation(step, _copy_tail, (int(step.target), step.source, step.index))


def _copy_tail(
    world: World, actor: int, phase: int, target: int, source: int, index: int
) -> Result:
    world.reads_words(target, source * WORDS, WORDS)
    _fill(world, target, index, world.contents[target][source * WORDS : (source + 1) * WORDS])
    return None


@ready(FillTail)
def _ready_fill_tail(model: Model, step: FillTail) -> Operation:
    return Operation(
        step, _fill_tail, (int(step.target), step.index, model.pages.tail(int(step.head)))
    )


def _fill_tail(
    world: World, actor: int, phase: int, target: int, index: int, words: tuple[int, ...]
) -> Result:
    _fill(world, target, index, words)
    return None
