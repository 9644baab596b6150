"""The zones of a machine and which of them an allocation comes from (mm/page_alloc.c,
`build_zonelists`).

A request tries the zones of its own node from the highest to the lowest, then those of the other
nodes, nearest first (distance is the difference of the node ids, the lower id first where two are
equally near). A movable zone serves movable requests only: HugeTLB pages are movable, kernel data
(vmemmap frames, page tables) is not.

Several zones give what as many single requests would: the first one until it has no more, then the
next. What the kernel keeps back in lower zones (`lowmem_reserve`) is not modelled.

Frames are page frame numbers (pfn), int64 arrays of one dimension.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.buddy import AllocatorError, Zone, ZoneMark
from hvo.kernel.failure_injection import FailureInjection
from hvo.kernel.zone_layout import MAX_ORDERS, Range, ZoneMemory, zone_memory

Frames = NDArray[np.int64]


class Node(NamedTuple):
    """A NUMA node: its id and its zones, lowest first."""

    id: int
    zones: tuple[Zone, ...]


class Zones:
    """All zones of a machine; `zones` is in order of address within each node, nodes ascending."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self.zones = list(zones)
        self.failures = FailureInjection()
        for zone in self.zones:
            zone.failures = self.failures
        self._index_ranges()

    @classmethod
    def standard(
        cls,
        arch: str,
        ranges: Mapping[int, Sequence[Range]],
        *,
        page_size: int = 4096,
        movable_frames: int = 0,
    ) -> "Zones":
        """The zones a kernel makes of `ranges`: for each node the (first, last + 1) frames of its
        memory, ascending.

        The last `movable_frames` of each node make its Movable zone (`movablecore=`). Raises
        `HvoError` as `zone_memory`.
        """
        return cls(
            [
                _zone(node, part, MAX_ORDERS[page_size])
                for node, memory in sorted(ranges.items())
                for part in zone_memory(arch, memory, page_size, movable_frames)
            ]
        )

    def _index_ranges(self) -> None:
        spans = [
            (start, end, index)
            for index, zone in enumerate(self.zones)
            for start, end in zip(
                zone.present.starts.tolist(), zone.present.ends.tolist(), strict=True
            )
        ]
        self._starts, self._ends, self._owners = np.array(sorted(spans), np.int64).reshape(-1, 3).T

    # --- what there is

    @property
    def nodes(self) -> list[Node]:
        """The nodes, ascending."""
        ids = sorted({zone.node for zone in self.zones})
        return [Node(node, tuple(zone for zone in self.zones if zone.node == node)) for node in ids]

    @property
    def managed_pages(self) -> int:
        """Frames given to the allocators: MemTotal, in frames."""
        return sum(zone.managed_pages for zone in self.zones)

    @property
    def free_pages(self) -> int:
        """Free frames: MemFree, in frames."""
        return sum(zone.free_pages for zone in self.zones)

    @property
    def fail_after(self) -> int | None:
        """How many further allocations of the machine succeed, each of one frame or one block;
        None: no limit.
        """
        return self.failures.remaining

    @fail_after.setter
    def fail_after(self, count: int | None) -> None:
        self.failures.remaining = count

    def zone_of(self, pfns: Frames) -> Frames:
        """Index in `zones` of the zone of each frame; -1 where no zone has it."""
        if not len(self._starts):
            return np.full(len(pfns), -1, np.int64)
        at = np.searchsorted(self._starts, pfns, side="right") - 1
        return np.where((at >= 0) & (pfns < self._ends[at]), self._owners[at], -1)

    def is_free(self, pfns: Frames) -> NDArray[np.bool_]:
        """Which of `pfns` are free; frames of no zone are not."""
        return self._ask(pfns, Zone.is_free)

    def is_reserved(self, pfns: Frames) -> NDArray[np.bool_]:
        """Which of `pfns` are reserved since boot; frames of no zone are not."""
        return self._ask(pfns, Zone.is_reserved)

    def _ask(
        self, pfns: Frames, question: Callable[[Zone, Frames], NDArray[np.bool_]]
    ) -> NDArray[np.bool_]:
        found = np.zeros(len(pfns), np.bool_)
        owners = self.zone_of(pfns)
        for index, zone in enumerate(self.zones):
            own = owners == index
            if own.any():
                found[own] = question(zone, pfns[own])
        return found

    def zonelist(
        self, node: int, *, movable: bool = False, this_node_only: bool = False
    ) -> list[Zone]:
        """The zones that a request on `node` tries, in that order."""

        def preference(place: tuple[int, Zone]) -> tuple[int, int, int]:
            index, zone = place
            return abs(zone.node - node), zone.node, -index

        ordered = [zone for _, zone in sorted(enumerate(self.zones), key=preference)]
        return [
            zone
            for zone in ordered
            if (movable or not zone.movable) and (zone.node == node or not this_node_only)
        ]

    # --- allocating

    def allowed(
        self, count: int, node: int, *, movable: bool = False, this_node_only: bool = False
    ) -> int:
        """How many of `count` single-frame allocations would succeed now."""
        zones = self.zonelist(node, movable=movable, this_node_only=this_node_only)
        return self.failures.allow(min(count, sum(zone.free_pages for zone in zones)))

    def allocate_frames(
        self, count: int, node: int, *, movable: bool = False, this_node_only: bool = False
    ) -> Frames | None:
        """`count` single frames, or None (and nothing changed) where not all of them can be had."""
        if self.allowed(count, node, movable=movable, this_node_only=this_node_only) < count:
            return None
        return self.allocate_upto(count, node, movable=movable, this_node_only=this_node_only)

    def allocate_upto(
        self, count: int, node: int, *, movable: bool = False, this_node_only: bool = False
    ) -> Frames:
        """The frames that `count` single-frame allocations give; fewer where the later ones
        fail.
        """
        zones = self.zonelist(node, movable=movable, this_node_only=this_node_only)
        return _until_enough(zones, count, Zone.allocate_upto)

    def allocate(
        self,
        order: int,
        count: int,
        node: int,
        *,
        movable: bool = False,
        this_node_only: bool = False,
    ) -> Frames:
        """First frames of up to `count` blocks of `order`, fewer where memory ends; gigantic above
        the highest order.
        """
        zones = self.zonelist(node, movable=movable, this_node_only=this_node_only)

        def blocks(zone: Zone, left: int) -> Frames:
            gigantic = order > zone.max_order
            return zone.allocate_gigantic(order, left) if gigantic else zone.allocate(order, left)

        return _until_enough(zones, count, blocks)

    # --- freeing

    def free_frames(self, pfns: Frames) -> None:
        """Free single frames, each to its zone, in their order; raises `AllocatorError` as
        `Zone.free_frames` does.
        """
        for zone, own in self._by_zone(pfns):
            zone.free_frames(own)

    def free_reserved(self, pfns: Frames) -> int:
        """Free frames some of which may be reserved; how many were, and raise MemTotal now."""
        return sum(zone.free_reserved(own) for zone, own in self._by_zone(pfns))

    def free(self, pfns: Frames, order: int) -> None:
        """Free blocks of `order`, gigantic ones too."""
        for zone, own in self._by_zone(pfns):
            zone.free(own, order)

    def reserve(self, pfns: Frames) -> None:
        """Reserve free frames at boot: they do not count in MemTotal until `free_reserved`."""
        for zone, own in self._by_zone(pfns):
            zone.reserve(own)

    def reserve_range(self, start: int, end: int) -> None:
        """Reserve the free frames `start` to `end` (of any zones): a large range at once, as the
        boot vmemmap.
        """
        for zone in self.zones:
            for first, last in zone.present.clip(start, end):
                zone.reserve_range(first, last)

    def drain(self) -> None:
        """Give the queued frames of every zone back to its buddy lists (`drain_all_pages`)."""
        for zone in self.zones:
            zone.drain()

    def take(self, pfns: Frames) -> None:
        """Take exactly the free frames `pfns`."""
        for zone, own in self._by_zone(pfns):
            zone.take(own)

    def _by_zone(self, pfns: Frames) -> list[tuple[Zone, Frames]]:
        owners = self.zone_of(pfns)
        if (owners < 0).any():
            raise AllocatorError(f"pfn {int(pfns[owners < 0][0]):#x} is in no zone")
        own = [(zone, owners == index) for index, zone in enumerate(self.zones)]
        return [(zone, pfns if mine.all() else pfns[mine]) for zone, mine in own if mine.any()]

    # --- hotplug

    def add(self, start: int, end: int, node: int, *, movable: bool = False) -> Zone:
        """Online the frames `start` to `end`, free and managed, in the node's Normal (or Movable)
        zone; that zone.
        """
        if self._overlap(start, end):
            raise AllocatorError(f"frames {start:#x}-{end:#x} overlap memory that is there")
        name = "Movable" if movable else "Normal"
        zone = next((zone for zone in self.zones if (zone.node, zone.name) == (node, name)), None)
        if zone is None:
            zone = Zone(node, name, start, end, self.zones[0].max_order, movable)
            zone.failures = self.failures
            self.zones = sorted(
                [*self.zones, zone], key=lambda zone: (zone.node, zone.movable, zone.start_pfn)
            )
        else:
            zone.add(start, end)
        self._index_ranges()
        return zone

    def remove(self, start: int, end: int) -> None:
        """Offline the frames `start` to `end` of one zone, all of which must be free."""
        owner = int(self.zone_of(np.array([start], np.int64))[0])
        if owner < 0:
            raise AllocatorError(f"pfn {start:#x} is in no zone: cannot remove {start:#x}-{end:#x}")
        self.zones[owner].remove(start, end)
        self._index_ranges()

    def _overlap(self, start: int, end: int) -> bool:
        return any(zone.present.overlap_range(start, end) for zone in self.zones)

    # --- taking back

    def mark(self) -> list[ZoneMark]:
        """This moment, for `rollback`; any call but single-frame allocations makes it void."""
        return [zone.mark() for zone in self.zones]

    def rollback(self, marks: list[ZoneMark]) -> None:
        """Undo the single-frame allocations since `marks`, and restore the injected limit of that
        moment.
        """
        pairs = list(zip(self.zones, marks, strict=False))
        if len(marks) != len(self.zones) or not all(zone.is_valid(mark) for zone, mark in pairs):
            raise AllocatorError("rollback to a void mark: something else happened since")
        for zone, mark in pairs:
            zone.rollback(mark)


def _until_enough(zones: list[Zone], count: int, allocate: Callable[[Zone, int], Frames]) -> Frames:
    """What `allocate` gives from one zone after the other until there are `count`."""
    found = [np.empty(0, np.int64)]
    for zone in zones:
        left = count - sum(map(len, found))
        if left > 0:
            found.append(allocate(zone, left))
    return np.concatenate(found)


def _zone(node: int, memory: ZoneMemory, max_order: int) -> Zone:
    """A zone that spans `memory` and has no frames in the holes of it."""
    name, ranges = memory
    zone = Zone(node, name, ranges[0][0], ranges[-1][1], max_order, movable=name == "Movable")
    for (_, hole), (end, _) in pairwise(ranges):
        if hole < end:
            zone.remove(hole, end)
    return zone
