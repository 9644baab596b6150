"""What a run of many pages keeps for its end: frames and huge pages that it frees, counters,
flushes; then all is done in page order.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hvo.machine.batch.broken import BrokenEntries
from hvo.machine.batch.conflicts import Lanes
from hvo.memory.interface import Pfns
from hvo.steps.base import Step, one_answer
from hvo.steps.frames import Count, Counter, FreeFrame, ListAdd
from hvo.steps.ordering import StopCpus
from hvo.steps.pool import FreeFolio, PutFree
from hvo.world.costs import CostCounts
from hvo.world.frames import give_frames
from hvo.world.handlers import perform
from hvo.world.state import World
from hvo.world.struct_pages import are_sound

OnHeads = TypeVar("OnHeads", FreeFolio, PutFree)


class Taken(NamedTuple):
    """Pfns, shape (pages, n), that the pages `lanes` allocated in one step, each on its node of
    `nodes`.
    """

    lanes: Lanes
    nodes: Lanes
    frames: Pfns


class Given(NamedTuple):
    """Pfns, shape (pages, n), that the pages `lanes` let go of in one step."""

    lanes: Lanes
    frames: Pfns
    memmap: bool


class Deferred:
    """The effects of a run on `world` that wait for its end; `commit` has them all in the order of
    the pages.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._taken: list[Taken] = []
        self._freed: list[Given] = []
        self._piled: list[Given] = []
        self._counts: list[tuple[Counter, int]] = []
        self._folios: list[tuple[Lanes, FreeFolio]] = []
        self._pooled: list[tuple[Lanes, PutFree]] = []
        self._synchronizations = 0
        self._asked = CostCounts()
        self.broken = BrokenEntries(world.costs.format)

    # -- what is noted --

    def take(self, taken: Taken, *, memmap: bool) -> None:
        """Pfns were allocated."""
        self._taken.append(taken)
        if memmap:
            self._counts.append((Counter.MEMMAP, taken.frames.size))

    def free_frame(self, step: FreeFrame, lanes: Lanes) -> None:
        """Each page frees a frame."""
        self._freed.append(Given(lanes, np.asarray(step.pfn, np.int64)[:, None], step.memmap))

    def pile_frames(self, step: ListAdd, lanes: Lanes) -> None:
        """Each page puts frames on the actor's list."""
        self._piled.append(Given(lanes, step.pfns, memmap=True))

    def free_pile(self, lanes: Lanes) -> bool:
        """Each page frees what it put on the list, the top first -> whether the list holds just
        that.
        """
        mine = [given for given in self._piled if np.array_equal(given.lanes, lanes)]
        others = [given for given in self._piled if not any(given is own for own in mine)]
        if any(np.isin(given.lanes, lanes).any() for given in others):
            return False
        self._piled = others
        if mine:
            self._freed.append(
                Given(
                    lanes,
                    np.concatenate([given.frames for given in mine], axis=1)[:, ::-1],
                    memmap=True,
                )
            )
        return True

    def free_folio(self, step: FreeFolio, lanes: Lanes) -> bool:
        """Each page gives its huge page to the page allocator -> whether that will take it."""
        sound = are_sound(self._world, np.asarray(step.heads, np.int64), step.order)
        self._folios.append((lanes, step))
        return one_answer(sound)

    def put_free(self, step: PutFree, lanes: Lanes) -> None:
        """Each page puts its huge page on a free list."""
        self._pooled.append((lanes, step))

    def count(self, step: Count, lanes: Lanes) -> None:
        """Each page changes a counter."""
        self._counts.append((step.counter, step.delta * lanes.size))

    def flush(self, step: Step[object], lanes: Lanes) -> None:
        """Each page flushes."""
        self._asked = self._asked.plus(CostCounts(invalidations=lanes.size))

    def stop_cpus(self, step: StopCpus, lanes: Lanes) -> None:
        """Each page stops the other CPUs."""
        self._asked = self._asked.plus(CostCounts(interrupts=lanes.size))

    def synchronize(self, step: Step[object], lanes: Lanes) -> None:
        """Each page waits for readers."""
        self._synchronizations += lanes.size

    # -- what it amounts to --

    def taken_on(self, node: int) -> int:
        """Pfns allocated on `node` so far."""
        return sum(
            int(np.count_nonzero(taken.nodes == node)) * taken.frames.shape[1]
            for taken in self._taken
        )

    def taken_per_page(self, pages: int) -> tuple[Lanes, Lanes]:
        """For each of `pages` pages how many frames it allocated, and on which node."""
        counts, nodes = np.zeros(pages, np.int64), np.zeros(pages, np.int64)
        for taken in self._taken:
            counts[taken.lanes] += taken.frames.shape[1]
            nodes[taken.lanes] = taken.nodes
        return counts, nodes

    @property
    def taken_page_by_page(self) -> bool:
        """Whether the pages allocated their frames one page after the other."""
        return all(
            before.lanes[-1] < after.lanes[0]
            or (before.lanes.size == after.lanes.size == 1 and before.lanes[0] == after.lanes[0])
            for before, after in pairwise(self._taken)
        )

    @property
    def frees_both_ways(self) -> bool:
        """Whether frames of the vmemmap and others are freed, whose order among each other is not
        kept here.
        """
        return len({given.memmap for given in self._freed}) > 1

    @property
    def frees_folios(self) -> bool:
        """Whether huge pages are freed, which page by page a later page could have got."""
        return bool(self._folios)

    @property
    def frees_unmovable(self) -> bool:
        """Whether page by page a later page could have got what an earlier one freed: frames, or
        huge pages outside movable zones.
        """
        zones = self._world.zones
        movable = np.array([zone.movable for zone in zones.zones])
        blocks = any(
            not movable[zones.zone_of(np.asarray(step.heads, np.int64))].all()
            for _, step in self._folios
        )
        return bool(self._freed) or blocks

    def commit(self) -> None:
        """Do it all, in the order of the pages."""
        for counter, delta in self._counts:
            self._world.counters[counter] += delta
        costs = self._world.costs
        costs.counts = costs.counts.plus(self._asked).plus(self.broken.counts)
        self._world.synchronizations += self._synchronizations
        if self._freed:
            give_frames(self._world, _in_order_of_pages(self._freed), memmap=self._freed[0].memmap)
        self._world.vmemmap_page_list.push(_in_order_of_pages(self._piled))
        for step in (*_together(self._folios), *_together(self._pooled)):
            perform(self._world, step)


def _together(steps: Sequence[tuple[Lanes, OnHeads]]) -> list[OnHeads]:
    """Steps that pages did one by one, as one step over all of them in the order of the pages."""
    if not steps:
        return []
    lanes = np.concatenate([lanes for lanes, _ in steps])
    heads: NDArray[np.int64] = np.concatenate(
        [np.asarray(step.heads, np.int64) for _, step in steps]
    )
    return [replace(steps[0][1], heads=heads[np.argsort(lanes, kind="stable")])]


def _in_order_of_pages(given: list[Given]) -> Pfns:
    """All frames in one array, page after page, each page's in the order it let go of them."""
    if not given:
        return np.zeros(0, np.int64)
    if len(given) == 1:
        return given[0].frames.ravel()
    if all(each.lanes is given[0].lanes for each in given):
        return np.concatenate([each.frames for each in given], axis=1).ravel()
    lanes = np.concatenate([np.repeat(each.lanes, each.frames.shape[1]) for each in given])
    frames = np.concatenate([each.frames.ravel() for each in given])
    return frames[np.argsort(lanes, kind="stable")]
