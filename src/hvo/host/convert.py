"""Making an existing pool optimised: its free pages are given back and taken again while the switch
is on, a batch at a time.

No page in use or reserved is touched, and at no moment more than one batch is out of the pool. What
was promised stands in the journal (`hvo.host.journal`) before the first page leaves, so that a
conversion that is killed can be finished or taken back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.host import journal as journals
from hvo.host.advice import is_gigantic
from hvo.host.announce import Announce, silent
from hvo.host.converted import forget, note
from hvo.host.headroom import restore_headroom
from hvo.host.hold import Hold, MappedPages
from hvo.host.interrupts import INTERRUPTED, Interrupts
from hvo.host.journal import JOURNAL, LOCK, Journal, Promise
from hvo.host.kernel import GATE, Kernel, defect_notes, read_kernel, refuse_defect, require_gate
from hvo.host.optimized import Estimate, estimate
from hvo.host.outcome import Outcome, memmap_change, read_counters
from hvo.host.pools import Pool, read_pool, settable, sizes
from hvo.host.procfs import Counters
from hvo.host.refill import Stopped, rebuild, restore
from hvo.host.tree import Tree, Write
from hvo.layout.units import format_size

_BATCH_BYTES = 1 << 30


@dataclass(frozen=True)
class Conversion:
    """What a conversion starts from: the pools it works on, and how many of each one's pages it may
    rebuild.
    """

    kernel: Kernel
    total: Pool
    known: Estimate
    parts: tuple[tuple[Pool, int], ...]
    batch: int

    @property
    def pages(self) -> int:
        """Pages that are given back and taken again, at most."""
        return sum(pages for _, pages in self.parts)

    def optimised_by(self, rebuilt: int) -> tuple[int, int]:
        """How many pages become optimised when `rebuilt` free pages are rebuilt, at least and at
        most.
        """
        rest = self.total.pages - self.known.high, self.total.pages - self.known.low
        return max(0, rest[0] - (self.total.pages - rebuilt)), min(rest[1], rebuilt)


def convert(
    tree: Tree,
    size: int,
    node: int | None = None,
    *,
    gigantic: bool = False,
    force: bool = False,
    batch: int | None = None,
    dry_run: bool = False,
    hold: Hold | None = None,
    announce: Announce = silent,
) -> Outcome:
    """Rebuild the free pages of the pool of `size` bytes, on one node or on all, so that they
    become optimised.

    `batch` pages at a time (1 GiB of them by default, one when gigantic). `hold` keeps converted
    pages out of the way, by default by mapping them. Raises `HvoError`, leaving the pool as it was,
    when it must not begin or a write is refused.
    """
    journals.refuse_interrupted(tree)
    plan = plan_convert(tree, size, node, gigantic=gigantic, force=force, batch=batch)
    before = read_counters(tree, plan.kernel)
    if dry_run or not plan.pages:
        change = memmap_change(
            plan.kernel, before, size, plan.optimised_by(plan.pages), None if dry_run else before
        )
        return Outcome(
            "convert",
            dry_run,
            _dry_writes(plan),
            (change,),
            notes=_notes(plan),
            details=_figures(plan, 0, None),
        )
    with tree.lock(LOCK):
        return _run(
            tree,
            plan,
            Journal(size, _promises(plan), gigantic, force, plan.batch),
            hold or MappedPages(),
            announce,
        )


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
        hold=hold,
        announce=announce,
    )


def plan_convert(
    tree: Tree,
    size: int,
    node: int | None = None,
    *,
    gigantic: bool = False,
    force: bool = False,
    batch: int | None = None,
) -> Conversion:
    """What a conversion would work on; raises `HvoError` when it must not be done."""
    kernel, total = read_kernel(tree), read_pool(tree, size)
    require_gate(kernel)
    _refuse(kernel, total, gigantic, force)
    known = _known(tree, kernel, size)
    left = 0 if known.exact == total.pages else max(0, total.free - (total.reserved or 0))
    parts: list[tuple[Pool, int]] = []
    for pool in settable(tree, size, node):
        pages = min(pool.free, left)
        left -= pages
        parts.append((pool, pages))
    batch = 1 if is_gigantic(kernel, size) else batch or max(1, _BATCH_BYTES // size)
    plan = Conversion(kernel, total, known, tuple(parts), batch)
    if known.high and not force:
        _refuse_short(tree, plan)
    return plan


def _refuse(kernel: Kernel, total: Pool, gigantic: bool, force: bool) -> None:
    what = f"convert {format_size(total.size)}"
    if not kernel.enabled:
        raise HvoError(
            f"{what}: the optimisation is off, pages would come back as they are; hvo enable first"
        )
    if not kernel.freed_pages(total.size):
        raise HvoError(f"{what}: pages of this size cannot be optimised")
    refuse_defect(kernel, what, force)
    if is_gigantic(kernel, total.size) and not gigantic:
        raise HvoError(
            f"{what}: a gigantic page may not come back once it is given back (fragmentation);"
            " --gigantic does it one at a time"
        )
    if total.surplus:
        raise HvoError(
            f"{what}: {total.surplus} pages are surplus and would become part of the pool; wait"
            " until they are given back"
        )


def _refuse_short(tree: Tree, plan: Conversion) -> None:
    """Pages of a batch that are optimised already need frames to be given back."""
    for pool, pages in plan.parts:
        for need in restore_headroom(
            tree,
            plan.kernel,
            plan.total,
            plan.known,
            {pool.node or 0: pool},
            min(plan.batch, pages),
        ):
            if not need.enough:
                raise HvoError(
                    f"convert {format_size(pool.size)}: {need.sentence}; free memory, use a smaller"
                    " --batch, or --force"
                )


def _run(tree: Tree, plan: Conversion, journal: Journal, hold: Hold, announce: Announce) -> Outcome:
    """Convert every part; whatever happens, the pools have their sizes afterwards or the journal
    says what they lack.
    """
    before, done, rebuilt = read_counters(tree, plan.kernel), len(tree.written), 0
    problem: str | None = None
    unfinished: str | None = None
    failed: HvoError | None = None
    with Interrupts() as interrupts:
        try:
            journal.save(tree)
            forget(tree, journal.size)
            for fresh in _rebuild(tree, plan, journal, hold, announce):
                rebuilt += fresh
                if interrupts.pending or _nothing_left(tree, plan, before):
                    break
        except Stopped as stop:
            problem = str(stop)
        except HvoError as error:
            failed = error
        finally:
            hold.release()
            unfinished = restore(tree, journals.load(tree) or journal)
        if unfinished and interrupts.pending:
            problem = interrupts.taken()
    if (
        not problem or problem == INTERRUPTED or tree.exists(JOURNAL)
    ):  # else it says what `unfinished` does
        problem = "; ".join(filter(None, (problem, unfinished))) or None
    if failed:
        raise HvoError("; ".join(filter(None, (str(failed), problem)))) from failed
    if not problem and rebuilt == plan.pages:
        _note(tree, plan)
    return _outcome(tree, plan, before, done, rebuilt, problem)


def _rebuild(
    tree: Tree, plan: Conversion, journal: Journal, hold: Hold, announce: Announce
) -> Iterator[int]:
    """Rebuild batch after batch -> the pages of each; who goes on has the last ones out of the
    way.
    """
    rebuilt, what = 0, f"converting {format_size(plan.total.size)}"
    for pool, count in _steps(plan):
        announce(what, rebuilt, plan.pages)
        fresh = rebuild(tree, journal, pool, count)
        rebuilt += fresh
        yield fresh
        if fresh and rebuilt < plan.pages:
            hold.take(pool.size, fresh, pool.node)


def _note(tree: Tree, plan: Conversion) -> None:
    """Note for `hvo status` that only busy pages are left, unless some of them have become free
    meanwhile, or nodes were left out.
    """
    total = read_pool(tree, plan.total.size)
    if (total.busy, total.pages) == (plan.total.busy, sum(pool.pages for pool, _ in plan.parts)):
        note(tree, total, _known(tree, plan.kernel, total.size))


def _known(tree: Tree, kernel: Kernel, size: int) -> Estimate:
    return estimate(tree, kernel, [read_pool(tree, each) for each in sizes(tree)])[size]


def _steps(plan: Conversion) -> list[tuple[Pool, int]]:
    """Every batch, with the pool it is taken from."""
    return [(pool, count) for pool, pages in plan.parts for count in _batches(pages, plan.batch)]


def _batches(pages: int, batch: int) -> list[int]:
    whole, rest = divmod(pages, batch)
    return [batch] * whole + [rest] * bool(rest)


def _nothing_left(tree: Tree, plan: Conversion, before: Counters) -> bool:
    """Whether the counters say for certain that every page is optimised by now."""
    newly = _newly(plan, before, read_counters(tree, plan.kernel))
    return (
        newly is not None
        and plan.known.exact is not None
        and plan.known.exact + newly >= plan.total.pages
    )


def _newly(plan: Conversion, before: Counters, after: Counters) -> int | None:
    """How many pages became optimised, by the kernel's counters."""
    if before.memmap is None or after.memmap is None:
        return None
    return (
        (before.memmap - after.memmap)
        // plan.kernel.page_size
        // plan.kernel.freed_pages(plan.total.size)
    )


def _outcome(
    tree: Tree, plan: Conversion, before: Counters, done: int, rebuilt: int, problem: str | None
) -> Outcome:
    after = read_counters(tree, plan.kernel)
    low, high = plan.optimised_by(plan.pages)
    change = memmap_change(
        plan.kernel, before, plan.total.size, (0 if problem else low, high), after
    )
    writes = journals.writes_since(tree, done)
    return Outcome(
        "convert",
        False,
        writes,
        (change,),
        problem,
        _notes(plan),
        _figures(plan, rebuilt, _newly(plan, before, after)),
    )


def _promises(plan: Conversion) -> tuple[Promise, ...]:
    return tuple(Promise(pool.node, pool.persistent, 0) for pool, _ in plan.parts)


def _dry_writes(plan: Conversion) -> tuple[Write, ...]:
    """What would be written: for every batch the smaller size, then the old one."""
    return tuple(
        Write(pool.path, str(value))
        for pool, count in _steps(plan)
        for value in (pool.persistent - count, pool.persistent)
    )


def _notes(plan: Conversion) -> tuple[str, ...]:
    notes = list(defect_notes(plan.kernel, plan.total.size, min(plan.pages, plan.known.high)))
    busy = plan.total.busy
    if plan.known.exact == plan.total.pages:
        notes.append(
            "every page of this size is optimised already"
            if plan.total.pages
            else "the pool is empty"
        )
    elif busy:
        notes.append(
            f"{busy} pages are in use or reserved and are left as they are: convert them once their"
            " users have ended"
        )
    return tuple(notes)


def _figures(plan: Conversion, rebuilt: int, newly: int | None) -> dict[str, int | None]:
    return {
        "size": plan.total.size,
        "pages": plan.total.pages,
        "convertible": plan.pages,
        "rebuilt": rebuilt,
        "optimized": newly,
        "left": plan.total.busy,
        "batch": plan.batch,
    }
