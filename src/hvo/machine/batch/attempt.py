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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvo.machine.batch.allocations import Allocations
from hvo.machine.batch.conflicts import Access, Lanes, first_of_each, out_of_order, written
from hvo.machine.batch.deferred import Deferred
from hvo.machine.batch.hints import Abort, BatchHints, NeedsFrameShares, Past
from hvo.machine.batch.touched import ANSWERS, PAGE_STEPS, TOUCHES
from hvo.memory.interface import Words
from hvo.mmu.access import PageFault
from hvo.steps.base import Composite, Divergence, ForEach, Step, Steps, one_answer
from hvo.steps.entries import (
    RemapEntries,
    RestoreEntries,
    WriteEntry,
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
    TakeFreed,
    WriteData,
)
from hvo.steps.ordering import (
    Acquire,
    Flush,
    FlushAll,
    Invalidate,
    InvalidateAll,
    Release,
    StopCpus,
    SynchronizeReaders,
)
from hvo.steps.pool import AllocateFolio, FreeFolio, PutFree, TakeRawErrors
from hvo.steps.struct_pages import StorePage, TestPage
from hvo.world.handlers import perform
from hvo.world.state import World

_MOST_ROUNDS = 20


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
        self._allocations = Allocations(world, known, self._later)
        self._perform_as: dict[type, Callable[[Any, Lanes], Any]] = {
            AllocateFrame: self._allocations.frame,
            AllocateFrames: self._allocations.frames,
            AllocateFolio: self._allocations.folios,
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
            StopCpus: self._later.stop_cpus,
            Acquire: self._skip,
            Release: self._skip,
            ListEmpty: self._cannot,
            ListPop: self._cannot,
            ForEach: self._cannot,
            TakeRawErrors: self._cannot,
            TakeFreed: self._cannot,
            WriteData: self._cannot,
        }

    def run(self) -> NDArray[np.int64]:
        """What the block returned for each item; raises Abort, with nothing changed, when the items
        cannot all go at once.
        """
        transaction = self._world.begin()
        try:
            self._allocations.begin(transaction)
            self._go(np.arange(len(self._items)), Past([], 0, 0))
            self._check()
        except BaseException as error:
            self._world.rollback()
            if isinstance(error, PageFault):
                raise Abort(0) from None
            raise
        self._world.commit()
        self._later.commit()
        return self._results

    # -- going through the block --

    def _go(self, lanes: Lanes, past: Past) -> None:
        """Take the pages `lanes`, with what they have behind them, to the end of the block."""
        if past.rounds > _MOST_ROUNDS:
            raise Abort(0)
        actor = self._step.block(self._items[lanes])
        step = self._resume(actor, [None, *past.results], lanes)
        while step is not None:
            touched = self._touched(step, lanes)
            page = isinstance(step, PAGE_STEPS)
            place = touched[0].starts if isinstance(step, ANSWERS) else None
            ahead = None if place is None else self._ahead(place, page)
            if place is not None and ahead is not None:
                self._serialize(ahead, place, page, lanes, past)
                return
            if any(access.overlaps_itself for access in touched):
                raise Abort(0)
            try:
                result = self._perform(step, lanes, place)
            except Divergence as parting:
                for key in dict.fromkeys(parting.keys.tolist()):
                    group = parting.keys == key
                    self._go(lanes[group], past.of(group))
                return
            self._log += touched
            self._count(step, lanes, past)
            past.results.append(result)
            step = self._resume(actor, [result], lanes)

    def _resume(self, actor: Steps[int], results: list[Any], lanes: Lanes) -> Step[object] | None:
        """The next step once `actor` has received `results`; None at its end."""
        step: Step[object] | None = None
        try:
            for result in results:
                step = actor.send(result)
        except StopIteration as stop:
            self._results[lanes] = stop.value
            return None
        return step

    def _touched(self, step: Step[object], lanes: Lanes) -> list[Access]:
        """What `step` touches that other pages might touch; raises Abort for a step that pages
        cannot do together.
        """
        touches = TOUCHES.get(type(step))
        if touches is not None:
            if isinstance(step, RemapEntries | RestoreEntries) and np.ndim(step.locations) != 2:
                raise Abort(0)  # the same entries for all
            return touches(self._world, step, lanes)
        if type(step) not in self._perform_as:
            raise Abort(0)
        return []

    def _count(self, step: Step[object], lanes: Lanes, past: Past) -> None:
        """Count the primitive steps that `step` stands for, and watch what entries it breaks."""
        flush = isinstance(step, Flush | FlushAll)
        if isinstance(step, Composite) and not flush and len(self._later.broken):
            raise Abort(0)  # its steps have to be counted one by one
        if isinstance(step, WriteEntry):
            self._later.broken.written(step, lanes, past.clock)
        past.clock += 2 if flush else 1

    def _ahead(self, points: Words, page: bool) -> NDArray[np.bool_] | None:
        """The pages that must go ahead of those that touch the same word; None when all may go on
        together.
        """
        if not self._known.check_shared_words:
            return None
        first = first_of_each(points)
        if first.all():
            return None
        settled = (
            np.isin(points, np.concatenate(self._stable_words[page]))
            if self._stable_words[page]
            else np.zeros(points.shape, np.bool_)
        )
        return first & ~settled if (~first & ~settled).any() else None

    def _serialize(
        self,
        ahead: NDArray[np.bool_],
        points: Words,
        page: bool,
        lanes: Lanes,
        past: Past,
    ) -> None:
        since = len(self._log)
        self._go(lanes[ahead], past.of(ahead))
        left = points[ahead]
        changed = written(left, self._log[since:])
        self.changes_shared |= bool(changed.any())
        self._stable_words[page].append(left[~changed])
        self._go(lanes[~ahead], past.of(~ahead))

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
        return perform(self._world, step)

    def _free_vmemmap_page_list(self, step: FreeVmemmapPageList, lanes: Lanes) -> None:
        if len(self._world.vmemmap_page_list) or not self._later.free_pile(lanes):
            raise Abort(0)

    def _skip(self, step: Step[object], lanes: Lanes) -> None:
        """A lock that only this actor could want."""

    def _cannot(self, step: Step[object], lanes: Lanes) -> None:
        raise Abort(0)

    # -- the end --

    def _check(self) -> None:
        later, shares = self._later, self._allocations.shares
        if (
            out_of_order(self._log)
            or (shares is not None and not shares.used_up)
            or later.frees_both_ways
            or (later.frees_folios and self._allocations.last_with_folio >= 0)
            or len(later.broken)
        ):
            raise Abort(0)
        failed = (
            np.flatnonzero(self._results) if self._step.stops is not None else np.zeros(0, np.int64)
        )
        if failed.size:
            raise Abort(int(failed[0]))
        if later.frees_unmovable:
            for node, queued in self._allocations.queued.items():
                if later.taken_on(node) > queued:
                    raise Abort(queued * len(self._items) // later.taken_on(node))
        if shares is None and not later.taken_page_by_page:
            raise NeedsFrameShares(*later.taken_per_page(len(self._items)))
