"""A plain search over two optimisers finds H04 and H14 in the variants that have them, and nothing
in those that do not.
"""

import numpy as np
import pytest

from hvo.kernel.hugetlb import Stack
from hvo.machine.machine import Machine
from hvo.mmu.access import PageFault
from hvo.steps.base import strided
from hvo.vmemmap.era import Era, era
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from plain_search import Actor, State, search


def two_optimisers(variant: Era, *, split_before: bool) -> State:
    """Two huge pages that share one leaf, each optimised by a CPU of its own."""
    machine = Machine.build(memory="128MiB", era=variant, gate=False)
    machine.resize("2MiB", 2)
    heads = machine.pool("2MiB").heads()
    order = machine.hstate("2MiB").order
    if split_before:
        machine.resize("2MiB", 3)
        machine.optimize("2MiB", machine.pool("2MiB").heads()[2:])
        if variant.layout.shares == "zone-tail":  # as if no page of the size had been optimised yet
            slot = machine.world.vmemmap.tail_slot(
                machine.world.vmemmap.zone_of(int(heads[0])), order
            )
            machine.world.memory.write_words(np.atleast_1d(slot), 0)

    def optimiser(head: int):
        return lambda m: hugetlb_vmemmap_optimize_folios(
            m.world.vmemmap, order, np.array([head], np.int64)
        )

    machine.plain_frames = table_frames(machine)
    return State(
        machine,
        [Actor(optimiser(int(head))) for head in heads],
        [Stack(), Stack()],
        {},
        [],
    )


def table_frames(machine: Machine) -> np.ndarray:
    """Frames of page tables and variables as they are at first, and those that come off the queue
    next: all that can differ.
    """
    world = machine.world
    world.zones.zones[0].free_frames(world.zones.allocate_frames(16, 0))
    reserved = np.flatnonzero(world.zones.is_reserved(np.arange(0, 8192)))
    written = np.intersect1d(reserved, world.memory.written())
    plain = [pfn for pfn in written.tolist() if world.memory._slots.get(np.array([pfn]))[0] > 0]
    return np.array([*plain, 1, *world.zones.zones[0].queued_frames()[:16].tolist()], np.int64)


def maps_a_free_frame(state: State, at_end: bool) -> str | None:
    """A page of the vmemmap of the two huge pages is mapped to a frame that the allocator has."""
    world = state.machine.world
    heads = state.machine.pool("2MiB").heads()[:2]
    try:
        frames = world.frame_of(
            strided(world.vmemmap.address(heads), 8, world.vmemmap.page_size)
        ).ravel()
    except PageFault as fault:
        return f"the vmemmap is not mapped: {fault}"
    free = world.zones.is_free(frames)
    return f"frame {frames[free][0]:#x} is mapped and free" if free.any() else None


LOCKED = ("split-lock-read",)  # leaf and frame are read together, so that H05 does not come first


@pytest.mark.parametrize(
    ("variant", "found"),
    [
        (era("5.14", add=LOCKED), True),
        (era("5.14", add=(*LOCKED, "split-recheck")), False),
        (era("5.18", add=LOCKED), False),
    ],
)
def test_h04_two_optimisers_split_one_leaf(variant: Era, found: bool) -> None:
    """Without a second look under the lock the later CPU installs its table over the earlier one's,
    whose frames are free by then.
    """
    result = search(two_optimisers(variant, split_before=False), maps_a_free_frame)
    assert (result is not None) is found, result
    if result:
        assert result[0].endswith("is mapped and free")
        assert {i for i, _ in result[1]} == {0, 1}


def test_h05_the_leafs_frame_is_read_outside_the_lock() -> None:
    """5.14 as it was: between its two loads another CPU splits, and the second one takes a table
    for the leaf.
    """
    result = search(two_optimisers(era("5.14"), split_before=False), maps_a_free_frame)
    assert result is not None
    assert "not mapped" in result[0]


@pytest.mark.parametrize(
    ("variant", "found"),
    [
        (era("7.1", drop=("publish-tail",)), True),
        pytest.param(era("7.1"), False, marks=pytest.mark.slow),
    ],
)
def test_h14_two_cpus_publish_different_shared_tails(variant: Era, found: bool) -> None:
    """With a plain store instead of compare-and-swap two CPUs can both publish; nobody knows the
    first frame any more.
    """
    start = two_optimisers(variant, split_before=True)

    def two_tails(state: State, at_end: bool) -> str | None:
        world = state.machine.world
        heads = state.machine.pool("2MiB").heads()[:2]
        last = world.frame_of(world.vmemmap.address(heads) + np.uint64(7 * world.vmemmap.page_size))
        optimized = state.machine.optimized("2MiB")
        mapped = set(last[np.isin(heads, optimized)].tolist())
        slot = world.vmemmap.tail_slot(
            world.vmemmap.zone_of(int(heads[0])), state.machine.hstate("2MiB").order
        )
        published = int(world.memory.read_words(np.atleast_1d(slot))[0])
        return (
            f"tails share {mapped}, published is {published:#x}" if mapped - {published} else None
        )

    result = search(start, two_tails)
    assert (result is not None) is found, result
    if result:
        assert [name for _, name in result[1]].count("WritePointer") == 2
