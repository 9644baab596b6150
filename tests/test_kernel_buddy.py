"""The page allocator against a plain one of lists and sets, and the laws that bulk execution rests
on.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.errors import HvoError
from hvo.kernel.block_set import BlockSet
from hvo.kernel.buddy import AllocatorError, Zone
from hvo.kernel.zones import Zones

START, END, MAX = 24, 216, 4  # a zone whose ends are not aligned to its largest blocks of 16 frames
QUICK = settings(derandomize=True, max_examples=120, deadline=None)


def pfns(*numbers):
    return np.array(numbers, np.int64)


@dataclass
class PlainZone:
    """The same allocator, one frame and one block at a time, written as plainly as can be."""

    max_order: int = MAX
    free_area: list[set[int]] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.free_area = [set() for _ in range(self.max_order + 1)]
        for pfn in range(START, END):
            self.put(pfn, 0)

    def put(self, pfn, order):
        while order < self.max_order and pfn ^ (1 << order) in self.free_area[order]:
            self.free_area[order].remove(pfn ^ (1 << order))
            pfn, order = pfn & ~(1 << order), order + 1
        self.free_area[order].add(pfn)

    def get(self, order):
        for larger in range(order, self.max_order + 1):
            if self.free_area[larger]:
                pfn = min(self.free_area[larger])
                self.free_area[larger].remove(pfn)
                for half in range(larger - 1, order - 1, -1):
                    self.free_area[half].add(pfn + (1 << half))
                return pfn
        return None

    def allocate_frame(self):
        for order in range(self.max_order + 1):
            if not self.queue and self.free_area[order]:
                pfn = min(self.free_area[order])
                self.free_area[order].remove(pfn)
                self.queue += range(pfn, pfn + (1 << order))
        return self.queue.pop(0) if self.queue else None

    def drain(self):
        queued, self.queue = self.queue, []
        for pfn in queued:
            self.put(pfn, 0)

    def allocate(self, order):
        pfn = self.get(order)
        if pfn is None:
            self.drain()
            pfn = self.get(order)
        return pfn


def state(zone):
    """Everything of a zone that a later allocation could depend on."""
    starts, orders = zone.free_blocks()
    blocks = list(zip(starts.tolist(), orders.tolist(), strict=True))
    every = np.arange(zone.start_pfn, min(zone.end_pfn, zone.start_pfn + (1 << 16)))
    free = np.packbits(zone.is_free(every)).tobytes()
    return (
        blocks,
        zone.queued_frames().tolist(),
        zone.free_pages,
        zone.managed_pages,
        zone.fail_after,
        free,
    )


def plain_state(plain):
    blocks = sorted((pfn, order) for order, found in enumerate(plain.free_area) for pfn in found)
    return blocks, plain.queue


# What to do: (action, amount); which of the things held is freed follows from the amount.
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["frames", "free frames", "blocks 1", "blocks 2", "blocks 4", "free block", "drain"]
        ),
        st.integers(0, 40),
    ),
    max_size=30,
)


def one(zone):
    """One single-frame allocation: the frame or None."""
    got = zone.allocate_frames(1)
    return None if got is None else int(got[0])


class Pair:
    """A zone driven in bulk and a plain one driven one by one, holding the same."""

    def __init__(self):
        self.zone, self.plain = Zone(0, "Normal", START, END, MAX), PlainZone()
        self.frames: list[int] = []
        self.blocks: list[tuple[int, int]] = []

    def do(self, action, amount):
        name, _, order = action.partition(" ")
        getattr(self, f"do_{name}_{order}" if name == "free" else f"do_{name}")(
            amount, *([int(order)] if name == "blocks" else [])
        )

    def do_frames(self, amount):
        expected = [self.plain.allocate_frame() for _ in range(amount)]
        expected = [pfn for pfn in expected if pfn is not None]
        assert self.zone.allocate_upto(amount).tolist() == expected
        self.frames += expected

    def do_free_frames(self, amount):
        gone, self.frames = self.frames[-amount:][::-1], self.frames[: -amount or None]
        gone = gone if amount else []
        self.zone.free_frames(pfns(*gone))
        self.plain.queue += gone

    def do_blocks(self, amount, order):
        expected = [self.plain.allocate(order) for _ in range(amount)]
        expected = [pfn for pfn in expected if pfn is not None]
        assert self.zone.allocate(order, amount).tolist() == expected
        self.blocks += [(pfn, order) for pfn in expected]

    def do_free_block(self, amount):
        if self.blocks:
            order = self.blocks[amount % len(self.blocks)][1]
            gone = [pfn for pfn, other in self.blocks if other == order][: amount + 1][::-1]
            self.blocks = [
                block for block in self.blocks if block not in {(pfn, order) for pfn in gone}
            ]
            self.zone.free(pfns(*gone), order)
            for pfn in gone:
                self.plain.put(pfn, order)

    def do_drain(self, _amount):
        self.zone.drain()
        self.plain.drain()


@QUICK
@given(ACTIONS)
def test_bulk_calls_equal_a_plain_allocator_called_one_by_one(actions):
    """Any sequence of calls leaves the same blocks, the same queue and gives the same frames."""
    pair = Pair()
    for action, amount in actions:
        pair.do(action, amount)
        assert state(pair.zone)[:2] == plain_state(pair.plain)
        held = len(pair.frames) + sum(1 << order for _, order in pair.blocks)
        assert pair.zone.free_pages + held == pair.zone.managed_pages == END - START


@QUICK
@given(ACTIONS)
def test_freeing_everything_and_draining_gives_the_first_state_again(actions):
    """Coalescing loses nothing: whatever happened, the blocks are those of a new zone in the
    end.
    """
    pair = Pair()
    for action, amount in actions:
        pair.do(action, amount)
    pair.zone.free_frames(pfns(*pair.frames))
    for pfn, order in pair.blocks:
        pair.zone.free(pfns(pfn), order)
    pair.zone.drain()
    assert state(pair.zone) == state(Zone(0, "Normal", START, END, MAX))


def prepared(actions):
    """A zone after `actions`; the same actions give the same zone."""
    pair = Pair()
    for action, amount in actions:
        pair.do(action, amount)
    return pair


@QUICK
@given(ACTIONS, st.integers(0, 220))
def test_allocating_n_frames_equals_n_times_one(actions, count):
    """... or is refused as a whole, exactly when one of the n would have failed."""
    bulk, single = prepared(actions).zone, prepared(actions).zone
    before = state(bulk)
    frames = bulk.allocate_frames(count)
    ones = [one(single) for _ in range(count)]
    if frames is None:
        assert None in ones
        assert state(bulk) == before
    else:
        assert frames.tolist() == ones
        assert state(bulk) == state(single)


@QUICK
@given(ACTIONS, st.randoms(use_true_random=False))
def test_freeing_an_array_equals_freeing_one_by_one(actions, random):
    """The array's order is the queue's order."""
    bulk, single = prepared(actions), prepared(actions)
    frames = list(bulk.frames)
    random.shuffle(frames)
    bulk.zone.free_frames(pfns(*frames))
    for pfn in frames:
        single.zone.free_frames(pfns(pfn))
    assert state(bulk.zone) == state(single.zone)


@QUICK
@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 3))
def test_frames_freed_in_between_change_nothing_while_the_queue_holds_enough(rounds, each, freed):
    """The law by which "for each page: allocate `each`, free `freed`" runs as one allocation and
    one free.
    """

    def zone():
        zone = Zone(0, "Normal", START, END, MAX)
        old = zone.allocate_frames(60)
        zone.free_frames(zone.allocate_frames(rounds * each))
        return zone, old.reshape(-1, 1)[: rounds * freed].reshape(rounds, freed)

    bulk, old = zone()
    together = bulk.allocate_frames(rounds * each)
    bulk.free_frames(old.reshape(-1))
    single, old = zone()
    apart = []
    for row in old:
        apart += [one(single) for _ in range(each)]
        single.free_frames(row)
    assert together.tolist() == apart
    assert state(bulk) == state(single)


@QUICK
@given(ACTIONS, st.integers(0, 30), st.sampled_from([0, 1, 2, 4]), st.integers(0, 40))
def test_an_injected_failure_strikes_bulk_calls_where_it_strikes_single_ones(
    actions, limit, order, count
):
    """`fail_after` counts frames or blocks that were given, and a bulk call gives those before
    it.
    """
    bulk, single = prepared(actions).zone, prepared(actions).zone
    bulk.fail_after = single.fail_after = limit
    got = bulk.allocate(order, count).tolist()
    ones = [pfn for _ in range(count) for pfn in single.allocate(order, 1).tolist()]
    assert got == ones
    assert len(got) <= limit
    assert state(bulk) == state(single)


def test_all_or_nothing_refuses_beyond_the_injected_limit_and_changes_nothing():
    zone = Zone(0, "Normal", START, END, MAX)
    zone.fail_after = 5
    before = state(zone)
    assert zone.allowed(9) == 5
    assert zone.allocate_frames(6) is None
    assert state(zone) == before
    assert len(zone.allocate_frames(5)) == 5
    assert zone.allocate_frames(1) is None
    assert not zone.allocate_range(160, 176)
    zone.fail_after = None
    assert len(zone.allocate_frames(1)) == 1


@QUICK
@given(ACTIONS, st.lists(st.integers(0, 60), max_size=4), st.lists(st.integers(0, 60), max_size=4))
def test_rollback_takes_single_frame_allocations_back(actions, first, second):
    """Back to either of two nested marks, refills included; what follows goes as if nothing had
    been.
    """
    zone = prepared(actions).zone
    zone.fail_after = 100
    states, marks = [], []
    for counts in (first, second):
        states.append(state(zone))
        marks.append(zone.mark())
        for count in counts:
            zone.allocate_upto(count)
    for mark, expected in zip(marks[::-1], states[::-1], strict=True):
        zone.rollback(mark)
        assert state(zone) == expected
    fresh = prepared(actions).zone
    zone.fail_after = None
    assert zone.allocate(1, 40).tolist() == fresh.allocate(1, 40).tolist()
    assert state(zone) == state(fresh)
    assert zone.allocate_upto(220).tolist() == fresh.allocate_upto(220).tolist()
    assert state(zone) == state(fresh)


@pytest.mark.parametrize("other", ["free", "block", "drain"])
def test_anything_but_a_single_allocation_makes_a_mark_void(other):
    zone = Zone(0, "Normal", START, END, MAX)
    frames = zone.allocate_frames(3)
    mark = zone.mark()
    match other:
        case "free":
            zone.free_frames(frames)
        case "block":
            zone.allocate(2, 1)
        case "drain":
            zone.drain()
    with pytest.raises(AllocatorError, match="void mark"):
        zone.rollback(mark)


def test_a_long_history_keeps_the_queue_in_order():
    """Frames that go round and round (the ring wraps and grows) come out first in, first out."""
    zone = Zone(0, "Normal", 0, 1 << 17)
    queue = zone.allocate_frames(3000).tolist()
    zone.free_frames(pfns(*queue))
    queue = zone.queued_frames().tolist()
    for step in range(200):
        out = zone.allocate_frames(1 + step * 37 % len(queue))
        assert out.tolist() == queue[: len(out)]
        queue = queue[len(out) :] + out[::-1].tolist()
        zone.free_frames(out[::-1])
        if step % 20 == 19:
            more = zone.allocate(6, step)
            more = (more[:, None] + np.arange(64)).reshape(-1)
            zone.free_frames(more)
            queue += more.tolist()
    assert zone.queued_frames().tolist() == queue


def test_rollback_brings_back_more_frames_than_the_queue_had_room_for():
    """What was popped since the mark is kept while refills write over and over the rest of the
    ring.
    """
    zone = Zone(0, "Normal", 0, 1 << 16)
    zone.free_frames(zone.allocate_frames(3000)[::-1])
    zone.allocate_frames(500)
    before = state(zone)
    mark = zone.mark()
    given = [zone.allocate_frames(700).tolist() for _ in range(40)]
    assert zone.free_pages < (1 << 16) - 28000
    zone.rollback(mark)
    assert state(zone) == before
    assert [zone.allocate_frames(700).tolist() for _ in range(40)] == given


# --- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda zone, _: zone.free_frames(pfns(100)), "0x64 is free already"),
        (lambda zone, _: zone.free_frames(pfns(END)), "0xd8 is outside"),
        (lambda zone, _: zone.free_frames(pfns(START - 1)), "0x17 is outside"),
        (lambda zone, held: zone.free_frames(np.repeat(held, 2)), "0x18 is there twice"),
        (lambda zone, held: zone.free(held + 1, 3), "0x19 is not aligned"),
        (lambda zone, held: zone.free(held, 2), None),
        (lambda zone, held: zone.free(held + 8, 3), "0x20 is free already"),
        (lambda zone, _: zone.free(pfns(208), 4), "0xd0 is outside"),
        (lambda zone, held: zone.free(pfns(16), 4), "0x10 is outside"),
        (lambda zone, held: zone.free_range(START, START + 9), "0x20 is free already"),
        (lambda zone, held: zone.take(held), "0x18 is not free"),
        (lambda zone, held: zone.allocate(MAX + 1, 1), "above the highest"),
        (lambda zone, held: zone.allocate_gigantic(MAX), "not above the highest"),
        (lambda zone, held: zone.remove(START, START + 16), "not all free"),
        (lambda zone, held: zone.add(END - 1, END + 8), "overlap"),
    ],
)
def test_a_wrong_request_is_refused_by_name_and_changes_nothing(call, message):
    zone = Zone(0, "Normal", START, END, MAX)
    held = zone.allocate(3, 1)
    assert held.tolist() == [START]
    if message is None:
        call(
            zone, held
        )  # half of a block that was allocated whole may be freed alone, as in the kernel
        assert zone.is_free(held)[0]
        return
    before = state(zone)
    with pytest.raises(AllocatorError, match=message):
        call(zone, held)
    assert state(zone) == before


@pytest.mark.parametrize("order", range(1, 14))
def test_a_block_with_one_free_frame_anywhere_is_a_double_free(order):
    """Also when the free frame is deep inside, in the buddy lists or in the queue."""
    zone = Zone(0, "Normal", 0, 1 << 15, 13)
    start = int(zone.allocate(13, 2)[1])
    inside = start + (1 << order) - 1
    zone.free_frames(pfns(inside))
    for _ in range(2):
        with pytest.raises(AllocatorError, match="double free"):
            zone.free(pfns(start), order)
        zone.drain()
    zone.take(pfns(inside))
    zone.free(pfns(start), order)
    assert zone.is_free(pfns(start, inside)).all()


# --- ranges, gigantic pages, hotplug, reserved frames


@QUICK
@given(ACTIONS, st.integers(START, END - 1), st.integers(1, 70))
def test_a_range_is_taken_exactly_when_all_of_it_is_free(actions, start, length):
    """... whether its frames are in blocks or in the queue, and freeing it brings the blocks
    back.
    """
    zone = prepared(actions).zone
    end = min(start + length, END)
    every = np.arange(START, END)
    free = zone.is_free(every)
    taken = zone.allocate_range(start, end)
    inside = (every >= start) & (every < end)
    assert taken == free[inside].all()
    assert zone.is_free(every).tolist() == (free & ~(inside & taken)).tolist()
    if taken:
        zone.free_range(start, end)
        zone.drain()
        reference = prepared(actions).zone
        reference.drain()
        assert state(zone) == state(reference)


def test_gigantic_ranges_are_the_lowest_aligned_ones_that_are_wholly_free():
    zone = Zone(0, "Normal", 100, 1 << 12, 4)
    zone.take(pfns(600))
    zone.free_frames(zone.allocate_frames(1))  # the queue holds frames of the first range
    assert zone.allocate_gigantic(8, 3).tolist() == [256, 768, 1024]
    zone.free(pfns(256, 1024), 8)
    assert zone.allocate_gigantic(8, 1).tolist() == [256]
    assert len(zone.allocate_gigantic(8, 100)) == 12
    assert len(zone.allocate_gigantic(8, 1)) == 0
    assert not zone.is_free(pfns(600))[0]


def test_gigantic_allocation_drains_the_queue_when_it_finds_no_range():
    zone = Zone(0, "Normal", 0, 512, 4)
    zone.free_frames(zone.allocate_frames(512))
    assert zone.queued == 512
    assert zone.allocate_gigantic(8, 3).tolist() == [0, 256]
    assert zone.free_pages == 0
    zone.free_range(0, 256)
    zone.free_frames(zone.allocate_frames(256))
    zone.free(pfns(256), 8)
    assert zone.allocate_gigantic(8, 2).tolist() == [
        256,
        0,
    ]  # as two requests: only the second drains


def test_a_block_of_memory_comes_and_goes():
    zone = Zone(0, "Normal", 1 << 15, 1 << 16)
    first = state(zone)
    zone.add(1 << 16, 3 << 15)
    zone.add(5 << 15, 6 << 15)
    zone.add(0, 100)
    assert (zone.start_pfn, zone.end_pfn) == (0, 6 << 15)
    assert zone.managed_pages == zone.free_pages == zone.present_pages == 3 * (1 << 15) + 100
    frame = zone.allocate_frames(1)
    assert frame.tolist() == [96]  # the smallest block: the end of the 100 frames
    with pytest.raises(AllocatorError, match="cannot remove"):
        zone.remove(0, 100)
    zone.free_frames(frame)
    for start, end in ((0, 100), (5 << 15, 6 << 15), (1 << 16, 3 << 15)):
        zone.remove(start, end)
        assert not zone.is_free(pfns(start, end - 1)).any()
    with pytest.raises(AllocatorError, match="outside"):
        zone.free_frames(pfns(5 << 15))
    assert (
        state(zone)[:-1] == first[:-1]
    )  # the span, over which `state` asks for free frames, stays


def test_growing_the_span_keeps_queue_blocks_and_reserved_frames():
    zone = Zone(0, "Normal", 1 << 12, 1 << 13)
    zone.reserve(np.arange(5000, 5100))
    held = zone.allocate_frames(7)
    zone.free_frames(held[::2])
    queue, reserved = zone.queued_frames().tolist(), zone.is_reserved(np.arange(1 << 12, 1 << 13))
    zone.add(0, 1 << 12)
    assert zone.queued_frames().tolist() == queue
    assert zone.is_reserved(np.arange(1 << 12, 1 << 13)).tolist() == reserved.tolist()
    assert zone.free_pages == zone.managed_pages - 3
    with pytest.raises(AllocatorError, match="double free"):
        zone.free_frames(held[:1])
    zone.free_frames(held[1::2])
    zone.free_reserved(np.arange(5000, 5100))
    zone.drain()
    assert state(zone) == state(Zone(0, "Normal", 0, 1 << 13))


def test_reserved_frames_become_managed_the_first_time_they_are_freed():
    """MemTotal grows by frames freed that were reserved at boot, and by no other (mechanism.md,
    section 5).
    """
    zone = Zone(0, "Normal", 0, 4096)
    zone.reserve_range(1024, 1824)
    zone.reserve(np.arange(1824, 2048))
    assert (zone.managed_pages, zone.reserved_pages, zone.free_pages) == (3072, 1024, 3072)
    with pytest.raises(AllocatorError, match="0x402 is reserved"):
        zone.free_frames(pfns(1026))
    with pytest.raises(AllocatorError, match="0x408 is reserved"):
        zone.free(pfns(1032), 3)
    other = zone.allocate_frames(1)
    assert zone.free_reserved(np.concatenate((pfns(1030), other, pfns(1029)))) == 2
    assert zone.queued_frames()[-3:].tolist() == [1030, *other, 1029]
    assert (zone.managed_pages, zone.reserved_pages) == (3074, 1022)
    zone.drain()
    assert zone.allocate_range(1029, 1031)
    assert zone.free_reserved(pfns(1029, 1030)) == 0
    assert zone.managed_pages == zone.free_pages == 3074


def test_a_zone_can_be_put_into_any_state_of_free_frames():
    """Taking single frames leaves the largest blocks that can stand beside them."""
    zone = Zone(0, "Normal", 0, 64, 4)
    zone.take(pfns(37, 5))
    starts, orders = zone.free_blocks()
    assert list(zip(starts.tolist(), orders.tolist(), strict=True)) == [
        (0, 2),
        (4, 0),
        (6, 1),
        (8, 3),
        (16, 4),
        (32, 2),
        (36, 0),
        (38, 1),
        (40, 3),
        (48, 4),
    ]


# --- zones and nodes

GIB = (1 << 30) // 4096


def names(zones):
    return [
        (zone.node, zone.name, zone.start_pfn, zone.end_pfn, zone.managed_pages) for zone in zones
    ]


def test_the_usual_zones_of_x86_with_a_hole_below_4_gib():
    machine = Zones.standard(
        "x86_64", {0: [(1, 159), (256, 3 * GIB), (4 * GIB, 6 * GIB)]}, movable_frames=GIB
    )
    assert names(machine.zones) == [
        (0, "DMA", 1, 4096, 158 + 4096 - 256),
        (0, "DMA32", 4096, 3 * GIB, 3 * GIB - 4096),
        (0, "Normal", 4 * GIB, 5 * GIB, GIB),
        (0, "Movable", 5 * GIB, 6 * GIB, GIB),
    ]
    asked = pfns(0, 1, 159, 256, 4096, 3 * GIB, 4 * GIB, 6 * GIB - 1, 6 * GIB)
    assert machine.zone_of(asked).tolist() == [-1, 0, -1, 0, 1, -1, 2, 3, -1]
    assert machine.is_free(asked).tolist() == [
        False,
        True,
        False,
        True,
        True,
        False,
        True,
        True,
        False,
    ]


def test_the_usual_zones_of_arm64_nodes_and_a_movable_part_across_a_hole():
    ranges = {1: [(16 * GIB, 17 * GIB), (18 * GIB, 19 * GIB)], 0: [(GIB, 8 * GIB)]}
    machine = Zones.standard("arm64", ranges, movable_frames=GIB + 1)
    assert names(machine.zones) == [
        (0, "DMA", GIB, 4 * GIB, 3 * GIB),
        (0, "Normal", 4 * GIB, 7 * GIB - 1, 3 * GIB - 1),
        (0, "Movable", 7 * GIB - 1, 8 * GIB, GIB + 1),
        (1, "Normal", 16 * GIB, 17 * GIB - 1, GIB - 1),
        (1, "Movable", 17 * GIB - 1, 19 * GIB, GIB + 1),
    ]
    assert machine.managed_pages == 9 * GIB
    assert Zones.standard("arm64", {0: [(0, 1 << 20)]}, page_size=65536).zones[0].max_order == 13


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        (("mips", {0: [(0, GIB)]}, {}), "x86_64"),
        (("arm64", {0: [(0, GIB)]}, {"page_size": 8192}), "4096"),
        (("arm64", {0: [(0, 5 * GIB)]}, {"movable_frames": GIB}), f"{GIB} in Normal"),
    ],
)
def test_impossible_zones_are_refused_with_what_is_accepted(arguments, accepted):
    arch, ranges, more = arguments
    with pytest.raises(HvoError, match=accepted):
        Zones.standard(arch, ranges, **more)


def small_machine():
    """Three nodes; node 0 has two zones, node 1 a movable one."""
    return Zones(
        [
            Zone(0, "DMA", 0, 64, MAX),
            Zone(0, "Normal", 64, 128, MAX),
            Zone(1, "Normal", 128, 192, MAX),
            Zone(1, "Movable", 192, 256, MAX, movable=True),
            Zone(2, "Normal", 256, 320, MAX),
        ]
    )


def test_zonelist_goes_down_the_own_node_first_then_to_the_nearest():
    machine = small_machine()

    def order(node, **how):
        return [machine.zones.index(zone) for zone in machine.zonelist(node, **how)]

    assert order(0) == [1, 0, 2, 4]
    assert order(1) == [2, 1, 0, 4]
    assert order(1, movable=True) == [3, 2, 1, 0, 4]
    assert order(2, movable=True) == [4, 3, 2, 1, 0]
    assert order(1, this_node_only=True) == [2]


@QUICK
@given(
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.integers(0, 330),
    st.sampled_from([0, 2, 4]),
    st.none() | st.integers(0, 90),
)
def test_allocating_over_zones_equals_one_by_one(
    node, movable, this_node_only, count, order, limit
):
    """One zone after the other until each has no more, and kernel data never from a movable
    zone.
    """
    how = {"movable": movable, "this_node_only": this_node_only}
    bulk, single = small_machine(), small_machine()
    bulk.fail_after = single.fail_after = limit
    got = bulk.allocate(order, count, node, **how)
    ones = [pfn for _ in range(count) for pfn in single.allocate(order, 1, node, **how).tolist()]
    assert got.tolist() == ones
    assert [state(zone) for zone in bulk.zones] == [state(zone) for zone in single.zones]
    assert movable or not (bulk.zone_of(got) == 3).any()
    assert not this_node_only or all(bulk.zones[zone].node == node for zone in bulk.zone_of(got))
    if order == 0:
        again = small_machine()
        again.fail_after = limit
        assert again.allowed(count, node, **how) == len(got)
        frames = again.allocate_frames(count, node, **how)
        assert (frames is None) == (len(got) < count)


def test_freeing_over_zones_goes_home_and_rollback_spans_zones():
    machine = small_machine()
    first = [state(zone) for zone in machine.zones]
    mark = machine.mark()
    machine.allocate_upto(150, 1)
    machine.rollback(mark)
    assert [state(zone) for zone in machine.zones] == first
    frames = machine.allocate_frames(150, 1)
    machine.free_frames(frames[::-1])
    assert [zone.queued for zone in machine.zones] == [32, 64, 64, 0, 0]
    assert machine.free_pages == machine.managed_pages == 320
    machine.drain()
    assert [state(zone) for zone in machine.zones] == first
    with pytest.raises(AllocatorError, match="void mark"):
        machine.rollback(mark)
    with pytest.raises(AllocatorError, match="0x140 is in no zone"):
        machine.free_frames(pfns(3, 320))


def test_memory_added_to_a_machine_goes_to_its_zone_or_makes_one():
    machine = small_machine()
    assert machine.add(320, 384, 2) is machine.zones[4]
    movable = machine.add(384, 448, 2, movable=True)
    assert movable.movable
    assert machine.zone_of(pfns(319, 320, 384, 447, 448)).tolist() == [4, 4, 5, 5, -1]
    machine.fail_after = 1
    assert machine.allocate(2, 9, 2, movable=True).tolist() == [384]
    with pytest.raises(AllocatorError, match="not all free"):
        machine.remove(384, 448)
    machine.free(pfns(384), 2)
    machine.remove(384, 448)
    machine.remove(320, 352)
    assert machine.zone_of(pfns(319, 320, 352, 384)).tolist() == [4, -1, 4, -1]
    assert machine.managed_pages == 352


def test_reserving_a_range_over_two_zones_counts_in_both():
    machine = small_machine()
    machine.reserve_range(60, 70)
    assert [zone.reserved_pages for zone in machine.zones] == [4, 6, 0, 0, 0]
    assert machine.managed_pages == 310
    assert machine.free_reserved(pfns(69, 60)) == 2
    assert machine.managed_pages == machine.free_pages == 312
    assert machine.is_reserved(pfns(59, 60, 61, 68, 69, 70)).tolist() == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


# --- size


def test_a_set_over_16_tib_finds_its_few_members():
    """Members far apart, at both ends and on the borders of words and groups, are found in
    order.
    """
    there = pfns(0, 63, 64, 4095, 4096, 1 << 20, (1 << 31) + 1, (1 << 32) - 1)
    found = BlockSet(0, 1 << 32)
    found.add(there[::-1])
    assert found.members().tolist() == there.tolist()
    assert found.lowest(3).tolist() == [0, 63, 64]
    found.discard(there[:4])
    assert found.lowest(2).tolist() == [4096, 1 << 20]
    assert found.overlaps(pfns(0, 4096, 1 << 31, (1 << 31) + 2), 1).tolist() == [
        False,
        True,
        True,
        False,
    ]
    assert found.overlaps(pfns(0, 8192, (1 << 20) & ~8191), 13).tolist() == [True, False, True]


def test_a_zone_of_a_tebibyte_gives_and_takes_all_its_pages():
    zone = Zone(0, "Normal", 0, 1 << 28)
    first = state(zone)
    pages = zone.allocate(9, 1 << 20)
    assert (pages == np.arange(1 << 19) << 9).all()
    assert zone.free_pages == 0
    zone.free(np.random.default_rng(3).permutation(pages), 9)
    assert state(zone) == first
