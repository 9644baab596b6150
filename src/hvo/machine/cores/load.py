"""A machine that starts from a real kernel's memory: its sections, tables, struct pages and HugeTLB
pages become the machine's.

Frames that the machine has not written read as the core has them. Cores trimmed to tables and
struct pages lack all others, which then read as zeros: nothing here looks at them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.kernel.buddy import AllocatorError
from hvo.kernel.core_format import observed_format
from hvo.kernel.core_layout import era_name, struct_page_layout
from hvo.kernel.core_zones import SelfHosted, core_zones, online_ranges, self_hosted, settle
from hvo.kernel.flag_widths import flag_widths
from hvo.kernel.hugetlb import Stack, hugetlb_pools
from hvo.kernel.image import KernelImage, KernelMemory
from hvo.kernel.memory_map import MemoryMap, memory_map
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns, Sections
from hvo.kernel.struct_page import COUNTS, LINK, NOT_MAPPED, PRIVATE, StructPageLayout
from hvo.kernel.vmcore import HugetlbHeads, hugetlb_heads
from hvo.kernel.zone_layout import ZONE_NAMES, Range
from hvo.kernel.zones import Zones
from hvo.layout.geometry import Geometry, geometry
from hvo.machine.boot.build import NodePlan, Plan, context
from hvo.machine.cores.boot_state import unmake_pools
from hvo.memory.core import open_core
from hvo.memory.simulated import SimulatedMemory
from hvo.mmu.walk import walk
from hvo.steps.base import strided
from hvo.steps.frames import Counter
from hvo.steps.struct_pages import StorePage
from hvo.vmemmap.era import Era
from hvo.vmemmap.era import era as era_of
from hvo.world.pools import optimized
from hvo.world.shared_tails import are_optimized, zone_tails
from hvo.world.state import World
from hvo.world.struct_pages import store_page

_WALKED = 1 << 22  # vmemmap pages walked at once


@dataclass(frozen=True)
class _Kernel:
    """What is found in a kernel's memory; `optimized` says which HugeTLB pages share the frames of
    their tails.
    """

    image: KernelImage
    sections: Sections
    members: PageMembers
    heads: HugetlbHeads
    optimized: NDArray[np.bool_]
    map: MemoryMap
    hosted: SelfHosted


def load_core(
    source: str | Path | KernelMemory, *, era: Era | None = None, boot: bool = False
) -> tuple[World, Plan]:
    """The state of a machine like the kernel in `source`, a core; with `boot`, as that kernel was
    before it had any HugeTLB page.

    `era` is the protocol that the machine runs (None: the one that the kernel's members and mapping
    tell). Surplus and reserved pages are not known from memory and count as none. Raises `HvoError`
    for what is no core of a kernel with a
    vmemmap and HugeTLB pages.
    """
    kernel = _look(open_core(source) if isinstance(source, str | Path) else source)
    protocol = era or era_of(era_name(kernel.members, _kept_pages(kernel)))
    zones = core_zones(kernel.members)
    try:
        settle(zones, kernel.map)
    except AllocatorError as error:
        raise HvoError(f"the struct pages of this core contradict each other: {error}") from error
    what, slots = _plan(kernel, zones), _slots_frame(kernel)
    world = _world(kernel, what, protocol, zones, _layout(kernel, protocol), slots)
    _forget_marks(world, kernel.map)
    _fill_pools(world, kernel)
    _flag_as_mapped(world, kernel)
    if boot:
        unmake_pools(world, what.geometry.vmemmap_leaf)
    elif protocol.layout.shares == "zone-tail":
        _share_known_tails(world, kernel)
        _make_masks(world, kernel)
    _count_frames(world, kernel)
    return world, what


# -- what is there --


def _look(memory: KernelMemory) -> _Kernel:
    image = KernelImage.of(memory)
    sections = Sections.of(image)
    if sections.vmemmap_base is None:
        raise HvoError(
            "the struct pages of this kernel's sections are in no common array: a machine needs a"
            " vmemmap"
        )
    image = replace(image, format=observed_format(image, sections))
    members, heads = PageMembers.of(image, sections), hugetlb_heads(image, sections)
    if len(heads.unreadable):
        first = int(heads.unreadable[0])
        raise HvoError(
            f"the struct page of frame {first:#x} is not in the core, nor those of"
            f" {len(heads.unreadable) - 1} others"
        )
    hosted = self_hosted(members)
    return _Kernel(
        image,
        sections,
        members,
        heads,
        _optimized(image, sections, heads),
        _never_given(memory_map(image, sections), hosted.ranges),
        hosted,
    )


def _never_given(found: MemoryMap, hosted: list[Range]) -> MemoryMap:
    """`found` with the frames in which blocks host their struct pages: like reserved ones, they
    never came to the page allocator.
    """
    ranges = zip(found.reserved_start.tolist(), found.reserved_end.tolist(), strict=True)
    spans = np.array(sorted({*ranges, *hosted}), np.int64).reshape(-1, 2)
    return replace(found, reserved_start=spans[:, 0], reserved_end=spans[:, 1])


def _optimized(image: KernelImage, sections: Sections, heads: HugetlbHeads) -> NDArray[np.bool_]:
    out = sections.struct_page_size << heads.order > image.page_size
    pfns = heads.pfn[out] + (np.int64(1) << heads.order[out]) - 1
    last = sections.struct_page_address(pfns) & ~np.uint64(image.page_size - 1)
    out[out] = are_optimized(image.memory, image.format, image.root, last)
    return out


def _kept_pages(kernel: _Kernel) -> int | None:
    """How many frames the vmemmap of the first optimised page has; None: none is optimised."""
    which = np.flatnonzero(kernel.optimized)
    if not len(which):
        return None
    head, order = int(kernel.heads.pfn[which[0]]), int(kernel.heads.order[which[0]])
    pages = (kernel.sections.struct_page_size << order) // kernel.image.page_size
    start = kernel.sections.struct_page_address(np.array([head]))[0]
    found = walk(
        kernel.image.memory,
        kernel.image.format,
        kernel.image.root,
        strided(start, pages, kernel.image.page_size),
    )
    return np.unique(found.address).size


def _layout(kernel: _Kernel, protocol: Era) -> StructPageLayout:
    layout = struct_page_layout(kernel.members, protocol.name, kernel.heads.pfn)
    widths = flag_widths(kernel.image.info, len(ZONE_NAMES[kernel.image.arch]))
    bit = kernel.hosted.bit
    if protocol.layout.shares == "zone-tail":
        layout = replace(
            layout, link="mask"
        )  # as a kernel that can share one frame of tails has them
    return replace(
        layout,
        node_shift=widths.node_shift,
        zone_shift=widths.zone_shift,
        self_hosted_bit=layout.self_hosted_bit if bit is None else bit,
    )


# -- making the machine --


def _plan(kernel: _Kernel, zones: Zones) -> Plan:
    image, ranges = kernel.image, online_ranges(kernel.sections)
    shape: Geometry = replace(
        geometry(image.arch, image.page_size), section_size=kernel.sections.pages * image.page_size
    )
    base = kernel.sections.vmemmap_base
    assert base is not None
    nodes = tuple(_node(zones, number) for number in range(zones.nodes[-1].id + 1))
    return Plan(shape, image.format, base, nodes, ranges=tuple(ranges))


def _node(zones: Zones, number: int) -> NodePlan:
    """From the first to the last frame of a node, holes included; one without memory has none."""
    mine = [zone for zone in zones.zones if zone.node == number]
    start = min((zone.start_pfn for zone in mine), default=0)
    return NodePlan((start, start), (start, max((zone.end_pfn for zone in mine), default=0)))


def _slots_frame(kernel: _Kernel) -> int:
    """A frame that no kernel uses, for the variables that hold the zones' shared tails: those of a
    kernel cannot be found.

    Frame 0 where no RAM is; else (x86) the first reserved frame, which firmware has.
    """
    first = int(kernel.sections.start_pfn[kernel.sections.online][0])
    return int(kernel.map.reserved_start[0]) if first == 0 else 0


def _world(
    kernel: _Kernel, what: Plan, protocol: Era, zones: Zones, layout: StructPageLayout, slots: int
) -> World:
    page_size = kernel.image.page_size
    ram = [(start * page_size, end * page_size) for start, end in online_ranges(kernel.sections)]
    if slots < ram[0][0] // page_size:
        ram = [(slots * page_size, (slots + 1) * page_size), *ram]
    memory = SimulatedMemory(page_size, ram, backing=kernel.image.memory)
    memory.write_frames(np.array([slots]), 0)
    v = context(what, protocol, zones, slots * page_size)
    pools = hugetlb_pools(what.geometry, len(what.nodes))
    return World(memory, kernel.image.root, v, zones, layout, pools)


def _forget_marks(world: World, found: MemoryMap) -> None:
    """Make the struct pages of free blocks those of pages that nobody uses: the machine's allocator
    keeps elsewhere what is free.
    """
    pages = world.translate(world.vmemmap.address(found.free_pfn))
    world.memory.write_words(pages + np.uint64(8 * PRIVATE), 0)
    world.memory.write_words(pages + np.uint64(8 * COUNTS), NOT_MAPPED)


def _fill_pools(world: World, kernel: _Kernel) -> None:
    """Put every HugeTLB page where it was: on its node's free list, the front on top, or in use,
    the oldest first.
    """
    heads = kernel.heads
    for pool in world.pools.values():
        mine = heads.order == pool.order
        listed = [part[::-1] for part in reversed(heads.free_list(pool.order))]
        loose = np.setdiff1d(
            heads.pfn[mine & heads.free], np.concatenate([*listed, np.zeros(0, np.int64)])
        )
        for part in (loose, *listed):
            _push(world, pool.free, part)
        used = np.flatnonzero(mine & ~heads.free)
        oldest_first = heads.pfn[used][np.argsort(-heads.place[used], kind="stable")]
        _push(world, pool.used, oldest_first)


def _push(world: World, lists: dict[int, Stack], heads: Pfns) -> None:
    """Push `heads` on the lists of their nodes."""
    nodes = np.asarray(world.vmemmap.node_of(heads))
    for node in np.unique(nodes).tolist():
        lists[node].push(heads[nodes == node])


def _flag_as_mapped(world: World, kernel: _Kernel) -> None:
    """Set or clear the flag of the pages that say other than their mapping: nothing could restore
    them, or too much would.
    """
    wrong = kernel.heads.flagged != kernel.optimized
    for value in (0, 1):
        heads = kernel.heads.pfn[wrong & (kernel.optimized == bool(value))]
        if heads.size:
            store_page(world, StorePage(heads, "vmemmap_optimized", value))


def _share_known_tails(world: World, kernel: _Kernel) -> None:
    """Set the variables of the zones' shared tails to the frames that optimised pages map."""
    if not kernel.optimized.any():
        return
    heads, orders = kernel.heads.pfn[kernel.optimized], kernel.heads.order[kernel.optimized]
    zones = np.asarray(world.vmemmap.zone_of(heads))
    _, first = np.unique(np.stack((zones, orders)), axis=1, return_index=True)
    for i in first.tolist():
        last = world.vmemmap.address(
            heads[i] + (1 << int(orders[i])) - world.vmemmap.structs_per_page
        )
        frame = world.frame_of(np.array([last], np.uint64))
        slot = np.asarray(world.vmemmap.tail_slot(zones[i], int(orders[i])), np.uint64)
        world.memory.write_words(slot.reshape(1), frame.astype(np.uint64))


def _make_masks(world: World, kernel: _Kernel) -> None:
    """Where tails hold pointers, because this kernel was built without the option, write what one
    with it would: masks.
    """
    for head, order in zip(kernel.heads.pfn.tolist(), kernel.heads.order.tolist(), strict=True):
        tails = np.arange(head + 1, head + (1 << order), dtype=np.int64)
        links = world.vmemmap.address(tails) + np.uint64(8 * LINK)
        mask = world.layout.links(np.zeros(1, np.uint64), order)[0]
        places = world.translate(links)
        if world.memory.read_words(places[:1])[0] != mask:
            world.memory.write_words(places, mask)


def _count_frames(world: World, kernel: _Kernel) -> None:
    """Set the counters: frames behind the vmemmap (of devices too), those reserved at boot and
    those that came since (shared tails are in neither).
    """
    frames = np.zeros(0, np.int64)
    tails = zone_tails(world, (pool.order for pool in world.pools.values()))
    step = kernel.image.page_size // kernel.sections.struct_page_size
    for pfns in kernel.sections.frames(step, at_a_time=_WALKED):
        found = walk(world.memory, world.vmemmap.format, world.root, world.vmemmap.address(pfns))
        frames = np.union1d(
            frames,
            (found.address[found.valid] // np.uint64(kernel.image.page_size)).astype(np.int64),
        )
    frames = np.setdiff1d(frames, tails)
    hosted = [np.arange(*part, dtype=np.int64) for part in kernel.hosted.ranges]
    boot = np.setdiff1d(frames, np.concatenate([np.zeros(0, np.int64), *hosted]))
    reserved = int(np.count_nonzero(world.zones.is_reserved(boot)))
    world.counters[Counter.MEMMAP_BOOT], world.counters[Counter.MEMMAP] = (
        reserved,
        len(frames) - reserved,
    )
    world.counters[Counter.OPTIMIZED_KEY] = sum(
        optimized(world, pool).size for pool in world.pools.values()
    )
