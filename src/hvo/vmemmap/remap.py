"""Exchange the entries of a huge page's vmemmap, and put them back when something fails in the
middle (mm/hugetlb_vmemmap.c).
"""

from dataclasses import dataclass

import numpy as np

from hvo.memory.interface import Pfns, Words
from hvo.steps.base import Steps, Value, strided
from hvo.steps.entries import Locate, ReadEntry, RemapEntries, RestoreEntries, WriteEntry
from hvo.steps.frames import ListAdd, ListPop
from hvo.steps.ordering import Flush, WriteBarrier
from hvo.vmemmap.context import Vmemmap
from hvo.vmemmap.split import split_vmemmap_huge_pmd


@dataclass(frozen=True)
class Remap:
    """What to do with the vmemmap of the huge page(s) `head` of `order`.

    `shared` is the frame that the tails shall map (None: the frame that the last kept page maps);
    `new_head` the frame for page 0 (None: it stays where it is). `flush` False leaves flushing to
    the caller.
    """

    head: Value
    order: int
    shared: Value | None
    new_head: Value | None
    flush: bool


def vmemmap_remap_free(v: Vmemmap, remap: Remap) -> Steps[int]:
    """Map the tails read-only onto the shared frame; the frames behind go on the actor's list -> 0,
    or ENOMEM and nothing changed.
    """
    done, error = yield from _remap_pieces(v, remap)
    if not error and remap.flush:
        start = v.address(remap.head)
        yield from Flush(start, start + np.uint64(done * v.page_size))
    if error and done:
        yield from _roll_back(v, remap, done)
    elif error and remap.new_head is not None:
        yield from ListAdd(np.asarray(remap.new_head)[..., None])
    return error


def _remap_pieces(v: Vmemmap, remap: Remap) -> Steps[tuple[int, int]]:
    """Piece by piece (a piece is under one leaf): split, then remap -> (vmemmap pages walked,
    error).

    What must be split here is flushed here, even where a list's remap is not: only the pass that
    splits all of a list beforehand leaves that to one flush for all (VMEMMAP_SPLIT_NO_TLB_FLUSH;
    the remap has VMEMMAP_REMAP_NO_TLB_FLUSH alone).
    """
    kept, shared = v.era.layout.kept_pages, remap.shared
    walked = 0
    for first, pages in v.pieces(remap.order, 0):
        address = v.address(remap.head) + np.uint64(first * v.page_size)
        error = yield from split_vmemmap_huge_pmd(v, address, v.node_of(remap.head), flush=True)
        if error:
            return walked, error
        pte = yield from pte_of(v, address)
        if first == 0 and remap.new_head is not None:
            yield from _move_head(v, remap.new_head, pte, address)
        if shared is None:
            shared = yield from frame_at(v, pte, kept - 1)
        skip = kept if first == 0 else 0
        yield from _share(v, shared, pte, address, skip, pages - skip)
        walked = first + pages
    return walked, 0


def pte_of(v: Vmemmap, address: Value) -> Steps[Words]:
    """Find the PTE of `address` through the PMD entry as it is now -> its location."""
    pmd = yield from Locate(address, 1)
    entry = yield from ReadEntry(pmd, 1)
    return v.pte_location(entry.value, address)


def frame_at(v: Vmemmap, pte: Value, index: int) -> Steps[Pfns]:
    """Read PTE number `index` from `pte` on -> the frame it maps."""
    entry = yield from ReadEntry(pte + np.uint64(8 * index), 0)
    return v.pfn(entry.value)


def _move_head(v: Vmemmap, new_head: Value, pte: Value, address: Value) -> Steps[None]:
    """Map page 0 onto the new frame that holds a copy of it; the old frame goes on the actor's
    list.
    """
    old = yield from ReadEntry(pte, 0)
    yield from WriteBarrier()  # the copy must be visible before the entry is
    yield from WriteEntry(pte, v.leaf_entry(new_head, writable=True), 0, address)
    yield from ListAdd(np.asarray(v.pfn(old.value))[..., None])


def _share(
    v: Vmemmap, shared: Value, pte: Value, address: Value, first: int, pages: int
) -> Steps[None]:
    """Map `pages` vmemmap pages from `first` on read-only onto `shared`; their frames go on the
    actor's list.
    """
    locations = strided(pte + np.uint64(8 * first), pages, 8)
    values = np.broadcast_to(v.leaf_entry(shared, writable=False)[..., None], locations.shape)
    old = yield from RemapEntries(
        locations, values, address + np.uint64(first * v.page_size), v.page_size
    )
    yield from ListAdd(v.pfn(old))


def _roll_back(v: Vmemmap, remap: Remap, done: int) -> Steps[None]:
    """Undo the first `done` pages with the very frames that were taken out, the last one first; a
    copied head keeps its mapping.

    Without `rollback-tails-only` 7.1 began at page 0 and rebuilt the head as if it were a tail
    (H13).
    """
    from_head = v.era.layout.shares == "zone-tail" and not v.era.has("rollback-tails-only")
    first = 0 if from_head else v.era.layout.kept_pages
    frames = yield from ListPop(done - first)
    template = (
        v.address(remap.head) + np.uint64(v.page_size)
        if from_head
        else shared_source(v, remap.head)
    )
    yield from restore_pages(
        v, remap.head, remap.order, frames, Restore(first, template, flush=True)
    )


@dataclass(frozen=True)
class Restore:
    """How to restore: from which vmemmap page on, with a copy of what is mapped at `source` (None:
    at each page itself), flush or not.
    """

    first: int
    source: Value | None
    flush: bool


def shared_source(v: Vmemmap, head: Value) -> Value | None:
    """Address that shows what the tails of `head` share: the last kept page; None where each page
    shows it itself (7.1).
    """
    if v.era.layout.shares == "zone-tail":
        return None
    return v.address(head) + np.uint64((v.era.layout.kept_pages - 1) * v.page_size)


def restore_pages(v: Vmemmap, head: Value, order: int, frames: Pfns, how: Restore) -> Steps[None]:
    """Map vmemmap pages of `head` to `frames` (last axis) again, as many as there are frames."""
    start, count, used = v.address(head), frames.shape[-1], 0
    reset = v.era.has("reset-tails") and v.era.layout.shares == "head"
    for begin, pages in v.pieces(order, how.first):
        pages = min(pages, count - used)
        if pages <= 0:
            break
        address = start + np.uint64(begin * v.page_size)
        pte = yield from pte_of(v, address)
        mine = frames[..., used : used + pages]
        values = v.leaf_entry(mine, writable=True)
        yield from RestoreEntries(
            strided(pte, pages, 8),
            mine,
            values,
            how.source,
            address,
            v.page_size,
            v.structs_per_page,
            reset,
        )
        used += pages
    if (
        how.flush
    ):  # from 6.2 on the page of the head as well, which may have moved (`vmemmap_remap_range`)
        first = start if v.era.layout.moves_head else start + np.uint64(how.first * v.page_size)
        yield from Flush(first, start + np.uint64((how.first + count) * v.page_size))
