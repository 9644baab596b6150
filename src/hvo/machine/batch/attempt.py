"""Run one block of a protocol for many pages at once, or find out that this would differ from
running it page by page.

The pages of a run go through the block together, each step with arrays. What must come out is
exactly what page after page would give:

* Pages that read the same word (the leaf that 64 huge pages share) do not go together: the first
  one goes ahead, to the end of its block,
  and the others read again what it left. A word that the page ahead did not change may then be read
  by the rest together. (Where a run of the same block showed that nobody changes such words,
  `check_shared_words` may be off: they go together, and the log below says if that was wrong.)
* Where pages get different answers they part, and each group goes on by itself (the block is a
  function of the results that it received,
  so a group's generator is made anew and fed with what its pages got).
* Frames come out of a first-in-first-out queue (`hvo.kernel.buddy`), so N pages that take one each
  get what one after the other would.
  When the order of taking was not the order of the pages, the run is undone and done again with the
  frames given as frame shares page by page.
* Frames are freed, and counters changed, at the end, in the order of the pages
  (`hvo.machine.batch.deferred`).
* Accesses to entries, variables and fields of struct pages are logged. Two that met in another
  order than that of their pages, a refused
  allocation, or a fault end the run: everything is undone, and the caller hears how many pages can
  go at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hvo.machine.batch.conflicts import Access, Lanes, out_of_order, written
from hvo.machine.batch.deferred import Deferred, Taken
from hvo.machine.batch.frame_shares import FrameShares
from hvo.memory.interface import Pfns, Words
from hvo.mmu.access import PageFault
from hvo.steps.base import ForEach, Step, Value
from hvo.steps.entries import (
    Entry,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    RemapEntries,
    RestoreEntries,
    WriteEntry,
    WritePointer,
)
from hvo.steps.frames import (
    AllocateFrame,
    AllocateFrames,
    Count,
    FreeFrame,
    FreeVmemmapPageList,
    ListAdd,
    ListEmpty,
    ListPop,
)
from hvo.steps.ordering import (
    Acquire,
    Flush,
    FlushAll,
    Invalidate,
    InvalidateAll,
    Release,
    SynchronizeReaders,
)
from hvo.steps.pool import AllocateFolio, FreeFolio, PutFree, TakeRawErrors
from hvo.steps.struct_pages import FreezeCount, IncrementUnlessZero, LoadPage, StorePage, TestPage
from hvo.world.handlers import can_perform, perform
from hvo.world.state import Divergence, World, one_answer

_MOST_ROUNDS = 20


class Abort(Exception):
    """The run would differ from page by page: only its first `pages` can go at once (0: none)."""

    def __init__(self, pages: int) -> None:
        super().__init__(f"only {pages} pages can go at once")
        self.pages = pages


class NeedsFrameShares(Exception):
    """Frames must be shared out beforehand: to each page `counts` of its node's of `nodes`."""

    def __init__(self, counts: Lanes, nodes: Lanes) -> None:
        super().__init__("frames were not taken in the order of the pages")
        self.counts, self.nodes = counts, nodes


@dataclass(frozen=True)
class BatchHints:
    """What earlier runs of a block showed: it frees frames; words that pages share must be read
    with care; how frames are given as frame shares.
    """

    frees: bool
    check_shared_words: bool = True
    shares: FrameShares | None = None


class Attempt:
    """One run of the block of `step` for `items`, some of its items."""

    def __init__(self, world: World, step: ForEach, items: NDArray[Any], known: BatchHints) -> None:
        self._world, self._step, self._items, self._known = world, step, items, known
        self.changes_shared = False
        """Whether a page changed a word that pages behind it read as well."""
        self._results = np.zeros(len(items), np.int64)
        self._log: list[Access] = []
        self._stable_words: dict[bool, list[Words]] = {False: [], True: []}
        self._later = Deferred(world)
        self._queued = {
            node.id: sum(zone.queued for zone in node.zones) for node in world.zones.nodes
        }
        self._perform_as: dict[type, Callable[[Any, Lanes], Any]] = {
            AllocateFrame: self._allocate_frame,
            AllocateFrames: self._allocate_frames,
            AllocateFolio: self._allocate_folio,
            FreeFrame: self._later.free_frame,
            ListAdd: self._later.pile_frames,
            FreeVmemmapPageList: self._free_vmemmap_page_list,
            FreeFolio: self._later.free_folio,
            PutFree: self._later.put_free,
            Count: self._later.count,
            Invalidate: self._later.flush,
            InvalidateAll: self._later.flush,
            Flush: self._later.flush,
            FlushAll: self._later.flush,
            SynchronizeReaders: self._later.synchronize,
            Acquire: self._skip,
            Release: self._skip,
            ListEmpty: self._cannot,
            ListPop: self._cannot,
            ForEach: self._cannot,
            TakeRawErrors: self._cannot,
        }

    def run(self) -> NDArray[np.int64]:
        """What the block returned for each item; raises Abort, with nothing changed, when the items
        cannot all go at once.
        """
        zones = [zone for zone in self._world.zones.zones if not zone.movable]
        marks = [zone.mark() for zone in zones]
        self._world.journal = []
        try:
            self._go(np.arange(len(self._items)), [], 0)
            self._check()
        except BaseException as error:
            self._world.undo()
            for zone, mark in zip(zones, marks, strict=True):
                zone.rollback(mark)
            self._world.memory.forget(self._later.frames_taken())
            if isinstance(error, PageFault):
                raise Abort(0) from None
            raise
        self._world.journal = None
        self._later.commit()
        return self._results

    # -- going through the block --

    def _go(self, lanes: Lanes, history: list[Any], rounds: int) -> None:
        """Take the pages `lanes`, which have received `history`, to the end of the block."""
        if rounds > _MOST_ROUNDS:
            raise Abort(0)
        actor = self._step.block(self._items[lanes])
        step = next(actor)
        for result in history:
            step = actor.send(result)
        while True:
            place = self._place(step, lanes)
            ahead = None if place is None else self._ahead(place, isinstance(step, _PAGE_STEPS))
            if place is not None and ahead is not None:
                self._let_pass(ahead, place, step, lanes, history, rounds)
                return
            try:
                result = self._perform(step, lanes, place)
            except Divergence as parting:
                for key in dict.fromkeys(parting.keys.tolist()):
                    group = parting.keys == key
                    self._go(lanes[group], [_select(past, group) for past in history], rounds + 1)
                return
            self._note(step, place, lanes)
            history.append(result)
            try:
                step = actor.send(result)
            except StopIteration as stop:
                self._results[lanes] = stop.value
                return

    def _ahead(self, points: Words, page: bool) -> NDArray[np.bool_] | None:
        """The pages that must go ahead of those that touch the same word; None when all may go on
        together.
        """
        if not self._known.check_shared_words:
            return None
        first = _first_of_each(points)
        if first.all():
            return None
        settled = (
            np.isin(points, np.concatenate(self._stable_words[page]))
            if self._stable_words[page]
            else np.zeros(points.shape, np.bool_)
        )
        return first & ~settled if (~first & ~settled).any() else None

    def _let_pass(
        self,
        ahead: NDArray[np.bool_],
        points: Words,
        step: Step[object],
        lanes: Lanes,
        history: list[Any],
        rounds: int,
    ) -> None:
        since = len(self._log)
        self._go(lanes[ahead], [_select(past, ahead) for past in history], rounds + 1)
        left = points[ahead]
        changed = written(left, self._log[since:])
        self.changes_shared |= bool(changed.any())
        self._stable_words[isinstance(step, _PAGE_STEPS)].append(left[~changed])
        self._go(lanes[~ahead], [_select(past, ~ahead) for past in history], rounds + 1)

    def _place(self, step: Step[object], lanes: Lanes) -> Words | None:
        """The word that each page reads or changes in `step`, where it is one that another page
        might touch.
        """
        if isinstance(step, ReadEntry | ReadPointer | PublishPointer):
            return np.broadcast_to(np.asarray(step.location, np.uint64), lanes.shape)
        if isinstance(step, _PAGE_STEPS):
            name = "refcount" if isinstance(step, FreezeCount) else step.field
            return np.broadcast_to(
                self._world.field_location(step.pfn, name, write=isinstance(step, StorePage)),
                lanes.shape,
            )
        return None

    def _note(self, step: Step[object], place: Words | None, lanes: Lanes) -> None:
        """Log what `step` touched."""
        if place is not None:
            self._log.append(Access(place, 8, lanes, not isinstance(step, _READS)))
        elif isinstance(step, WriteEntry | WritePointer):
            self._log.append(
                Access(
                    np.broadcast_to(np.asarray(step.location, np.uint64), lanes.shape),
                    8,
                    lanes,
                    write=True,
                )
            )
        elif isinstance(step, RemapEntries | RestoreEntries):
            self._log.append(
                Access(
                    np.ascontiguousarray(step.locations[:, 0]),
                    8 * step.locations.shape[1],
                    lanes,
                    write=True,
                )
            )

    # -- steps that a run does its own way --

    def _perform(self, step: Step[object], lanes: Lanes, place: Words | None) -> Any:
        if place is not None:
            if isinstance(step, TestPage):
                return one_answer(self._world.load_at(place, step.field) != 0)
            if isinstance(step, StorePage):
                return self._world.store_at(place, step.field, step.value)
        own = self._perform_as.get(type(step))
        if own is not None:
            return own(step, lanes)
        if not can_perform(step):
            raise Abort(0)
        return perform(self._world, step)

    def _allocate_frame(self, step: AllocateFrame, lanes: Lanes) -> Pfns:
        return self._take(lanes, 1, step.node, step.this_node_only, step.memmap)[:, 0]

    def _allocate_frames(self, step: AllocateFrames, lanes: Lanes) -> Pfns:
        return self._take(lanes, step.count, step.node, step.this_node_only, step.memmap)

    def _take(
        self, lanes: Lanes, count: int, node: Value, this_node_only: bool, memmap: bool
    ) -> Pfns:
        nodes = np.broadcast_to(np.asarray(node, np.int64), lanes.shape)
        if self._known.shares:
            frames = self._known.shares.take(lanes, count)
        else:
            frames = np.empty((lanes.size, count), np.int64)
            only = this_node_only or bool(
                (nodes != nodes[0]).any()
            )  # nodes that serve each other are for one page at a time
            for each in np.unique(nodes).tolist():
                frames[nodes == each] = self._frames(lanes[nodes == each], count, each, only)
        self._later.take(Taken(lanes, nodes, frames), memmap=memmap)
        return frames

    def _frames(self, lanes: Lanes, count: int, node: int, this_node_only: bool) -> Pfns:
        """`count` frames for each of `lanes`, shape (pages, count); where page by page would find
        frames freed meanwhile, no more.
        """
        need = count * lanes.size
        allowed = self._world.zones.allowed(need, node, this_node_only=this_node_only)
        if self._known.frees:
            allowed = min(allowed, self._queued[node] - self._later.taken_on(node))
        if allowed < need:
            raise Abort(int(lanes[max(allowed, 0) // count]))
        return self._world.zones.allocate_upto(need, node, this_node_only=this_node_only).reshape(
            lanes.size, count
        )

    def _allocate_folio(self, step: AllocateFolio, lanes: Lanes) -> Pfns:
        """One block for each of `lanes`, where they come out of a movable zone: then no frame that
        a page takes can come out of them.
        """
        nodes = np.broadcast_to(np.asarray(step.node, np.int64), lanes.shape)
        heads = np.empty(lanes.size, np.int64)
        for node in np.unique(nodes).tolist():
            heads[nodes == node] = self._folios(lanes[nodes == node], step.order, node)
        return heads

    def _folios(self, lanes: Lanes, order: int, node: int) -> Pfns:
        zone = self._world.zones.zonelist(node, movable=True)[0]
        if not zone.movable or self._world.zones.fail_after is not None:
            raise Abort(0)
        heads = (
            zone.allocate(order, lanes.size)
            if order <= zone.max_order
            else zone.allocate_gigantic(order, lanes.size)
        )
        assert self._world.journal is not None
        self._world.journal.append(partial(zone.free, heads, order))
        if heads.size < lanes.size:
            raise Abort(int(lanes[heads.size]))
        return heads

    def _free_vmemmap_page_list(self, step: FreeVmemmapPageList, lanes: Lanes) -> None:
        if len(self._world.vmemmap_page_list) or not self._later.free_pile(lanes):
            raise Abort(0)

    def _skip(self, step: Step[object], lanes: Lanes) -> None:
        """A lock that only this actor could want."""

    def _cannot(self, step: Step[object], lanes: Lanes) -> None:
        raise Abort(0)

    # -- the end --

    def _check(self) -> None:
        later, shares = self._later, self._known.shares
        if (
            out_of_order(self._log)
            or (shares is not None and not shares.used_up)
            or later.frees_both_ways
        ):
            raise Abort(0)
        failed = (
            np.flatnonzero(self._results) if self._step.stops is not None else np.zeros(0, np.int64)
        )
        if failed.size:
            raise Abort(int(failed[0]))
        if later.frees_unmovable:
            for node, queued in self._queued.items():
                if later.taken_on(node) > queued:
                    raise Abort(queued * len(self._items) // later.taken_on(node))
        if shares is None and not later.taken_page_by_page:
            raise NeedsFrameShares(*later.taken_per_page(len(self._items)))


_PAGE_STEPS = (TestPage, LoadPage, StorePage, IncrementUnlessZero, FreezeCount)
_READS = (ReadEntry, ReadPointer, TestPage, LoadPage)


def _select(result: Any, pages: NDArray[np.bool_]) -> Any:
    """What the chosen pages received."""
    if isinstance(result, Entry):
        return Entry(result.kind, _select(result.value, pages))
    if isinstance(result, np.ndarray):
        values = cast("NDArray[Any]", result)
        return values[pages] if values.ndim and len(values) == len(pages) else values
    return result


def _first_of_each(points: Words) -> NDArray[np.bool_]:
    """For each value the first place where it stands."""
    steps = points[1:] != points[:-1]
    if (points[1:] >= points[:-1]).all():
        return np.concatenate([np.ones(min(1, points.size), np.bool_), steps])
    out = np.zeros(points.shape, np.bool_)
    out[np.unique(points, return_index=True)[1]] = True
    return out
