"""Setting the size of a pool: predicted, done, verified.

A pool grows only as far as the kernel finds memory, and shrinks only as far as it can allocate the
struct pages of optimised pages again. Both are predicted first, and both are measured afterwards.
"""

from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.host import procfs
from hvo.host.converted import Converted, carry_over, forget, noted
from hvo.host.headroom import restore_headroom
from hvo.host.interrupts import Interrupts
from hvo.host.journal import LOCK, refuse_interrupted, writes_since
from hvo.host.kernel import Kernel, defect_notes, read_kernel, refuse_defect
from hvo.host.optimized import Estimate, estimate
from hvo.host.outcome import Change, Outcome, memmap_change, read_counters
from hvo.host.pools import Pool, nodes, read_pool, settable, sizes, stuck
from hvo.host.procfs import Counters
from hvo.host.tree import Tree, Write
from hvo.layout.units import format_size

_COMPACT = "/proc/sys/vm/compact_memory"


@dataclass(frozen=True)
class Resize:
    """A pool that is to be set to `count` persistent pages, and what is known before."""

    kernel: Kernel
    pool: Pool
    total: Pool
    """The pool of all nodes; the same one when no node was asked for."""
    known: Estimate
    count: int
    stuck: int
    """Surplus pages of it that nobody uses."""

    @property
    def given_back(self) -> int:
        """Pages that leave the pool."""
        return max(
            0,
            (
                min(self.pool.free, self.pool.pages - self.count)
                if self.stuck
                else self.pool.persistent - self.count
            ),
        )

    @property
    def pages(self) -> int:
        """Pages that the pool has in the end, surplus ones in use too; when it grows, those are the
        first that it takes.
        """
        return (
            self.pool.pages - self.given_back
            if self.given_back
            else max(self.pool.pages, self.count)
        )

    @property
    def surplus(self) -> int:
        """Surplus pages that may be left: those in use."""
        return self.pool.surplus - self.stuck


def resize(
    tree: Tree,
    size: int,
    count: int,
    node: int | None = None,
    *,
    retries: int = 0,
    force: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Set the pool of `size` bytes, on one node or on all, to `count` pages, and compare the
    counters with what they must be.

    `retries` more attempts are made after compacting memory while pages are missing. Raises
    `HvoError`, having changed nothing, when the pool would go below what is in use, and unless
    `force` is given when memory is short or the kernel loses pages that it is given back.
    """
    refuse_interrupted(tree)
    plan = plan_resize(tree, size, count, node, force)
    before = read_counters(tree, plan.kernel)
    if dry_run:
        writes = tuple(
            Write(plan.pool.path, str(value)) for value in _values(plan.pool, plan.stuck, count)
        )
        predicted = _change(plan, before, plan.pages)
        return Outcome(
            "resize",
            True,
            writes,
            (predicted,),
            None,
            _notes(tree, plan),
            _figures(plan, plan.pool),
        )
    with tree.lock(LOCK), Interrupts() as interrupts:
        _unchanged(tree, plan.pool)
        done = len(tree.written)
        converted = _forgotten(tree, plan)
        pool, refused = _set(tree, plan, retries, interrupts)
        if converted:
            carry_over(tree, size, converted, read_pool(tree, size).pages)
        after = read_counters(tree, plan.kernel)
        stopped = interrupts.taken() if interrupts.pending else None
    change = _change(plan, before, pool.pages, after)
    problem = refused or _shortfall(pool, plan, stopped)
    return Outcome(
        "resize",
        False,
        writes_since(tree, done),
        (change,),
        problem,
        _notes(tree, plan),
        _figures(plan, pool),
    )


def plan_resize(tree: Tree, size: int, count: int, node: int | None, force: bool) -> Resize:
    """What a resize starts from; raises `HvoError` when it must not be done."""
    kernel, pool = read_kernel(tree), read_pool(tree, size, node)
    total = read_pool(tree, size)
    known = estimate(tree, kernel, [read_pool(tree, each) for each in sizes(tree)])[size]
    plan = Resize(kernel, pool, total, known, count, _stuck(tree, pool))
    _refuse_in_use(plan)
    if plan.given_back and known.high:
        refuse_defect(kernel, f"resize {format_size(size)}={count}", force)
    if not force:
        _refuse_short(tree, plan)
    return plan


def _refuse_in_use(plan: Resize) -> None:
    """A pool below what is in use or promised would make pages surplus that nobody asked for."""
    pool, total = plan.pool, plan.total
    promised = max(0, (total.reserved or 0) - (total.free - pool.free))
    least = max(0, pool.in_use + promised - plan.surplus)
    if plan.count < min(least, pool.persistent):
        what = f"resize {format_size(pool.size)}={plan.count}"
        raise HvoError(
            f"{what}: {pool.in_use} pages are in use and {promised} reserved: expected at least"
            f" {least}"
        )


def _refuse_short(tree: Tree, plan: Resize) -> None:
    """Refuse what free memory cannot carry."""
    what = f"resize {format_size(plan.pool.size)}={plan.count}"
    grown = (plan.count - plan.pool.pages) * plan.pool.size
    available = procfs.table(tree.read("/proc/meminfo")).get("MemAvailable", 0)
    if grown > available:
        raise HvoError(
            f"{what}: it takes {format_size(grown)} and {format_size(available)} are available;"
            " --force tries all the same"
        )
    numbers = [plan.pool.node] if plan.pool.node is not None else nodes(tree, plan.pool.size)
    leaving = {number: read_pool(tree, plan.pool.size, number) for number in numbers} or {
        0: plan.pool
    }
    for need in restore_headroom(
        tree, plan.kernel, plan.total, plan.known, leaving, plan.given_back
    ):
        if not need.enough:
            raise HvoError(
                f"{what}: {need.sentence}; free memory, shrink in smaller steps, or use --force"
            )


def _unchanged(tree: Tree, pool: Pool) -> None:
    """Raise `HvoError` when somebody set the pool after it was looked at."""
    now = read_pool(tree, pool.size, pool.node)
    if now.persistent != pool.persistent:
        raise HvoError(
            f"{tree.path(pool.path)}: somebody else set it from {pool.persistent} to"
            f" {now.persistent}; nothing was changed"
        )


def _forgotten(tree: Tree, plan: Resize) -> Converted | None:
    """Remove the note of the last conversion; it, where it holds and goes on to, because no page
    comes that is not optimised.
    """
    found = noted(tree, plan.pool.size)
    forget(tree, plan.pool.size)
    holds = found is not None and found.still_says(plan.total, plan.known)
    return found if holds and (plan.kernel.enabled or plan.count <= plan.pool.persistent) else None


def _stuck(tree: Tree, pool: Pool) -> int:
    return stuck(settable(tree, pool.size, pool.node), read_pool(tree, pool.size))


def _values(pool: Pool, stuck_pages: int, count: int) -> tuple[int, ...]:
    """What has to be written to get a pool to `count` pages.

    Stuck surplus pages are not tried again when the pool is set to what it has, nor do free pages
    leave while surplus ones make up for them (`min_count` of `set_max_huge_pages()`): all of them
    become part of the pool first, and what is too much leaves then.
    """
    if stuck_pages and count < pool.pages:
        return pool.pages, count
    return (count,) if count != pool.persistent else ()


def _set(tree: Tree, plan: Resize, retries: int, interrupts: Interrupts) -> tuple[Pool, str | None]:
    """Set the pool, again while it falls short and nobody interrupts it: the kernel itself stops at
    a signal, with what it has. -> the pool, and why it was not gone on after it had changed.
    """
    pool = plan.pool
    try:
        for attempt in range(1 + retries):
            values = _values(pool, _stuck(tree, pool), plan.count)
            if not values or interrupts.pending:
                break
            if attempt and tree.exists(_COMPACT):
                tree.write(_COMPACT, "1")
            for value in values:
                tree.write(pool.path, str(value))
            pool = read_pool(tree, pool.size, pool.node)
    except HvoError as error:
        now = read_pool(tree, pool.size, pool.node)
        if (now.persistent, now.surplus) == (plan.pool.persistent, plan.pool.surplus):
            raise
        return now, str(error)
    return pool, None


def _change(plan: Resize, before: Counters, pages: int, after: Counters | None = None) -> Change:
    """The change of the memory map when the pool has `pages` pages afterwards."""
    grown = pages - plan.pool.pages
    if grown >= 0:
        optimised = grown if plan.kernel.enabled else 0
        return memmap_change(plan.kernel, before, plan.pool.size, (optimised, optimised), after)
    left = max(0, -grown - (plan.total.pages - plan.known.low)), min(-grown, plan.known.high)
    return memmap_change(plan.kernel, before, plan.pool.size, (-left[1], -left[0]), after)


def _shortfall(pool: Pool, plan: Resize, stopped: str | None) -> str | None:
    size = format_size(pool.size)
    if stopped and pool.persistent != plan.count:
        return (
            f"{stopped} at {pool.persistent} of {plan.count} pages of {size}; it had"
            f" {plan.pool.persistent}"
        )
    if pool.surplus > plan.surplus:
        stayed = f"{pool.surplus - plan.surplus} pages of {size} stayed as surplus"
        return f"{stayed}: in use by now, or memory was short for their struct pages"
    if pool.persistent < plan.count:
        return (
            f"{pool.persistent} of {plan.count} pages of {size}: the kernel found no memory for"
            f" {plan.count - pool.persistent}"
        )
    if pool.persistent > plan.count:
        return (
            f"{pool.persistent} pages of {size} instead of {plan.count}: somebody else set the"
            " pool, or its pages cannot be given back"
        )
    return None


def _notes(tree: Tree, plan: Resize) -> tuple[str, ...]:
    notes = list(defect_notes(plan.kernel, plan.pool.size, min(plan.given_back, plan.known.high)))
    absorbed = min(plan.pool.surplus, plan.count - plan.pool.persistent)
    if (
        plan.count > plan.pool.pages
        and plan.kernel.supports
        and not plan.kernel.enabled
        and plan.kernel.freed_pages(plan.pool.size)
    ):
        notes.append("the optimisation is off: new pages are not optimised (hvo enable first)")
    if plan.stuck and plan.given_back:
        notes.append(
            f"{plan.stuck} surplus pages that nobody uses become part of the pool first: only from"
            " there they can be given back"
        )
    elif absorbed > 0:
        notes.append(
            f"{absorbed} surplus pages become part of the pool before the kernel allocates any"
        )
    if plan.given_back and plan.known.high:
        frames = min(plan.known.high, plan.given_back) * plan.kernel.freed_pages(plan.pool.size)
        notes.append(
            f"restore headroom: up to {frames} frames"
            f" ({format_size(frames * plan.kernel.page_size)}) are allocated again"
        )
    return tuple(notes)


def _figures(plan: Resize, pool: Pool) -> dict[str, int | None]:
    return {
        "size": pool.size,
        "node": pool.node,
        "asked": plan.count,
        "pages_before": plan.pool.pages,
        "pages": pool.pages,
        "free": pool.free,
        "surplus": pool.surplus,
    }
