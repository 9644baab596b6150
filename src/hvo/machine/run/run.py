"""One run: build a machine, fill or size a pool, optimise, count, restore, count again, and say
which guarantees held.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from hvo.errors import HvoError
from hvo.kernel.image import KernelMemory
from hvo.layout.units import format_size
from hvo.machine.cores.save import save_core
from hvo.machine.machine import Machine, VmemmapEntry
from hvo.machine.run.cmdline import BootParameters, boot_with
from hvo.machine.run.guarantees import guarantees
from hvo.machine.run.measured import (
    Optimized,
    Sample,
    frames_return,
    freed_frames,
    optimized_pools,
    saves,
    tails_read_only,
)
from hvo.machine.run.memmap import Memmap, memmap
from hvo.machine.run.results import MachineShape, PoolResult, RunResult, Seconds
from hvo.machine.scenario.scenario import Snapshot, run_scenario
from hvo.vmemmap.era import Era
from hvo.world.shared_tails import zone_tails

SAMPLE_PAGES, SAMPLE_ENTRIES = 16, 64
"""How many huge pages the result shows one by one, and how many vmemmap pages of each."""


@dataclass(frozen=True)
class Request:
    """What to run; sizes in bytes.

    `hugepage_size` None is the size that a PMD maps, `pages` None as many as memory holds (or, with
    `boot` or `like` and without `fill`, the pages that are there). A machine `like` a core has that
    core's architecture and memory, and its era where `era` is None. `save` gets the machine as
    optimised.
    """

    arch: str
    page_size: int
    memory: int
    nodes: int
    era: Era | None
    hugepage_size: int | None = None
    pages: int | None = None
    fill: bool = False
    boot: BootParameters | None = None
    like: Path | KernelMemory | None = None
    scenario: Path | None = None
    save: Path | None = None


class _Clock:
    """Announces the phases of a run, and adds up how long each kind took."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def time(self, kind: str, phase: str, work: Callable[[], Any]) -> Any:
        """Announce `phase`, do `work`, add its time to `kind` -> what it gave."""
        self._announce(phase)
        began = perf_counter()
        result = work()
        self.seconds[kind] += perf_counter() - began
        return result


@dataclass(frozen=True)
class _Start:
    """What was there before pages were optimised; after a scenario: before it began."""

    before: Memmap
    sample: Sample | None = None
    snapshots: tuple[Snapshot, ...] | None = None


def run(request: Request, announce: Callable[[str], None]) -> RunResult:
    """Do the run, and `announce` each phase by name before it begins.

    Raises HvoError for what cannot be built, for more pages than memory holds, and for a scenario
    that cannot run.
    """
    clock = _Clock(announce)
    machine: Machine = clock.time("build", "build the machine", partial(_build, request))
    if request.scenario is not None:
        start = _run_scenario(machine, request, request.scenario, clock)
        return _finish(machine, request, _size(machine, request), start, clock)
    if request.boot is not None:
        boot_with(machine, request.boot)
    size = _size(machine, request)
    return _finish(machine, request, size, _run_pool(machine, request, size, clock), clock)


def _build(request: Request) -> Machine:
    if request.like is not None:
        return Machine.like(request.like, era=request.era, boot=request.scenario is not None)
    return Machine.build(
        request.arch,
        request.page_size,
        request.memory,
        era=request.era or "7.1",
        nodes=request.nodes,
        gate=False,
    )


def _size(machine: Machine, request: Request) -> int:
    """The pool that the run is about: the one asked for, else the first one of the boot parameters,
    else the default.
    """
    booted = [pool.size for pool in request.boot.pools] if request.boot else []
    return machine.pool(
        request.hugepage_size or next(filter(None, booted), machine.default_size)
    ).size


# -- getting pages optimised --


def _run_scenario(machine: Machine, request: Request, path: Path, clock: _Clock) -> _Start:
    before: Memmap = clock.time("audit", "walk the tables", partial(memmap, machine))
    if request.boot is not None:
        boot_with(machine, request.boot)
    snapshots: list[Snapshot] = clock.time(
        "optimize", "run the scenario", partial(run_scenario, machine, path)
    )
    return _Start(before, snapshots=tuple(snapshots))


def _run_pool(machine: Machine, request: Request, size: int, clock: _Clock) -> _Start:
    """Fill the pool and optimise all of it; what is optimised already, from boot or in a core, is
    restored first, to count the whole.
    """
    clock.time("pool", "fill the pool", partial(_fill, machine, request, size))
    _restore(machine)
    machine.world.costs.taken()
    before: Memmap = clock.time("audit", "walk the tables", partial(memmap, machine))
    start = _Start(before, Sample(machine, size))
    clock.time("optimize", "optimise", partial(machine.optimize, size))
    return start


def _fill(machine: Machine, request: Request, size: int) -> None:
    """Give the pool the pages asked for; without a number those that are there from boot, or else
    all that memory holds.
    """
    pool = machine.pool(size)
    most = machine.plan.memory_frames >> pool.order
    if request.pages is not None:
        machine.resize(size, min(request.pages, most))
        if pool.nr() < request.pages:
            raise HvoError(
                f"{request.pages} pages of {format_size(size)}: the memory of the machine holds at"
                f" most {most}"
            )
    elif (request.fill or not pool.nr()) and not machine.fill(size):
        raise HvoError(
            f"HugeTLB size {format_size(size)}: the memory of the machine holds no page of it, give"
            " it more"
        )


# -- counting, and undoing it --


def _finish(
    machine: Machine, request: Request, size: int, start: _Start, clock: _Clock
) -> RunResult:
    after: Memmap = clock.time("audit", "walk the tables", partial(memmap, machine))
    pools: list[Optimized] = clock.time(
        "audit", "count optimised pages", partial(optimized_pools, machine)
    )
    pool = PoolResult(size, machine.pool(size).nr(), machine.optimized(size).size)
    rows = _sample_rows(machine, size)
    if request.save is not None:
        clock.time("save", "save the core", partial(save_core, machine, request.save))
    optimizing = machine.world.costs.taken()
    clock.time("restore", "restore", partial(_restore, machine))
    restoring = machine.world.costs.taken()
    restored: Memmap = clock.time("audit", "walk the tables", partial(memmap, machine))
    measured = (
        saves(start.before, after, freed_frames(pools), scenario=request.scenario is not None),
        tails_read_only(machine, after, pools),
        frames_return(machine, restored, start.sample),
        *clock.time(
            "guarantees", "measure the other guarantees", partial(guarantees, machine, size)
        ),
    )
    shape = machine.plan.geometry
    memory = machine.plan.memory_frames * shape.page_size
    seconds = Seconds(
        **{part: clock.seconds[part] for part in ("build", "optimize", "restore", "audit")}
    )
    of = MachineShape(shape.arch, shape.page_size, memory, shape.struct_page_size)
    name = machine.world.vmemmap.era.variant
    return RunResult(
        of,
        name,
        pool,
        start.before,
        after,
        restored,
        rows,
        measured,
        seconds,
        start.snapshots,
        (optimizing, restoring) if machine.world.vmemmap.era.proposal else None,
    )


def _sample_rows(machine: Machine, size: int) -> tuple[tuple[bool, ...], ...]:
    heads = machine.pool(size).heads()[:SAMPLE_PAGES].tolist()
    tails = set(zone_tails(machine.world, [machine.pool(size).order]).tolist())
    return tuple(
        tuple(_own_frames(machine.entries(head, size)[:SAMPLE_ENTRIES], tails)) for head in heads
    )


def _own_frames(entries: list[VmemmapEntry], tails: set[int]) -> Iterator[bool]:
    """Whether each of `entries` is writable and the first to map its frame, which is none of the
    shared `tails`.
    """
    seen = set(tails)
    for entry in entries:
        yield entry.writable and entry.frame not in seen
        seen.add(entry.frame)


def _restore(machine: Machine) -> None:
    """Restore every optimised page of every pool, whether it is in use or not."""
    for size in machine.pools:
        if (heads := machine.optimized(size)).size:
            machine.restore(size, heads)
