"""Boot a machine: RAM, zones, struct pages, and the tables that map the vmemmap.

The memory that was asked for is each node's movable zone, so all of it can become HugeTLB pages.
Below it each node has a region of the kernel's own, which holds the frames of the vmemmap, the page
tables, and what the mechanism allocates: none of that may lie in a movable zone. The kernel's own
region has struct pages too; figures about "the memory" leave them out.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.kernel.buddy import Zone
from hvo.kernel.hugetlb import hugetlb_pools
from hvo.kernel.struct_page import ERA_LAYOUT
from hvo.kernel.zone_layout import zone_number
from hvo.kernel.zones import Zones
from hvo.layout.geometry import Geometry, geometry
from hvo.layout.units import format_size
from hvo.machine.boot.kernel_data import KernelData, kernel_data
from hvo.memory.interface import Pfns, Words
from hvo.memory.simulated import SimulatedMemory
from hvo.mmu.format import Format
from hvo.mmu.formats import format_for
from hvo.mmu.mapping import map_range
from hvo.steps.base import Value
from hvo.steps.frames import Counter
from hvo.vmemmap.context import Vmemmap
from hvo.vmemmap.era import Era
from hvo.world.state import World

_GIB = 1 << 30
_LOW_MEMORY = 4 * _GIB  # zones below it are for devices, and hold no movable zone
VMEMMAP_BASE = {
    ("arm64", 4096): (48, 0xFFFF_FC00_0000_0000),
    ("arm64", 16384): (47, 0xFFFF_FF80_0000_0000),
    ("arm64", 65536): (48, 0xFFFF_FFC0_0000_0000),
    ("x86_64", 4096): (48, 0xFFFF_EA00_0000_0000),
    ("riscv64", 4096): (48, 0xFFFF_8D80_0000_0000),
}
"""Bits of an address and where the vmemmap begins, as those kernels have it
(arch/*/include/asm/memory.h, pgtable*.h).
"""
TAIL_SLOTS = 64
"""Words kept for each zone's shared tails, one an order (`vmemmap_tails` of struct zone, 7.1)."""


@dataclass(frozen=True)
class NodePlan:
    """Where one node's own region and its memory lie, in frames (start, end)."""

    own: tuple[int, int]
    memory: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What to build: geometry, page-table format, the nodes, and where the vmemmap begins.

    A machine that is loaded from a core has no region of its own, and no `data` that it could
    describe itself with; its memory has holes, so `ranges` are the frames (start, end) that it is.
    """

    geometry: Geometry
    format: Format
    base: int
    nodes: tuple[NodePlan, ...]
    data: KernelData | None = None
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def memory(self) -> tuple[tuple[int, int], ...]:
        """The frames (start, end) of the memory that may become HugeTLB pages, ascending."""
        return self.ranges or tuple(node.memory for node in self.nodes)

    @property
    def memory_frames(self) -> int:
        """How many frames that memory has."""
        return sum(end - start for start, end in self.memory)

    @property
    def end(self) -> int:
        """The first frame number behind all RAM."""
        return self.memory[-1][1]


def plan(arch: str, page_size: int, memory: int, nodes: int = 1) -> Plan:
    """Lay out a machine of `memory` bytes on `nodes` nodes; raises HvoError for what cannot be."""
    shape = geometry(arch, page_size)
    if (arch, page_size) not in VMEMMAP_BASE:
        raise HvoError(
            f"no page-table format is known for {arch}: a machine can be run on arm64, x86_64 and"
            " riscv64"
        )
    if memory <= 0 or memory % (nodes * shape.section_size):
        raise HvoError(
            f"memory {format_size(memory)} on {nodes} node(s): each node needs a multiple of a"
            f" section, {format_size(shape.section_size)}"
        )
    bits, base = VMEMMAP_BASE[arch, page_size]
    shift = page_size.bit_length() - 1
    places: list[NodePlan] = []
    end = 0
    for _ in range(nodes):
        share = memory // nodes
        own = _round_up(_own_size(shape, share), shape.section_size)
        start = _round_up(max(end + own, _LOW_MEMORY), max(_GIB, shape.hugepages[-1].size))
        places.append(
            NodePlan(
                (end >> shift, (end + own) >> shift), (start >> shift, (start + share) >> shift)
            )
        )
        end = start + share
    first = (
        places[0].own[0] + 2
    )  # the first frame stays unused, the second has the zones' variables
    data = kernel_data(
        arch, bits, page_size, first, 2 * end // shape.section_size, shape.section_size
    )  # there may be hotplug
    return Plan(shape, format_for(arch, page_size, bits), base, tuple(places), data)


def _own_size(shape: Geometry, memory: int) -> int:
    """Struct pages of the memory and of the region itself, tables, and new heads for all: with a
    quarter to spare.
    """
    return (shape.cost_bytes(memory) + memory // 512) * 5 // 4 + shape.section_size


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def boot(what: Plan, era: Era) -> World:
    """A machine with all memory free, its struct pages mapped, and nothing optimised."""
    if era.proposal and what.geometry.arch != "arm64":
        raise HvoError(f"{era.variant} is a way for arm64: {what.geometry.arch} has another one")
    what = replace(what, format=_format_of(what.format, era))
    page_size = what.geometry.page_size
    ranges = {i: [node.own, node.memory] for i, node in enumerate(what.nodes)}
    memory = SimulatedMemory(
        page_size, [(a * page_size, b * page_size) for parts in ranges.values() for a, b in parts]
    )
    zones = _zones(what)
    slots = (what.nodes[0].own[0] + 1) * page_size
    pools = hugetlb_pools(what.geometry, len(what.nodes))
    v = context(what, era, zones, slots)
    world = World(memory, 0, v, zones, ERA_LAYOUT[era.name], pools)
    _map_vmemmap(world, what)
    return world


def _format_of(format: Format, era: Era) -> Format:
    """`format` as kernels of `era` use it.

    x86: up to 6.5 a read-only entry may stay dirty (before shadow stacks). arm64: from 6.13 on
    table entries have the access flag.
    """
    if format.arch == "x86_64" and not era.batched:
        return replace(format, read_only_clear=format.write_bit)
    if format.arch == "arm64" and era.name == "7.1":
        return replace(format, table_attributes=format.table_attributes | format.accessed)
    return format


def _zones(what: Plan) -> Zones:
    """The usual zones of each node's own region, and its memory as movable zone."""
    own = Zones.standard(
        what.geometry.arch,
        {i: [node.own] for i, node in enumerate(what.nodes)},
        page_size=what.geometry.page_size,
    )
    order = own.zones[0].max_order
    movable = [
        Zone(i, "Movable", *node.memory, order, movable=True) for i, node in enumerate(what.nodes)
    ]
    return Zones([zone for i, more in enumerate(movable) for zone in (*own.nodes[i].zones, more)])


def context(what: Plan, era: Era, zones: Zones, slots: int) -> Vmemmap:
    """What protocols know of the machine `what`; the variables of the zones' shared tails begin at
    the physical address `slots`.
    """

    def zone_of(pfn: Value) -> Pfns:
        return zones.zone_of(np.atleast_1d(np.asarray(pfn, np.int64))).reshape(np.shape(pfn))

    def node_of(pfn: Value) -> Pfns:
        return np.array([zone.node for zone in zones.zones], np.int64)[zone_of(pfn)]

    def tail_slot(zone: Value, order: int) -> Words:
        return np.uint64(slots) + (
            np.asarray(zone).astype(np.uint64) * np.uint64(TAIL_SLOTS) + np.uint64(order)
        ) * np.uint64(8)

    shape = what.geometry
    return Vmemmap(
        what.format,
        shape.page_size,
        what.base,
        shape.struct_page_size,
        era,
        node_of,
        zone_of,
        tail_slot,
    )


def _map_vmemmap(world: World, what: Plan) -> None:
    """Take the frames of the vmemmap and of its tables out of each node's own region, fill them,
    and map them.
    """
    data = what.data
    assert data is not None
    taken = _Bump(world, data.frame + data.pages)
    world.root = int(taken.frames(1)[0])
    start, size = (
        data.frame * data.page_size,
        (data.pages + 1) * data.page_size,
    )  # the kernel's image ends with its top table
    map_range(
        world.memory, what.format, world.root, data.virtual(start), start, size, 0, taken.frames
    )
    boot_frames = 0
    for i, node in enumerate(what.nodes):
        bump = taken if i == 0 else _Bump(world, node.own[0])
        boot_frames += _map_node(world, what, i, node, bump)
        bump.reserve(node.own[0])
    world.counters[Counter.MEMMAP_BOOT] = boot_frames


def _map_node(world: World, what: Plan, index: int, node: NodePlan, bump: "_Bump") -> int:
    """Map the struct pages of one node, and fill them with its zones' -> frames that they take."""
    frames = 0
    for pfns in (node.own, node.memory):
        first, count = _map_range(world, what, pfns, bump)
        frames += count
        for zone in world.zones.zones:
            start, end = max(zone.start_pfn, pfns[0]), min(zone.end_pfn, pfns[1])
            if zone.node == index and start < end:
                pages = (np.array([start, end]) - pfns[0]) // world.vmemmap.structs_per_page + first
                world.memory.fill_rows(
                    np.arange(pages[0], pages[1], dtype=np.int64),
                    world.layout.free_row(index, zone_number(what.geometry.arch, zone.name)),
                )
    return frames


def _map_range(world: World, what: Plan, pfns: tuple[int, int], bump: "_Bump") -> tuple[int, int]:
    """Map the struct pages of the frames `pfns` -> the first frame that they take, and how many."""
    page_size, leaf = what.geometry.page_size, what.geometry.vmemmap_leaf or what.geometry.page_size
    start, end = (int(world.vmemmap.address(pfn)) for pfn in pfns)
    count = (end - start) // page_size
    first = bump.aligned(count, leaf // page_size)
    level = 1 if what.geometry.vmemmap_leaf else 0
    map_range(
        world.memory,
        what.format,
        world.root,
        start,
        first * page_size,
        end - start,
        level,
        bump.frames,
    )
    return first, count


class _Bump:
    """Hands out frames of a node's own region from its start, before the page allocator is
    there.
    """

    def __init__(self, world: World, first: int) -> None:
        self._world, self._next = world, first

    def aligned(self, count: int, unit: int) -> int:
        """The first of `count` neighbouring frames, a multiple of `unit`."""
        self._next = _round_up(self._next, unit) + count
        return self._next - count

    def frames(self, count: int) -> Words:
        """Physical addresses of `count` zeroed frames."""
        pfns: NDArray[np.int64] = np.arange(self._next, self._next + count)
        self._next += count
        self._world.memory.write_frames(pfns, 0)
        return pfns.astype(np.uint64) * np.uint64(self._world.vmemmap.page_size)

    def reserve(self, start: int) -> None:
        """Reserve everything handed out, from frame `start` on."""
        self._world.zones.reserve(np.arange(start, self._next))
