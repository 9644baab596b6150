"""HugeTLB pools: folios that leave, and errors recorded on them."""

from hvo.check.effects.registry import Operation, Result, no_effect, place_of, ready
from hvo.check.effects.struct_pages import decode, field_of
from hvo.check.model.access import frames_of
from hvo.check.model.footprint import COUNTERS, RAW_ERRORS, WORDS_OF_FRAME
from hvo.check.model.geometry import STRUCTS
from hvo.check.model.pending import empty
from hvo.check.model.state import Model
from hvo.check.model.world import World
from hvo.kernel.struct_page import LINK
from hvo.steps.pool import AddRawError, FreeFolio, PutFree, TakeRawErrors


@ready(PutFree)
def _ready_put_free(model: Model, step: PutFree) -> Operation:
    return Operation(step, no_effect, ())


@ready(FreeFolio)
def _ready_free_folio(model: Model, step: FreeFolio) -> Operation:
    return Operation(step, _free_folio, (_head(step),), bool)


def _head(step: FreeFolio) -> int:
    heads = step.heads
    return int(heads if isinstance(heads, int) else heads.ravel()[0] if heads.ndim else heads)


def _free_folio(world: World, actor: int, phase: int, head: int) -> Result:
    """The allocator takes a huge page whose tails lead to it, and unlinks each; an error that is
    still in the record is lost.
    """
    model = world.model
    empty(world, actor)
    number = head // (1 << model.geometry.order)
    world.reads(RAW_ERRORS)
    first, end = _pages_of(model, head)
    if any(
        world.broken >> pfn & 1 and not _holds(world, pfn, "hwpoison") for pfn in range(first, end)
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
        for frame in frames_of(
            world, place.page, write=True, what="the allocator, which takes the tails apart,"
        ):
            world.changes(frame * WORDS_OF_FRAME + place.at)
            if world.contents[frame][place.at] != model.pages.link(head):
                world.note(
                    "leak",
                    f"the allocator refuses the huge page at pfn {head}: pfn {pfn} is no tail of it"
                    " (Bad page state)",
                )
                return 0
    world.adds_to(COUNTERS)
    world.released |= 1 << number
    return 1


def _holds(world: World, pfn: int, name: str) -> bool:
    """Whether `field` of the struct page of `pfn` is set, wherever a translation leads."""
    place, field = field_of(world.model, pfn, name)
    frames = frames_of(world, place.page, write=False, what="the allocator")
    for frame in frames:
        world.reads(frame * WORDS_OF_FRAME + place.at)
    return any(decode(field, world.contents[frame][place.at]) for frame in frames)


@ready(AddRawError)
def _ready_add_error(model: Model, step: AddRawError) -> Operation:
    return Operation(step, _add_error, (step.pfn,))


def _add_error(world: World, actor: int, phase: int, pfn: int) -> Result:
    world.changes(RAW_ERRORS)
    world.raw_errors |= 1 << pfn
    world.broken |= 1 << pfn
    return None


@ready(TakeRawErrors)
def _ready_take_errors(model: Model, step: TakeRawErrors) -> Operation:
    return Operation(step, _take_errors, _pages_of(model, int(step.head)))


def _pages_of(model: Model, head: int) -> tuple[int, int]:
    return head, head + (1 << model.geometry.order)


def _take_errors(world: World, actor: int, phase: int, first: int, end: int) -> Result:
    world.changes(RAW_ERRORS)
    found = tuple(pfn for pfn in range(first, end) if world.raw_errors >> pfn & 1)
    world.raw_errors &= ~sum(1 << pfn for pfn in found)
    return found
