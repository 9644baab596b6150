"""Making an existing pool optimised: its free pages are given back and taken again while the switch
is on, a batch at a time.

No page in use or reserved is touched, at no moment more than one batch is out of the pool, and at
every moment `keep_free` pages are free for others. The free list is a stack, so its pages at the
bottom are those that are always free: they are left, and counted. What was promised stands in the
journal (`hvo.host.journal`) before the first page leaves, so that a conversion that is killed can
be finished or taken back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hvo.errors import HvoError
from hvo.host import journal as journals
from hvo.host.announce import Announce, silent
from hvo.host.conversion import Conversion, Part, known_optimised, plan_convert
from hvo.host.conversion_report import figures, notes
from hvo.host.converted import forget, note
from hvo.host.free_list import FreeList
from hvo.host.hold import Hold, mapped_pages
from hvo.host.interrupts import INTERRUPTED, Interrupts
from hvo.host.journal import JOURNAL, LOCK, Journal, Promise
from hvo.host.kernel import GATE
from hvo.host.outcome import Outcome, memmap_change, read_counters
from hvo.host.pools import read_pool
from hvo.host.procfs import Counters
from hvo.host.progress import Found, found_in, keep, kept
from hvo.host.rebuilding import Others, Rebuilding
from hvo.host.refill import Stopped, restore
from hvo.host.tree import Tree, Write
from hvo.layout.units import format_size

_ROUNDS, _MANY = 3, 8
"""How often the lists are gone through at most, while the counters say that others hid more than
one in so many pages.
"""


def convert(
    tree: Tree,
    size: int,
    node: int | None = None,
    *,
    gigantic: bool = False,
    force: bool = False,
    batch: int | None = None,
    keep_free: int | None = None,
    dry_run: bool = False,
    hold: Hold | None = None,
    announce: Announce = silent,
    found: Mapping[int | None, Found] | None = None,
) -> Outcome:
    """Rebuild the free pages of the pool of `size` bytes, on one node or on all, so that they
    become optimised.

    `batch` pages at a time (by default 1 GiB of them, at most an eighth of the free pages; one when
    gigantic), while `keep_free` stay free (by default an eighth of the free pages, at least a
    batch). `hold` keeps pages off the free list, by default by mapping them; `found` is what is
    known of the free lists from before. Raises `HvoError`, leaving the pool as it was, when it must
    not begin or a write is refused.
    """
    journals.refuse_interrupted(tree)
    if found is None:
        found = kept(tree, size)
    plan = plan_convert(
        tree,
        size,
        node,
        gigantic=gigantic,
        force=force,
        batch=batch,
        keep_free=keep_free,
        found=found,
    )
    if dry_run or not plan.pages:
        return _planned(tree, plan, dry_run)
    hold = hold or mapped_pages(tree)
    with tree.lock(LOCK):
        return _Work(tree, plan, _journal(plan, gigantic, force), hold, announce).run()


def undo(tree: Tree, *, dry_run: bool = False) -> Outcome:
    """Bring what an interrupted conversion or measurement changed back to what it was; nothing to
    do is fine too.
    """
    journal = journals.load(tree)
    if journal is None:
        return Outcome("convert --undo", dry_run, (), (), notes=("nothing was interrupted",))
    if dry_run:
        writes = [Write(journal.path(promise), str(promise.pages)) for promise in journal.promises]
        writes += [Write(GATE, str(journal.gate))] if journal.gate is not None else []
        return Outcome("convert --undo", True, tuple(writes), ())
    with tree.lock(LOCK):
        done = len(tree.written)
        problem = restore(tree, journal)
    return Outcome("convert --undo", False, tuple(tree.written[done:]), (), problem)


def resume(
    tree: Tree, *, hold: Hold | None = None, announce: Announce = silent, dry_run: bool = False
) -> Outcome:
    """Bring the pools of an interrupted conversion back, then convert what is left; a measurement
    is only taken back.
    """
    journal = journals.load(tree)
    if journal and journal.command == "convert" and not dry_run:
        hold = hold or mapped_pages(tree)
    outcome = undo(tree, dry_run=dry_run)
    if journal is None or journal.command != "convert" or not outcome.ok or dry_run:
        return outcome
    only = journal.promises[0].node if len(journal.promises) == 1 else None
    return convert(
        tree,
        journal.size,
        only,
        gigantic=journal.gigantic,
        force=journal.force,
        batch=journal.batch,
        keep_free=journal.keep_free,
        hold=hold,
        announce=announce,
        found=found_in(journal),
    )


def _planned(tree: Tree, plan: Conversion, dry_run: bool) -> Outcome:
    """What would be done, or that there is nothing to do."""
    before = read_counters(tree, plan.kernel)
    change = memmap_change(
        plan.kernel,
        before,
        plan.total.size,
        plan.optimised_by(plan.pages),
        None if dry_run else before,
    )
    writes = tuple(
        Write(pool.path, str(value))
        for pool, count in plan.steps()
        for value in (pool.persistent - count, pool.persistent)
    )
    return Outcome(
        "convert",
        dry_run,
        writes,
        (change,),
        notes=notes(plan, plan.left_free),
        details=figures(plan, left_free=plan.left_free),
    )


@dataclass
class _Work:
    """A conversion that is going on."""

    tree: Tree
    plan: Conversion
    journal: Journal
    hold: Hold
    announce: Announce
    nodes: list[Rebuilding] = field(default_factory=list[Rebuilding])
    """The work on each node, that of the last round."""
    every: list[Rebuilding] = field(default_factory=list[Rebuilding])
    """That of every round."""
    others: dict[int | None, Others] = field(default_factory=dict[int | None, Others])
    rebuilt: int = 0
    complete: bool = False
    """Whether the counters say that every page is optimised."""

    def run(self) -> Outcome:
        """Convert every part; whatever happens, the pools have their sizes afterwards or the
        journal says what they lack.
        """
        before, done = read_counters(self.tree, self.plan.kernel), len(self.tree.written)
        problem: str | None = None
        unfinished: str | None = None
        failed: HvoError | None = None
        with Interrupts() as interrupts:
            try:
                self.journal.save(self.tree)
                forget(self.tree, self.plan.total.size)
                self._rebuild(before, interrupts)
            except Stopped as stop:
                problem = str(stop)
            except HvoError as error:
                failed = error
            finally:
                self.hold.release()
                unfinished = restore(self.tree, journals.load(self.tree) or self.journal)
            if interrupts.pending and not unfinished:
                self._keep_progress()
            if unfinished and interrupts.pending:
                problem = interrupts.taken()
        if (
            not problem or problem == INTERRUPTED or self.tree.exists(JOURNAL)
        ):  # else it says what `unfinished` does
            problem = "; ".join(filter(None, (problem, unfinished))) or None
        if failed:
            raise HvoError("; ".join(filter(None, (str(failed), problem)))) from failed
        return self._outcome(before, done, problem)

    def _rebuild(self, before: Counters, interrupts: Interrupts) -> None:
        """Go through the free lists, again while the counters say that pages were missed."""
        what = f"converting {format_size(self.plan.total.size)}"

        def go_on() -> bool:
            return not self.complete and not interrupts.pending

        def advanced(pages: int) -> None:
            self.rebuilt += pages
            self.complete = self._missing(before) == 0
            if go_on() and self.rebuilt < self.plan.pages:
                self.announce(what, self.rebuilt, self.plan.pages)

        self.announce(what, 0, self.plan.pages)
        for attempt in range(_ROUNDS):
            self.nodes = [
                self._node(part, FreeList(() if attempt else part.runs), go_on, advanced)
                for part in self.plan.parts
            ]
            self.every += self.nodes
            for node in self.nodes:
                node.journal = self.journal
                node.run()
                self.journal = node.journal
            if not go_on() or not self._missed(before):
                return

    def _node(
        self,
        part: Part,
        known: FreeList,
        go_on: Callable[[], bool],
        advanced: Callable[[int], None],
    ) -> Rebuilding:
        others = self.others.setdefault(part.pool.node, Others.of(part.pool))
        return Rebuilding(
            self.tree, self.plan, part, self.journal, self.hold, go_on, advanced, others, known
        )

    def _missing(self, before: Counters) -> int | None:
        """How many pages are not optimised by now; `None` if the counters do not tell."""
        newly = newly_optimised(self.plan, before, read_counters(self.tree, self.plan.kernel))
        if newly is None or self.plan.known.exact is None:
            return None
        return max(0, self.plan.total.pages - self.plan.known.exact - newly)

    def _missed(self, before: Counters) -> bool:
        """Whether some pages that are not optimised are certainly free and might be rebuilt: others
        hid them, or what was known from before was wrong.
        """
        surprising = any(part.runs for part in self.plan.parts) or any(
            others.active for others in self.others.values()
        )
        missing, total = self._missing(before), read_pool(self.tree, self.plan.total.size)
        missed = (missing or 0) - total.busy - self.plan.left_free
        return surprising and missed * _MANY > self.plan.pages

    def _left_free(self, before: Counters) -> int:
        """Free pages that were not rebuilt, at most."""
        total = read_pool(self.tree, self.plan.total.size)
        left = sum(max(0, node.look_at().free - node.known.rebuilt) for node in self.nodes)
        left = max(0, left - (total.reserved or 0))
        missing = self._missing(before)
        return left if missing is None else min(max(left, missing - total.busy), missing)

    def _keep_progress(self) -> None:
        """Note how far it came for the next conversion."""
        for node in self.nodes:
            self.journal = self.journal.with_list(
                node.part.pool.node, 0, node.others.now, node.known
            )
        keep(self.tree, self.journal, read_counters(self.tree, self.plan.kernel).memmap)

    def _outcome(self, before: Counters, done: int, problem: str | None) -> Outcome:
        plan, after = self.plan, read_counters(self.tree, self.plan.kernel)
        newly, left_free = newly_optimised(plan, before, after), self._left_free(before)
        if not problem:
            _note(self.tree, plan, left_free, self._missing(before))
        low, high = self._expected(newly)
        change = memmap_change(
            plan.kernel, before, plan.total.size, (0 if problem else low, high), after
        )
        return Outcome(
            "convert",
            False,
            journals.writes_since(self.tree, done),
            (change,),
            problem,
            notes(plan, left_free, self.others.values()),
            figures(plan, max(self.rebuilt, newly or 0), newly, left_free, self.others.values()),
        )

    def _expected(self, newly: int | None) -> tuple[int, int]:
        """How many pages must have become optimised, at least and at most.

        While others move pages about, some are rebuilt twice and others not at all, seen or not; it
        is enough then that every page that came back was optimised.
        """
        low = self.plan.optimised_by(self.plan.pages if self.complete else self.rebuilt)[0]
        given_back = sum(node.given_back for node in self.every)
        high = self.plan.optimised_by(max(given_back, self.plan.pages))[1]
        if all(node.all_optimised for node in self.every):
            low = max(0, min(low, low if newly is None else newly))
        return low, high


def newly_optimised(plan: Conversion, before: Counters, after: Counters) -> int | None:
    """How many pages became optimised, by the kernel's counters; `None` if it has none."""
    if before.memmap is None or after.memmap is None:
        return None
    return (
        (before.memmap - after.memmap)
        // plan.kernel.page_size
        // plan.kernel.freed_pages(plan.total.size)
    )


def _journal(plan: Conversion, gigantic: bool, force: bool) -> Journal:
    promises = tuple(
        Promise(part.pool.node, part.pool.persistent, 0, 0, part.pool.in_use, part.runs)
        for part in plan.parts
    )
    return Journal(plan.total.size, promises, gigantic, force, plan.batch, keep_free=plan.keep_free)


def _note(tree: Tree, plan: Conversion, left_free: int, missing: int | None) -> None:
    """Note for `hvo status` that only busy pages and those at the bottom are left, unless some have
    become free meanwhile, nodes were left out, or more are `missing`.
    """
    total = read_pool(tree, plan.total.size)
    pages = sum(part.pool.pages for part in plan.parts)
    same = (total.busy, total.pages) == (plan.total.busy, pages)
    if same and (missing or 0) <= total.busy + left_free:
        note(tree, total, known_optimised(tree, plan.kernel, total.size), left_free)
