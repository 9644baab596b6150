"""The guarantees that a run measures on the way: what optimising saves, that tails are read-only,
and that restoring gives all back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.struct_page import COUNTS, FLAGS, LINK, WORDS
from hvo.layout.units import format_size
from hvo.machine.machine import Machine
from hvo.machine.run.memmap import Memmap
from hvo.machine.run.results import Guarantee
from hvo.steps.base import strided
from hvo.world.struct_pages import are_sound

_SAMPLE = 32 << 20  # bytes of struct pages that are compared
_NOT_PROMISED = (
    "not promised on {arch}, which has no PAGE_KERNEL_RO of its own: {shared} of {pages} vmemmap"
    " pages have no frame of their own and stay writable, and a write to one silently changes every"
    " tail that shares the frame"
)


@dataclass(frozen=True)
class Optimized:
    """Pages of one size that the tables show optimised: how many, and vmemmap pages of each: all,
    and those given back.
    """

    size: int
    pages: int
    vmemmap_pages: int
    freed: int


def optimized_pools(machine: Machine) -> list[Optimized]:
    """The optimised pages of each pool, by walking the tables."""
    shape, name = machine.plan.geometry, machine.world.vmemmap.era.name
    return [
        Optimized(
            size,
            machine.optimized(size).size,
            shape.vmemmap_pages(size),
            shape.freed_pages(size, name),
        )
        for size in machine.pools
    ]


def freed_frames(pools: list[Optimized]) -> int:
    """Frames that the optimised pages of all pools should have given back."""
    return sum(pool.pages * pool.freed for pool in pools)


def saves(before: Memmap, after: Memmap, wanted: int, *, scenario: bool) -> Guarantee:
    """Walking the tables finds `wanted` frames less, and the page allocator has those more that did
    not go into tables and shared tails.

    A scenario's pools take and give memory themselves, so there the allocator's figure says
    nothing.
    """
    walked, gained = before.frames - after.frames, after.free - before.free
    tables, shared = after.tables - before.tables, after.shared - before.shared
    evidence = f"{walked} frames ({format_size(walked * before.page_size)}) by walking the tables"
    if not scenario:
        evidence += (
            f"; the page allocator has {gained} more, {tables} went into split tables and {shared}"
            " into shared tails"
        )
    holds = walked == wanted and (scenario or walked == gained + tables + shared)
    return Guarantee(
        "saves",
        "every optimised page frees all of its vmemmap pages but the kept ones",
        holds,
        evidence,
    )


def tails_read_only(machine: Machine, after: Memmap, pools: list[Optimized]) -> Guarantee:
    """Every vmemmap page that was given back is mapped read-only, and nothing else is; where the
    architecture cannot say so (riscv64), that is not promised.
    """
    wanted = sum(pool.pages * _read_only_pages(machine, pool) for pool in pools)
    format = machine.world.vmemmap.format
    if format.protects:
        holds = after.read_only == wanted
        evidence = (
            f"{after.read_only} of {after.pages} vmemmap pages are mapped read-only, {wanted} have"
            " no frame of their own"
        )
    else:
        holds = None
        evidence = _NOT_PROMISED.format(arch=format.arch, shared=wanted, pages=after.pages)
    return Guarantee(
        "tails-read-only", "shared vmemmap pages are mapped read-only", holds, evidence
    )


def _read_only_pages(machine: Machine, pool: Optimized) -> int:
    return pool.vmemmap_pages - machine.world.vmemmap.era.layout.kept_pages if pool.freed else 0


class Sample:
    """What the struct pages of some huge pages of the pool of `size` say now: flags, link and
    counts; to be compared later.

    What else real struct pages hold means nothing in a tail, and is lost in real kernels too:
    left-overs of earlier use, and in the flags who used the page last (7.3 restores a tail without
    it). `left_out` names these fields.
    """

    def __init__(self, machine: Machine, size: int) -> None:
        v, heads = machine.world.vmemmap, machine.pool(size).heads()
        self._pages = v.vmemmap_pages(machine.pool(size).order)
        most = min(heads.size, 64, max(_SAMPLE // max(self._pages * v.page_size, 1), 1))
        self._machine, self._heads = (
            machine,
            (
                heads[np.unique(np.linspace(0, heads.size - 1, most).astype(np.int64))]
                if most
                else heads
            ),
        )
        self._structs = self._read()

    @property
    def count(self) -> int:
        """How many struct pages."""
        return len(self._structs)

    def differing(self) -> int:
        """How many of the struct pages are not what they were."""
        return int(np.count_nonzero((self._read() != self._structs).any(axis=1)))

    def _read(self) -> NDArray[np.uint64]:
        """Shape (struct pages, 3)."""
        v, memory = self._machine.world.vmemmap, self._machine.world.memory
        frames = self._machine.world.frame_of(
            strided(v.address(self._heads), self._pages, v.page_size).ravel()
        )
        said = memory.read_frames(frames).reshape(-1, WORDS)[:, [FLAGS, LINK, COUNTS]]
        if memory.backing is not None:
            said[:, 0] &= np.uint64((2 << self._last_flag) - 1)
        return said

    @property
    def _last_flag(self) -> int:
        """PG_hwpoison, behind which no flag says anything of a HugeTLB page."""
        return self._machine.world.layout.hwpoison_bit

    @property
    def left_out(self) -> str:
        """The fields that are not compared, for a machine whose struct pages a kernel wrote; else
        nothing.
        """
        if self._machine.world.memory.backing is None:
            return ""
        return (
            f" (left out, for a kernel leaves stale words there: flags above bit {self._last_flag},"
            " with zone, node and last CPU; mapping, index, private, memcg_data)"
        )


def frames_return(machine: Machine, restored: Memmap, sample: Sample | None) -> Guarantee:
    """After restoring, all struct pages have frames of their own again, and every huge page is one
    that the page allocator takes back.
    """
    world = machine.world
    unsound = sum(
        int(np.count_nonzero(~are_sound(world, pool.heads(), pool.order)))
        for pool in machine.pools.values()
        if pool.nr()
    )
    differing = sample.differing() if sample else 0
    compared = (
        f"; {differing} of {sample.count} struct pages compared differ from before{sample.left_out}"
        if sample
        else ""
    )
    evidence = (
        f"{restored.frames} frames behind {restored.pages} vmemmap pages; the page allocator"
        f" refused {len(world.lost)} blocks and would refuse {unsound} more{compared}"
    )
    holds = (
        restored.frames == restored.pages
        and not restored.read_only
        and not (unsound or differing or world.lost)
    )
    return Guarantee(
        "frames-return",
        "a restored page equals one that was never optimised, and can be freed",
        holds,
        evidence,
    )
