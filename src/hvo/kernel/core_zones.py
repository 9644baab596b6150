"""The zones of a real kernel and the state of its page allocator, as its struct pages tell.

Neither node nor zone structures can be found without debug symbols (only x86-64 exports where
nodes are). What there is: the usual borders of zones, the node and zone in the flags of struct
pages, and which frames are reserved and free.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hvo.errors import HvoError
from hvo.kernel.buddy import Zone
from hvo.kernel.flag_widths import FlagWidths, flag_widths
from hvo.kernel.memory_map import MemoryMap
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns, Sections
from hvo.kernel.zone_layout import ZONE_NAMES, Range, zone_memory
from hvo.kernel.zones import Zones
from hvo.memory.interface import Words
from hvo.mmu.walk import walk

_SAMPLES = 64
"""Struct pages that are asked for the node and zone of a part of memory."""


class Place(NamedTuple):
    """A node, and the number of a zone on it."""

    node: int
    zone: int


def online_ranges(sections: Sections) -> list[Range]:
    """The frames of online sections as ranges (first, last + 1), ascending."""
    starts = sections.start_pfn[sections.online]
    cut = np.flatnonzero(np.diff(starts) != sections.pages)
    first = np.concatenate((starts[:1], starts[cut + 1])).tolist()
    last = np.concatenate((starts[cut], starts[-1:])).tolist()
    return [(a, b + sections.pages) for a, b in zip(first, last, strict=True)]


def core_zones(members: PageMembers) -> Zones:
    """The zones of this kernel on its nodes, with all memory free.

    Raises `HvoError` where the flags of struct pages name a zone that the architecture does not
    have.
    """
    names = ZONE_NAMES[members.image.arch]
    max_order = members.image.info.length("zone.free_area") - 1
    found: dict[Place, list[Range]] = {}
    for part, place in _places(members):
        if place.zone >= len(names):
            raise HvoError(
                f"the struct pages of frames {part[0]:#x}-{part[1]:#x} say zone {place.zone}:"
                f" expected one of the {len(names)} that {members.image.arch} has"
            )
        _append(found.setdefault(place, []), part)
    return Zones(
        [_zone(place, names[place.zone], found[place], max_order) for place in sorted(found)]
    )


def _places(members: PageMembers) -> Iterator[tuple[Range, Place]]:
    """The online memory in parts of at most a section that end where a zone may, ascending, each
    with the node and zone that most of its struct pages name.
    """
    sections, image = members.sections, members.image
    widths = flag_widths(image.info, len(ZONE_NAMES[image.arch]))
    memory = zone_memory(image.arch, online_ranges(sections), image.page_size)
    cuts = {start for zone in memory for start, _ in zone.ranges}
    for first in sections.start_pfn[sections.online].tolist():
        end = first + sections.pages
        edges = [first, *sorted(cut for cut in cuts if first < cut < end), end]
        for part in pairwise(edges):
            pfns = np.arange(*part, max(1, (part[1] - part[0]) // _SAMPLES), dtype=np.int64)
            yield part, _most(members.read(pfns, members.flags), widths)


def _most(flags: Words, widths: FlagWidths) -> Place:
    values, counts = np.unique(flags >> np.uint64(widths.zone_shift), return_counts=True)
    node, zone = divmod(int(values[np.argmax(counts)]), 1 << widths.zone_bits)
    return Place(node, zone)


def _append(ranges: list[Range], part: Range) -> None:
    """Add `part`, which comes after all of `ranges`, and joins the last where they touch."""
    if ranges and ranges[-1][1] == part[0]:
        ranges[-1] = (ranges[-1][0], part[1])
    else:
        ranges.append(part)


def _zone(place: Place, name: str, ranges: list[Range], max_order: int) -> Zone:
    first, *more = ranges
    zone = Zone(place.node, name, *first, max_order, movable=name == "Movable")
    for start, end in more:
        zone.add(start, end)
    return zone


class SelfHosted(NamedTuple):
    """Blocks that host their own struct pages: the frames which hold those, and the flag that marks
    them (None if there is no such block).
    """

    ranges: list[Range]
    bit: int | None


def self_hosted(members: PageMembers) -> SelfHosted:
    """The blocks whose first vmemmap page lies in their own first frame, which is marked.

    The mark is PG_vmemmap_self_hosted (PG_owner_priv_1), which is not exported: three flags before
    PG_private, or four where PG_owner_2 came between (6.11).
    """
    sections, image = members.sections, members.image
    starts = sections.start_pfn[sections.online]
    found = walk(image.memory, image.format, image.root, sections.struct_page_address(starts))
    frames = (found.address // np.uint64(image.page_size)).astype(np.int64)
    private = image.info.number("PG_private")
    for bit in (private - 3, private - 4):
        hosts = starts[found.valid & (frames == starts)].tolist()
        ranges = [(start, start + _marked(members, start, bit)) for start in hosts]
        if any(start < end for start, end in ranges):
            return SelfHosted([part for part in ranges if part[0] < part[1]], bit)
    return SelfHosted([], None)


def _marked(members: PageMembers, start: int, bit: int) -> int:
    """How many frames of a section from `start` on have flag `bit`."""
    pfns = np.arange(start, start + members.sections.pages, dtype=np.int64)
    clear = members.read(pfns, members.flags) & np.uint64(1 << bit) == 0
    return int(np.argmax(clear)) if clear.any() else len(clear)


def settle(zones: Zones, found: MemoryMap) -> None:
    """Give `zones`, all of whose frames are free, the state that struct pages show: reserved, free,
    and all others allocated.
    """
    for start, end in zip(found.reserved_start.tolist(), found.reserved_end.tolist(), strict=True):
        zones.reserve_range(start, end)
    for zone in zones.zones:
        for start, end in zip(
            zone.present.starts.tolist(), zone.present.ends.tolist(), strict=True
        ):
            _allocate_between(zone, start, end, found)
    for order in np.unique(found.free_order).tolist():
        zones.free(found.free_pfn[found.free_order == order], order)
    zones.drain()


def _allocate_between(zone: Zone, start: int, end: int, found: MemoryMap) -> None:
    """Allocate all frames `start` to `end` of `zone` but the reserved ones."""
    inside = (found.reserved_start < end) & (found.reserved_end > start)
    firsts: Pfns = np.concatenate(([start], found.reserved_end[inside]))
    lasts: Pfns = np.concatenate((found.reserved_start[inside], [end]))
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        if first < last and not zone.allocate_range(first, last):
            raise AssertionError(f"frames {first:#x}-{last:#x} of a zone that was all free are not")
