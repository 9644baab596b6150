"""Node and zone of a frame, as the highest bits of its struct page's flags tell
(`include/linux/page-flags-layout.h`).

Only x86-64 exports how many nodes there can be. For all others the size of the zone lists tells:
in `struct pglist_data`, `nr_zones` stands right behind `node_zones[MAX_NR_ZONES]` and
`node_zonelists[MAX_ZONELISTS]`, each list of MAX_NUMNODES * MAX_NR_ZONES + 1 references of 16 bytes
(`include/linux/mmzone.h`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.flag_widths import MOST_NODE_BITS, zonelists_end
from hvo.memory.interface import Words
from hvo.memory.vmcoreinfo import VmcoreInfo

_ZONE_BITS = 3
"""At most; configurations with four zones or fewer use two, and the bit below is then another
field's.
"""
_ZONES = range(1, 6)
"""DMA, DMA32, Normal, Movable and Device: 64-bit kernels have no others."""


class _Width(NamedTuple):
    """Bits of node and zone; `zones` is how many there can be."""

    nodes: int
    zones: int

    @property
    def zone_bits(self) -> int:
        return (self.zones - 1).bit_length()


@dataclass(frozen=True)
class ZoneBits:
    """Where node and zone are: `node_bits` at the top (0: the kernel knows no nodes), `zone_bits`
    below (None: not known, at most three).
    """

    node_bits: int
    zone_bits: int | None = None

    @classmethod
    def of(cls, info: VmcoreInfo, flags: Words) -> ZoneBits:
        """Those of the kernel with constants `info`; `flags` are some of its struct pages' (uint64,
        one dimension), which decide where the constants allow several widths.
        """
        length = info.length("node_data", None)
        widths = _widths(info)
        if length is not None:
            known = length.bit_length() - 1
            widths = [width for width in widths if width.nodes == known]
            return cls(known, widths[0].zone_bits if len(widths) == 1 else None)
        fitting = [width for width in widths if _fits(width, flags)]
        if not fitting:
            return cls(0)
        best = min(fitting, key=lambda width: _highest_node(width, flags))
        return cls(best.nodes, best.zone_bits)

    def node(self, flags: Words) -> NDArray[np.int64]:
        """Node of each of `flags`."""
        return _top(flags, self.node_bits)

    def zone_mask(self, heads: Words, tails: Words) -> np.uint64:
        """Mask of node and zone in flags, where `heads` are those of HugeTLB heads and `tails`
        those of the tails that they share.

        Where the width of the zone is not known, the lowest bit is another field's if most heads
        and tails differ in it.
        """
        width = self.node_bits + (_ZONE_BITS if self.zone_bits is None else self.zone_bits)
        mask = ((1 << width) - 1) << (64 - width)
        lowest = 1 << (64 - width)
        differ = np.count_nonzero((heads ^ tails) & np.uint64(lowest))
        if self.zone_bits is None and 2 * differ > len(heads):
            mask ^= lowest
        return np.uint64(mask)


def _top(flags: Words, bits: int) -> NDArray[np.int64]:
    if not bits:
        return np.zeros(flags.shape, np.int64)
    return (flags >> np.uint64(64 - bits)).astype(np.int64)


def _widths(info: VmcoreInfo) -> list[_Width]:
    """What the place of `nr_zones` allows, usually one width."""
    size, end = info.size("zone", None), info.offset("pglist_data.nr_zones", None)
    if size is None or end is None:
        return []
    start = info.offset("pglist_data.node_zones", 0)
    return [
        _Width(bits, zones)
        for zones in _ZONES
        for bits in range(MOST_NODE_BITS + 1)
        if start + zonelists_end(size, zones, bits) == end
    ]


def _fits(width: _Width, flags: Words) -> bool:
    """Whether every zone number in `flags` is one that there can be."""
    zone = _top(flags << np.uint64(width.nodes), width.zone_bits)
    return bool((zone < width.zones).all())


def _highest_node(width: _Width, flags: Words) -> int:
    return int(_top(flags, width.nodes).max(initial=0))
