"""What optimising costs on this host: HugeTLB pages are taken from free memory and given back, with
the switch on and off, and timed.

The pages come and go at the top of the pool's free list, so those that were there before stay. What
has to be put back stands in the journal before the first write, so that a measurement that is
killed can be taken back.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from hvo.errors import HvoError
from hvo.host.announce import Announce, silent
from hvo.host.headroom import available_per_node
from hvo.host.interrupts import Interrupts
from hvo.host.journal import LOCK, Journal, Promise, refuse_interrupted, writes_since
from hvo.host.kernel import GATE, Kernel, read_kernel, refuse_defect, require_gate
from hvo.host.outcome import Change, Outcome, memmap_change, read_counters
from hvo.host.pools import Pool, read_pool, settable
from hvo.host.refill import Stopped, restore
from hvo.host.tree import Tree, Write
from hvo.layout.units import format_size

_PAGES = 512
_SHARE = 2
"""At most one part in so many of a node's free memory is taken."""
Clock = Callable[[], int]


@dataclass(frozen=True)
class Timing:
    """Nanoseconds that one page took in each round, the warm-up left out."""

    rounds: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """The median, the extremes and every round, in nanoseconds; `null` when nothing was
        measured.
        """
        known = bool(self.rounds)
        return {
            "median_ns": round(median(self.rounds)) if known else None,
            "least_ns": min(self.rounds, default=None),
            "most_ns": max(self.rounds, default=None),
            "rounds_ns": list(self.rounds),
        }


@dataclass(frozen=True)
class HostBench:
    """What was measured: `times` by `allocate` or `free` and by whether the switch was on."""

    outcome: Outcome
    times: dict[tuple[str, bool], Timing]

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        found = {
            what: {("off", "on")[on]: self.times[what, on].to_json() for on in (False, True)}
            for what in ("allocate", "free")
        }
        return self.outcome.to_json() | found


@dataclass(frozen=True)
class _Plan:
    kernel: Kernel
    pool: Pool
    pages: int
    rounds: int

    @property
    def journal(self) -> Journal:
        promise = Promise(self.pool.node, self.pool.persistent, 0, extra=self.pages)
        return Journal(
            self.pool.size,
            (promise,),
            False,
            False,
            self.pages,
            "bench-host",
            int(self.kernel.enabled),
        )


def bench_host(
    tree: Tree,
    size: int,
    node: int | None = None,
    *,
    pages: int | None = None,
    rounds: int = 5,
    force: bool = False,
    dry_run: bool = False,
    announce: Announce = silent,
    clock: Clock = time.perf_counter_ns,
) -> HostBench:
    """Time taking and giving back `pages` pages of `size` bytes on one node, `rounds` times with
    the switch off and on, after a warm-up.

    By default the node with most free memory, and at most 512 pages in half of that. Raises
    `HvoError`, having changed nothing, when the kernel cannot optimise, loses pages that it is
    given back (unless `force`), or has too little free memory.
    """
    refuse_interrupted(tree)
    plan = _plan(tree, size, node, pages, rounds, force)
    times: dict[tuple[str, bool], list[int]] = {
        (what, on): [] for what in ("allocate", "free") for on in (False, True)
    }
    if dry_run:
        change = memmap_change(plan.kernel, read_counters(tree, plan.kernel), size, (0, 0))
        return _result(plan, Outcome("bench-host", True, _writes(plan), (change,)), times)
    with tree.lock(LOCK):
        outcome = _run(tree, plan, times, announce, clock)
    return _result(plan, outcome, times)


def _plan(
    tree: Tree, size: int, node: int | None, pages: int | None, rounds: int, force: bool
) -> _Plan:
    kernel = read_kernel(tree)
    require_gate(kernel)
    what = f"bench-host {format_size(size)}"
    if not kernel.freed_pages(size):
        raise HvoError(f"{what}: pages of this size cannot be optimised")
    refuse_defect(kernel, what, force)
    free = available_per_node(tree, kernel)
    pool = max(settable(tree, size, node), key=lambda pool: free.get(pool.node or 0, 0))
    if pool.surplus:
        raise HvoError(
            f"{what}: {pool.surplus} pages are surplus and would become part of the pool; wait"
            " until they are given back"
        )
    most = free.get(pool.node or 0, 0) // _SHARE // size
    wanted = min(_PAGES, most) if pages is None else pages
    if not 0 < wanted <= most:
        wanted = max(1, wanted)
        least, have = format_size(wanted * size * _SHARE), format_size(free.get(pool.node or 0, 0))
        raise HvoError(
            f"{what}: {wanted} pages need {least} of free memory on one node, {have} are free: give"
            " fewer --pages"
        )
    return _Plan(kernel, pool, wanted, rounds)


def _run(
    tree: Tree,
    plan: _Plan,
    times: dict[tuple[str, bool], list[int]],
    announce: Announce,
    clock: Clock,
) -> Outcome:
    """Measure, then put pool and switch back, whatever happened."""
    before, done, problem, unfinished = (
        read_counters(tree, plan.kernel),
        len(tree.written),
        None,
        None,
    )
    saving: list[Change] = []
    with Interrupts() as interrupts:
        try:
            plan.journal.save(tree)
            for number in range((plan.rounds + 1) * 2):
                if interrupts.pending:
                    break
                announce("measuring", number, (plan.rounds + 1) * 2)
                saving.append(
                    _round(tree, plan, bool(number % 2), times if number > 1 else None, clock)
                )
        except Stopped as stop:
            problem = str(stop)
        finally:
            unfinished = restore(tree, plan.journal)
        if unfinished and interrupts.pending:
            problem = interrupts.taken()
    writes = writes_since(tree, done)
    wrong = tuple(change for change in saving if not change.holds)[:1]
    pages = (0, 0) if before.memmap is not None else (0, plan.pages * (plan.rounds + 1))
    back = memmap_change(
        plan.kernel, before, plan.pool.size, pages, read_counters(tree, plan.kernel)
    )
    return Outcome(
        "bench-host",
        False,
        writes,
        (*wrong, back),
        "; ".join(filter(None, (problem, unfinished))) or None,
    )


def _round(
    tree: Tree, plan: _Plan, on: bool, times: dict[tuple[str, bool], list[int]] | None, clock: Clock
) -> Change:
    """Take the pages and give them back with the switch as said; how the memory map shrank in
    between.
    """
    tree.write(GATE, str(int(on)))
    before = read_counters(tree, plan.kernel)
    taken = _timed(tree, plan, plan.pool.persistent + plan.pages, clock)
    after = read_counters(tree, plan.kernel)
    freed = _timed(tree, plan, plan.pool.persistent, clock)
    if times is not None:
        times["allocate", on].append(taken // plan.pages)
        times["free", on].append(freed // plan.pages)
    return memmap_change(
        plan.kernel, before, plan.pool.size, (plan.pages * on, plan.pages * on), after
    )


def _timed(tree: Tree, plan: _Plan, count: int, clock: Clock) -> int:
    """Set the pool and return the nanoseconds that took; raises `Stopped` when it did not get
    there.
    """
    started = clock()
    tree.write(plan.pool.path, str(count))
    took = clock() - started
    pool = read_pool(tree, plan.pool.size, plan.pool.node)
    if (pool.persistent, pool.surplus) != (count, 0):
        raise Stopped(
            f"{tree.path(pool.path)}: {pool.persistent} pages and {pool.surplus} surplus ones"
            f" instead of {count}"
        )
    return took


def _writes(plan: _Plan) -> tuple[Write, ...]:
    """What all rounds write."""
    base = plan.pool.persistent
    one = [
        (
            Write(GATE, str(on)),
            Write(plan.pool.path, str(base + plan.pages)),
            Write(plan.pool.path, str(base)),
        )
        for on in (0, 1)
    ]
    return (*(write for half in one for write in half),) * (plan.rounds + 1) + (
        Write(GATE, str(int(plan.kernel.enabled))),
    )


def _result(plan: _Plan, outcome: Outcome, times: dict[tuple[str, bool], list[int]]) -> HostBench:
    details = {
        "size": plan.pool.size,
        "node": plan.pool.node,
        "pages": plan.pages,
        "rounds": plan.rounds,
    }
    return HostBench(
        replace(outcome, details=details),
        {key: Timing(tuple(rounds)) for key, rounds in times.items()},
    )
