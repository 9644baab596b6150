"""What steps on struct pages do to a machine, through the mapping of the vmemmap or in frames.

Frames that hold struct pages are copied and filled as templates (`hvo.memory.simulated`), so a
copied head costs two struct pages and not 4 KiB.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.struct_page import LINK, MAPPING, TAIL_MAPPING, WORDS
from hvo.kernel.zone_layout import zone_number
from hvo.memory.interface import Pfns, Words
from hvo.steps.base import Value, one_answer, strided
from hvo.steps.struct_pages import (
    CopyFrame,
    CopyTailWords,
    CopyWords,
    DropReference,
    FillTail,
    FillTails,
    FreezeCount,
    IncrementUnlessZero,
    InitPage,
    InitPages,
    LinkTail,
    LoadPage,
    PrepareCompound,
    StorePage,
    TestPage,
)
from hvo.world.state import Handlers, World

_AT_ONCE = 1 << 15

# -- fields --


def load_page(world: World, step: LoadPage) -> Words:
    """The field's values."""
    return world.load_at(world.field_location(step.pfn, step.field), step.field)


def test_page(world: World, step: TestPage) -> bool:
    """Whether they are not 0."""
    return one_answer(load_page(world, LoadPage(step.pfn, step.field)) != 0)


def store_page(world: World, step: StorePage) -> None:
    """Store the field."""
    place = world.field_location(step.pfn, step.field, write=True)
    world.store_at(place, step.field, step.value)


def increment_unless_zero(world: World, step: IncrementUnlessZero) -> bool:
    """A compare-and-swap of what was read, when that is not 0."""
    if not one_answer(load_page(world, LoadPage(step.pfn, step.field)) != 0):
        return False
    _add(world, step.pfn, step.field, 1)
    return True


def _add(world: World, pfn: Value, name: str, delta: int) -> Words:
    place = world.field_location(pfn, name, write=True)
    value = (world.load_at(place, name).astype(np.int64) + delta).astype(np.uint64)
    world.store_at(place, name, value)
    return value


def freeze_count(world: World, step: FreezeCount) -> bool:
    """A compare-and-swap, so a write whatever the count is."""
    place = world.field_location(step.pfn, "refcount", write=True)
    if not one_answer(world.load_at(place, "refcount") == step.expected):
        return False
    world.store_at(place, "refcount", 0)
    return True


def drop_reference(world: World, step: DropReference) -> int:
    """Count down."""
    return int(_add(world, step.pfn, "refcount", -1))


# -- copies, and frames that nobody reads yet --


def copy_frame(world: World, step: CopyFrame) -> None:
    """Copy frames as templates."""
    targets = np.atleast_1d(np.asarray(step.target, np.int64))
    sources = world.frame_of(np.atleast_1d(np.asarray(step.source, np.uint64)))
    world.memory.copy_frames(np.broadcast_to(sources, targets.shape), targets)


def copy_words(world: World, step: CopyWords) -> None:
    """Copy one struct page's words."""
    offset, words = _struct_page(world, step.index)
    source = world.translate(strided(np.uint64(step.source) + np.uint64(offset), words, 8))
    target = strided(world.in_frame(step.target, offset), words, 8)
    world.memory.write_words(target, world.memory.read_words(source))


def _struct_page(world: World, index: int) -> tuple[int, int]:
    """Where struct page number `index` begins in its frame, and how many 8-byte words it has."""
    size = WORDS * world.layout.stride
    return index * size, size // 8


def copy_tail_words(world: World, step: CopyTailWords) -> None:
    """Copy one struct page's words within the frame."""
    (source, words), (target, _) = _struct_page(world, step.source), _struct_page(world, step.index)
    row = world.memory.read_words(strided(world.in_frame(step.target, source), words, 8))
    world.memory.write_words(strided(world.in_frame(step.target, target), words, 8), row)


def tail_row(world: World, head: int) -> Words:
    """A struct page that is a tail in the zone of pfn `head`; its link is not filled in."""
    row = world.layout.free_row(*world.node_and_zone(head))
    row[MAPPING] = TAIL_MAPPING
    return row


def _links(world: World, heads: Value, order: int) -> Words:
    """What the tails of each of `heads` hold as link."""
    return world.layout.links(np.atleast_1d(world.vmemmap.address(heads)), order)


def fill_tails(world: World, step: FillTails) -> None:
    """Fill frames as templates."""
    targets = np.atleast_1d(np.asarray(step.target, np.int64))
    heads = np.broadcast_to(np.asarray(step.head), targets.shape)
    links = _links(world, heads, step.order)
    for head, target, link in zip(heads.tolist(), targets, links, strict=True):
        world.memory.fill_rows(np.array([target]), tail_row(world, head), np.array([link]))


def fill_tail(world: World, step: FillTail) -> None:
    """Fill one struct page of the frame."""
    row = tail_row(world, int(step.head))
    row[LINK] = _links(world, step.head, step.order)[0]
    place = world.in_frame(step.target, _struct_page(world, step.index)[0])
    world.memory.write_words(strided(place, row.size, world.layout.stride), row)


# -- compound pages --


def prepare_compound(world: World, step: PrepareCompound) -> None:
    """Write all tails, then what the heads know."""
    heads = np.atleast_1d(np.asarray(step.heads, np.int64))
    if world.transaction is not None:
        world.transaction.add(partial(clear_compound, world, heads, step.order))
    for piece in _pieces(heads):
        _set_tails(world, piece, step.order, _links(world, piece, step.order), TAIL_MAPPING)
        store_page(world, StorePage(piece, "head", 1))
        store_page(world, StorePage(piece, "order", step.order))


def clear_compound(world: World, heads: Pfns, order: int) -> None:
    """Make every struct page of the blocks `heads` a page by itself again."""
    for piece in _pieces(heads):
        _set_tails(world, piece, order, np.zeros(piece.shape, np.uint64), 0)
        store_page(world, StorePage(piece, "head", 0))
        store_page(world, StorePage(piece, "order", 0))


def _pieces(heads: Pfns) -> list[Pfns]:
    """`heads` in pieces whose temporaries stay a few MB each."""
    return [heads[start : start + _AT_ONCE] for start in range(0, heads.size, _AT_ONCE)]


def _set_tails(world: World, heads: Pfns, order: int, links: Words, mapping: int) -> None:
    """Write link and mapping of every tail."""
    memory, pages = world.memory, world.vmemmap.vmemmap_pages(order)
    if not pages:
        tails = _tails(world, heads, order)
        memory.write_words(
            tails + np.uint64(8 * LINK), np.broadcast_to(links[:, None], tails.shape)
        )
        memory.write_words(tails + np.uint64(8 * MAPPING), mapping)
        return
    frames = memmap_frames(world, heads, pages)
    heads_at = world.translate(world.vmemmap.address(heads))
    own = heads_at[:, None] + np.array([8 * LINK, 8 * MAPPING], np.uint64)
    kept = memory.read_words(own)
    memory.update_rows(frames.ravel(), {MAPPING: mapping}, np.repeat(links, pages))
    memory.write_words(own, kept)


def _tails(world: World, heads: Pfns, order: int) -> Words:
    """Where tails lie, struct page by struct page, shape (heads, tails)."""
    tails = heads[:, None] + np.arange(1, 1 << order)
    return world.translate(world.vmemmap.address(tails))


def memmap_frames(world: World, heads: Pfns, pages: int) -> Pfns:
    """The frames that hold the struct pages of `heads`, shape (heads, vmemmap pages)."""
    v = world.vmemmap
    return world.frame_of(strided(v.address(heads), pages, v.page_size))


def are_sound(world: World, heads: Pfns, order: int) -> NDArray[np.bool_]:
    """Whether every tail of each block links to its head (`free_tail_page_prepare`,
    mm/page_alloc.c).
    """
    memory, pages = world.memory, world.vmemmap.vmemmap_pages(order)
    links = _links(world, heads, order)
    if not pages:
        found = memory.read_words(_tails(world, heads, order) + np.uint64(8 * LINK))
        return (found == links[:, None]).all(axis=1)
    frames = memmap_frames(world, heads, pages)
    rest = memory.rows_hold(frames[:, 1:].ravel(), LINK, np.repeat(links, pages - 1))
    first = memory.rows_hold(frames[:, 0], LINK, links, but_first=True)
    return rest.reshape(heads.size, -1).all(axis=1) & first


def link_tail(world: World, step: LinkTail) -> None:
    """Write link and mapping of one tail."""
    store_page(world, StorePage(step.pfn, "link", _links(world, step.head, step.order)[0]))
    store_page(world, StorePage(step.pfn, "mapping", TAIL_MAPPING))


# -- pages that come --


def _movable_row(world: World, node: int) -> Words:
    """The struct page of a free page in the movable zone of `node`, which may yet have to be
    made.
    """
    return world.layout.free_row(node, zone_number(world.vmemmap.format.arch, "Movable"))


def init_page(world: World, step: InitPage) -> None:
    """Write one struct page."""
    row = _movable_row(world, step.node)
    words = strided(world.vmemmap.address(step.pfn), row.size, world.layout.stride)
    world.store(world.translate(words, write=True), row)


def init_pages(world: World, step: InitPages) -> None:
    """Fill frames as templates."""
    v = world.vmemmap
    pages = (step.end - step.start) * v.struct_page_size // v.page_size
    frames = memmap_frames(world, np.array(step.start, np.int64), pages)
    world.memory.fill_rows(frames, _movable_row(world, step.node))


HANDLERS: Handlers = {
    LoadPage: load_page,
    TestPage: test_page,
    StorePage: store_page,
    IncrementUnlessZero: increment_unless_zero,
    FreezeCount: freeze_count,
    DropReference: drop_reference,
    CopyFrame: copy_frame,
    CopyWords: copy_words,
    CopyTailWords: copy_tail_words,
    FillTails: fill_tails,
    FillTail: fill_tail,
    PrepareCompound: prepare_compound,
    LinkTail: link_tail,
    InitPage: init_page,
    InitPages: init_pages,
}
