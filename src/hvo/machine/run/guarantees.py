"""Guarantees of the mechanism, as the patch for arm64 states them, measured on machines of the
given shape.

`saves`, `tails-read-only` and `frames-return` are measured on the big machine itself
(`hvo.machine.run.measured`); these need a machine of their own: small, but with the same tables,
sizes and era.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvo.actors.dcache import flush_dcache_page, sync_icache_dcache
from hvo.actors.hotplug import Block, add_memory, remove_memory
from hvo.kernel.hugetlb import Gate
from hvo.machine.machine import Machine
from hvo.machine.run.alignment import EMPTY, arguments
from hvo.machine.run.dumps import ptdump
from hvo.machine.run.results import Guarantee
from hvo.machine.run.shape import Shape
from hvo.mmu.access import PageFault
from hvo.mmu.walk import walk
from hvo.steps.base import strided

_SUBPAGES = 24  # of a huge page, that the cache guarantee tries
_LARGEST = 1 << 30


def guarantees(machine: Machine, size: int) -> list[Guarantee]:
    """The guarantees for machines shaped like `machine`.

    What is shown step by step or subpage by subpage takes pages of the size that a PMD maps, the
    others pages of `size` bytes up to 1 GiB.
    """
    geometry = machine.plan.geometry
    shape = Shape(
        geometry.arch, geometry.page_size, size, geometry.section_size, machine.world.vmemmap.era
    )
    default = replace(
        shape, size=next(huge.size for huge in geometry.hugepages if huge.kind == "pmd")
    )
    if size > _LARGEST or not geometry.optimizable(size, shape.era.name):
        shape = default
    return [
        dcache_head(default),
        hot_remove(default),
        ptdump(default),
        restore_fails_safe(shape),
        gate(shape),
    ]


# -- dcache-head --


def dcache_head(shape: Shape) -> Guarantee:
    """Flushing any subpage touches the head's flags only, optimised or not; the version before the
    fix faults, or changes many tails where they are writable.
    """
    fixed = replace(shape.era, fixes=shape.era.fixes | {"dcache-head"})
    touched = [
        _touched_by_flushes(shape.machine(1, gate=on, variant=fixed), shape.size)
        for on in (True, False)
    ]
    harm = _harm_before_the_fix(shape)
    evidence = (
        f"{touched[0][1]} subpages flushed with the gate on and {touched[1][1]} with it off changed"
        f" {touched[0][0]} and {touched[1][0]} words other than the head's flags; before the fix:"
        f" {harm or 'no harm'}"
    )
    holds = touched[0][0] == touched[1][0] == 0 and harm is not None
    return Guarantee(
        "dcache-head",
        "flush_dcache_page() of any subpage writes only the head's flags",
        holds,
        evidence,
    )


def _touched_by_flushes(machine: Machine, size: int) -> tuple[int, int]:
    """Sync and flush subpages -> words of the vmemmap that changed other than the head's flags (or
    the head's did not), and subpages.
    """
    v, head = machine.world.vmemmap, int(machine.pool(size).heads()[0])
    subpages = (
        np.unique(np.linspace(0, (1 << machine.hstate(size).order) - 1, _SUBPAGES).astype(np.int64))
        + head
    )
    flag = machine.world.layout.fields["dcache_clean"]
    wrong = 0
    for subpage in subpages.tolist():
        for actor, expected in ((sync_icache_dcache, 1), (flush_dcache_page, 0)):
            before = _struct_pages(machine, size)
            machine.run(actor(v, subpage))
            changed = np.flatnonzero((before != _struct_pages(machine, size)).ravel())
            is_set = int(flag.decode(_struct_pages(machine, size).ravel()[:1])[0])
            wrong += int(np.count_nonzero(changed)) + (is_set != expected)
    return wrong, subpages.size


def _struct_pages(machine: Machine, size: int) -> NDArray[np.uint64]:
    """The words of the frames behind the vmemmap of the first huge page; word 0 is the head's
    flags.
    """
    v, head = machine.world.vmemmap, int(machine.pool(size).heads()[0])
    addresses = strided(v.address(head), v.vmemmap_pages(machine.hstate(size).order), v.page_size)
    frames = machine.world.frame_of(addresses)
    return machine.world.memory.read_frames(
        frames[np.sort(np.unique(frames, return_index=True)[1])]
    )


def _harm_before_the_fix(shape: Shape) -> str | None:
    """What happens when a tail's own flags are written in an optimised page -> the fault, or how
    many struct pages changed; None when there was neither.
    """
    machine = shape.machine(1, variant=replace(shape.era, fixes=shape.era.fixes - {"dcache-head"}))
    tail = int(machine.pool(shape.size).heads()[0]) + (1 << machine.hstate(shape.size).order) - 1
    before = _as_mapped(machine, shape.size)
    try:
        machine.run(sync_icache_dcache(machine.world.vmemmap, tail))
    except PageFault as fault:
        return fault.why
    changed = int(np.count_nonzero((before != _as_mapped(machine, shape.size)).any(axis=1)))
    return f"no fault, and one write changed {changed} struct pages" if changed else None


def _as_mapped(machine: Machine, size: int) -> NDArray[np.uint64]:
    """The struct pages of the first huge page as the kernel reads them, shape (struct pages,
    words).
    """
    v, head = machine.world.vmemmap, int(machine.pool(size).heads()[0])
    pages = v.vmemmap_pages(machine.hstate(size).order)
    frames = machine.world.frame_of(strided(v.address(head), pages, v.page_size))
    return machine.world.memory.read_frames(frames).reshape(-1, v.struct_page_size // 8)


# -- hot-remove --


def hot_remove(shape: Shape) -> Guarantee:
    """Pools churn beside blocks that come and go, and no table that maps anything is freed; and the
    alignment argument, for every row.
    """
    machine = shape.machine(2)
    try:
        rounds, bad = _churn(machine, shape)
    except PageFault as fault:
        return Guarantee(
            "hot-remove",
            "hot-remove frees no page table that is in use",
            False,
            f"a block was removed beside a pool: {fault}",
        )
    rows = arguments()
    failing = [argument for argument in rows if not argument.premise_holds]
    names = ", ".join(map(str, failing))
    evidence = (
        f"{rounds} blocks added and removed beside a pool that grew and shrank: {bad} vmemmap pages"
        f" lost their table or their frame; alignment carries {len(rows) - len(failing)} of"
        f" {len(rows)} sizes, not {names}: there {EMPTY}"
    )
    return Guarantee(
        "hot-remove", "hot-remove frees no page table that is in use", bad == 0, evidence
    )


def _churn(machine: Machine, shape: Shape) -> tuple[int, int]:
    """Add and remove blocks while the pool changes -> rounds, and vmemmap pages that were not
    mapped, or to a free frame, at any time.
    """
    v, root, frames = (
        machine.world.vmemmap,
        machine.world.root,
        shape.section_size // shape.page_size,
    )
    end, bad, rounds = machine.plan.end, 0, 3
    for turn in range(rounds):
        block = Block(end, frames)
        for action in (
            lambda block=block: machine.run(add_memory(v, root, block)),
            lambda turn=turn: machine.resize(shape.size, turn),
            lambda: machine.resize(shape.size, 3),
            lambda block=block: machine.run(remove_memory(v, root, block)),
            lambda: machine.resize(shape.size, 2),
        ):
            action()
            bad += _unsound(machine)
    return rounds, bad


def _unsound(machine: Machine) -> int:
    """Pages of the vmemmap of the machine's memory that are not mapped, or mapped to a frame that
    is free.
    """
    v, bad = machine.world.vmemmap, 0
    for node in machine.plan.nodes:
        addresses = np.arange(
            int(v.address(node.memory[0])),
            int(v.address(node.memory[1])),
            v.page_size,
            dtype=np.uint64,
        )
        found = walk(machine.world.memory, v.format, machine.world.root, addresses)
        free = machine.world.zones.is_free(
            (found.address[found.valid] // np.uint64(v.page_size)).astype(np.int64)
        )
        tables = machine.world.zones.is_free(
            (found.location[found.valid] // np.uint64(v.page_size)).astype(np.int64)
        )
        bad += int(
            np.count_nonzero(~found.valid) + np.count_nonzero(free) + np.count_nonzero(tables)
        )
    return bad


# -- ptdump --


# -- restore-fails-safe --


def restore_fails_safe(shape: Shape) -> Guarantee:
    """With frames refused from the k-th on, for several k, the page stays: optimised, readable,
    surplus; it leaves when memory is back.
    """
    machine = shape.machine(1)
    needed = (
        machine.world.vmemmap.vmemmap_pages(machine.hstate(shape.size).order)
        - shape.era.layout.kept_pages
    )
    tries = sorted({0, 1, needed // 2, needed - 1})
    bad = sum(_restore_with(machine, shape.size, allowed) for allowed in tries)
    free = machine.world.zones.free_pages
    machine.resize(shape.size, 0)
    left = machine.pool(shape.size).nr()
    taken = free - machine.world.zones.free_pages + (1 << machine.hstate(shape.size).order)
    evidence = (
        f"refused after {', '.join(map(str, tries))} of {needed} frames: {bad} times something was"
        f" lost; with memory back {'the page left' if not left else 'the page is still there'},"
        f" taking {taken} frames"
    )
    return Guarantee(
        "restore-fails-safe",
        "a page whose restore fails stays in the pool, intact",
        not bad and not left,
        evidence,
    )


def _restore_with(machine: Machine, size: int, allowed: int) -> bool:
    """Shrink the pool while only `allowed` frames are to be had -> whether anything is wrong after
    that.
    """
    before, free = _struct_pages(machine, size), machine.world.zones.free_pages
    machine.world.zones.fail_after = allowed
    machine.resize(size, 0)
    machine.world.zones.fail_after = None
    pool = machine.pool(size)
    stayed = (pool.nr(), pool.nr_surplus(), machine.optimized(size).size) == (1, 1, 1)
    whole = (
        stayed
        and np.array_equal(before, _struct_pages(machine, size))
        and machine.world.zones.free_pages == free
    )
    machine.resize(size, 1)  # a surplus page becomes persistent again
    return not (whole and pool.nr_surplus() == 0)


# -- gate --


def gate(shape: Shape) -> Guarantee:
    """The switch decides about pages allocated from then on, and about those only; without the
    build option there is none.
    """
    machine = shape.machine(1, gate=False)
    counts = [machine.optimized(shape.size).size]
    machine.set_gate(True)
    for pages, on in ((2, True), (3, False)):
        machine.set_gate(on)
        machine.resize(shape.size, pages)
        counts.append(machine.optimized(shape.size).size)
    absent = shape.machine(1, gate=Gate(built_in=False, boot=True))
    absent.set_gate(True)
    absent.resize(shape.size, 2)
    without = absent.optimized(shape.size).size
    evidence = (
        f"{counts[0]} optimised with the gate off, {counts[1]} after one more with it on,"
        f" {counts[2]} after one more with it off again; {without} in a kernel without the build"
        " option"
    )
    return Guarantee(
        "gate",
        "only pages allocated while the optimisation is on are optimised",
        counts == [0, 1, 1] and without == 0,
        evidence,
    )
