"""Rebuilding the free pages of one node: given back and taken again, a batch at a time.

A window (`hvo.host.windows`) works on pages that have rebuilt ones above them:

1. the rebuilt ones and those below are taken off the list, all but one batch;
2. that batch is given back and taken again;
3. what was taken is put back, first what was taken first: rebuilt ones as they are, of the others a
   batch at a time, which is given back from the top of the list and taken again.

Before each step the pool is read. No page is taken, and none given back, that would leave fewer
free than `Part.floor` on the node or `Conversion.keep_free` on all nodes; when others take pages so
that fewer are free, everything that is held is put back at once. At every moment the journal says
how many pages are out, and what the free list is like when the process is killed: the kernel then
puts the pages that it held back in their order. Pages that are out count there as not rebuilt,
which is true or costs time only, wherever in the batch the process was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hvo.errors import HvoError
from hvo.host.conversion import Conversion, Part
from hvo.host.free_list import FreeList, Run, append, rebuilt
from hvo.host.hold import Hold
from hvo.host.journal import Journal
from hvo.host.outcome import read_counters
from hvo.host.pools import Pool, read_pool, stuck
from hvo.host.refill import Stopped, fill
from hvo.host.tree import Tree
from hvo.host.windows import window
from hvo.layout.units import format_size

_SLICE = 32 << 20
"""Bytes that are taken between two looks at the pool, at most."""
_WORTH = 8
"""A window that takes so many pages for each that it rebuilds is poor: others move the pages about
faster than it works.
"""
_PATIENCE, _PAUSE = 2, 0.1
"""After so many poor windows in a row, with so many seconds between them, the rest is left."""


@dataclass
class Others:
    """How many pages of a node others use, as far as it was seen."""

    before: int
    """At first."""
    now: int
    most: int
    least: int

    @classmethod
    def of(cls, pool: Pool) -> "Others":
        """Those who use `pool` before anything is done."""
        return cls(*[pool.in_use] * 4)

    @property
    def taken(self) -> int:
        """How many more than at first they used at once."""
        return self.most - self.before

    @property
    def freed(self) -> int:
        """How many fewer than at first they used at some time."""
        return self.before - self.least

    @property
    def active(self) -> bool:
        """Whether that changed at all."""
        return self.least < self.most

    def use(self, pages: int) -> int:
        """Note how many they use now; how many more that is."""
        more = pages - self.now
        self.now, self.most, self.least = pages, max(self.most, pages), min(self.least, pages)
        return more


@dataclass
class Rebuilding:
    """The work on one node."""

    tree: Tree
    plan: Conversion
    part: Part
    journal: Journal
    """As it is saved now."""
    hold: Hold
    go_on: Callable[[], bool]
    """Asked before each step whether to go on."""
    advanced: Callable[[int], None]
    """Told after each batch how many of its pages were not rebuilt before."""
    others: Others
    known: FreeList
    """What is known of the free list."""
    held: list[Run] = field(default_factory=list[Run])
    """What `hold` has, in the order of taking."""
    taken: int = 0
    """Pages that were held, all in all."""
    rebuilt: int = 0
    """Pages that were rebuilt for the first time."""
    given_back: int = 0
    """Pages that were given back and taken again, some of them more than once."""
    all_optimised: bool = True
    """Whether nothing speaks against all pages that came back being optimised."""
    total: Pool = field(init=False)
    now: Pool = field(init=False)

    def run(self) -> None:
        """Rebuild window after window, until nothing is left that may be rebuilt.

        Raises `Stopped` when somebody else has set the pool, or when it cannot be filled again;
        `HvoError` when the kernel refuses something.
        """
        poor = 0
        while self.go_on() and (old := self.known.old(self.look())):
            taken, rebuilt_before = self.taken, self.rebuilt
            self._window(window(old, self.plan.batch))
            worth = (self.rebuilt - rebuilt_before) * _WORTH > self.taken - taken
            poor = 0 if worth else poor + 1
            if poor > _PATIENCE:
                return
            if poor:
                time.sleep(_PAUSE)

    def look(self) -> int:
        """Read the pool; how many pages may leave the free list, negative if others have left too
        few.
        """
        self.total = read_pool(self.tree, self.part.pool.size)
        return min(
            self.look_at().free - self.part.floor,
            self.total.free - (self.total.reserved or 0) - self.plan.keep_free,
        )

    def look_at(self) -> Pool:
        """Read the pool of the node, and see what others did."""
        self.now = read_pool(self.tree, self.part.pool.size, self.part.pool.node)
        self._see(self.now)
        return self.now

    def put_back(self) -> None:
        """Put everything back that is held, in the order that it had on the list."""
        self.hold.release()
        for run in reversed(self.held):
            self.known.push(run)
        self.held.clear()

    def _see(self, now: Pool) -> None:
        more = self.others.use(now.in_use - self.hold.pages)
        if more > 0:
            self.known.others_took(more)
        elif more < 0:
            self.known.others_freed(-more)

    def _window(self, pages: int) -> None:
        """Rebuild the next so many pages that are not rebuilt yet, as far as others let it."""
        lift = self.known.lift(pages, self.plan.batch)
        try:
            self.hold.begin(self.part.pool.size, lift.above, self.part.pool.node)
            self._take(lift.above)
            if self.go_on():
                self._batch(lift.first)
            while rebuilt(self.held) < self.hold.pages and self.go_on() and self.look() >= 0:
                self._next()
        finally:
            self.put_back()

    def _next(self) -> None:
        """Put what was taken first back: rebuilt pages as they are, others to rebuild them.

        Others who take and free pages meanwhile tear the runs to pieces. A batch then has rebuilt
        pages too: it costs more to write a size than to rebuild a page.
        """
        run, batch = self.held[0], self.plan.batch
        whole = not self.others.active
        if run.rebuilt and (whole or run.pages >= batch):
            self._save(0, self._in_doubt())
            self._give(run.pages)
        else:
            count = min(batch, run.pages if whole else self.hold.pages)
            self._give(count)
            self._batch(count)

    def _take(self, pages: int) -> None:
        """Take so many pages off the list, a few at a time, as far as others leave them."""
        while pages:
            step = min(pages, max(1, _SLICE // self.part.pool.size), self.look())
            if step <= 0 or not self.go_on():
                return
            before = self.hold.pages
            try:
                self.hold.take(step)
            except HvoError:
                self._hold(before)
                if self.look() >= step:
                    raise
                return
            self._hold(before)
            pages -= step

    def _hold(self, before: int) -> None:
        """Note what was taken just now."""
        count = self.hold.pages - before
        self.taken += count
        for run in self.known.pop(count):
            append(self.held, run)

    def _give(self, pages: int) -> None:
        self.hold.give(pages)
        held = FreeList(reversed(self.held))
        given = held.pop(pages)
        self.held = list(reversed(held.runs))
        for run in reversed(given):
            self.known.push(run)

    def _batch(self, pages: int) -> None:
        """Give up to `pages` pages on top back, if any is not rebuilt, and take them again."""
        room, pool = self.look(), self.now
        count = min(pages, room) if self.known.old(pages) else 0
        if self.now.persistent != self.part.pool.persistent:
            raise Stopped(_foreign(self.tree, self.now, self.part.pool.persistent))
        if count <= 0:
            return
        self._save(count, self._after_exit())
        self.tree.write(pool.path, str(pool.persistent - count))
        smaller = read_pool(self.tree, pool.size, pool.node)
        if smaller.persistent != pool.persistent - count:
            raise Stopped(_foreign(self.tree, smaller, pool.persistent - count))
        self._see(smaller)
        self.total = read_pool(self.tree, pool.size)
        left = max(0, min(count, pool.pages - smaller.pages))
        fresh = left - rebuilt(self.known.pop(left))
        filled = self._fill(smaller)
        self.known.push(Run(True, left))
        self._see(filled)
        self._check(smaller, filled, count - left)
        self._save(0, self._after_exit())
        self.rebuilt, self.given_back = self.rebuilt + fresh, self.given_back + left
        self.advanced(fresh)

    def _fill(self, smaller: Pool) -> Pool:
        """Take the pages again, and see by the counters whether all are optimised."""
        pool, kernel = self.part.pool, self.plan.kernel
        before = read_counters(self.tree, kernel).memmap
        filled = fill(self.tree, pool.size, pool.node, pool.persistent)
        after = read_counters(self.tree, kernel).memmap
        if before is not None and after is not None:
            expected = (filled.pages - smaller.pages) * kernel.freed_pages(pool.size)
            self.all_optimised &= before - after == expected * kernel.page_size
        return filled

    def _check(self, smaller: Pool, filled: Pool, stayed: int) -> None:
        """Raise `Stopped` when pages of a batch did not come back, or when those that `stayed`
        were not taken by others.
        """
        size, pages = format_size(smaller.size), self.part.pool.persistent
        if short := min(stayed, stuck([smaller], self.total)):
            raise Stopped(f"{short} pages of {size} could not be given back: memory is short")
        if filled.persistent < pages:
            missing = f"{pages - filled.persistent} of {pages} pages of {size}"
            raise Stopped(f"the pool could not be filled again: {missing} are missing")

    def _after_exit(self) -> FreeList:
        """The free list when the held pages are put back."""
        known = FreeList(self.known.runs)
        for run in reversed(self.held):
            known.push(run)
        return known

    def _in_doubt(self) -> FreeList:
        """The free list when the held pages are put back, some now and some later."""
        known = FreeList(self.known.runs)
        known.push(Run(False, self.hold.pages))
        return known

    def _save(self, out: int, known: FreeList) -> None:
        self.journal = self.journal.with_list(self.part.pool.node, out, self.others.now, known)
        self.journal.save(self.tree)


def _foreign(tree: Tree, now: Pool, pages: int) -> str:
    return (
        f"{tree.path(now.path)}: somebody else set it from {pages} to {now.persistent} pages; the"
        " conversion has stopped"
    )
