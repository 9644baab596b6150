"""The zones of a real kernel and the state of its page allocator, as its struct pages tell.

Neither node nor zone structures can be found without debug symbols. What there is: the usual
borders of zones, the zone bits in the flags of struct pages, which say which of those borders this
kernel has, and which frames are reserved and free. All memory is taken as one node's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hvo.errors import HvoError
from hvo.kernel.buddy import Zone
from hvo.kernel.memory_map import MemoryMap
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns, Sections
from hvo.kernel.zone_layout import Range, ZoneMemory, zone_memory
from hvo.kernel.zones import Zones

_SAMPLES = 1 << 16
_ZONE_BITS_FROM = 32
"""Flags proper end below this bit; above are section, node, zone, last CPU and tag, whichever a
configuration has.
"""


class CoreZones(NamedTuple):
    """`zones`, and the lowest bit of the zone in the flags of a struct page (None: there is one
    zone only, of number 0).
    """

    zones: Zones
    zone_shift: int | None


def online_ranges(sections: Sections) -> list[Range]:
    """The frames of online sections as ranges (first, last + 1), ascending."""
    starts = sections.start_pfn[sections.online]
    cut = np.flatnonzero(np.diff(starts) != sections.pages)
    first = np.concatenate((starts[:1], starts[cut + 1])).tolist()
    last = np.concatenate((starts[cut], starts[-1:])).tolist()
    return [(a, b + sections.pages) for a, b in zip(first, last, strict=True)]


def core_zones(members: PageMembers) -> CoreZones:
    """The zones of this kernel with all memory free; raises `HvoError` where its struct pages do
    not fit the architecture's zones.
    """
    image = members.image
    found: list[tuple[ZoneMemory, int]] = []
    for part in zone_memory(image.arch, online_ranges(members.sections), image.page_size):
        bits = _upper_flags(members, part)
        if found and found[-1][1] == bits:
            found[-1] = (ZoneMemory(part.name, found[-1][0].ranges + part.ranges), bits)
        else:
            found.append((part, bits))
    max_order = image.info.length("zone.free_area") - 1
    return CoreZones(
        Zones([_zone(memory, max_order) for memory, _ in found]),
        _zone_shift([bits for _, bits in found]),
    )


def _upper_flags(members: PageMembers, memory: ZoneMemory) -> int:
    """The upper flags that most struct pages of `memory` have."""
    pfns = np.concatenate(
        [
            np.arange(start, end, max(1, (end - start) // _SAMPLES), dtype=np.int64)
            for start, end in memory.ranges
        ]
    )
    values, counts = np.unique(
        members.read(pfns, members.flags) >> np.uint64(_ZONE_BITS_FROM), return_counts=True
    )
    return int(values[np.argmax(counts)])


def _zone_shift(upper: list[int]) -> int | None:
    """The lowest bit in which the upper flags of the zones differ; they must count up from
    there.
    """
    different = [bits ^ upper[0] for bits in upper]
    if len(upper) == 1:
        return None
    shift = (different[1] & -different[1]).bit_length() - 1
    if any(bits != number << shift for number, bits in enumerate(different)):
        shown = ", ".join(f"{bits << _ZONE_BITS_FROM:#x}" for bits in upper)
        raise HvoError(
            f"upper flags of struct pages are {shown}: expected them to count the zones of one node"
        )
    return shift + _ZONE_BITS_FROM


def _zone(memory: ZoneMemory, max_order: int) -> Zone:
    first, *more = memory.ranges
    zone = Zone(0, memory.name, *first, max_order)
    for start, end in more:
        zone.add(start, end)
    return zone


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
