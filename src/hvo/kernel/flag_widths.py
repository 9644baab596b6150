"""How many bits of a struct page's flags hold its node and its zone
(include/linux/page-flags-layout.h).

With a vmemmap the node is in the highest bits and the zone right below. Neither width is exported,
but `struct pglist_data` tells both: `node_zones[MAX_NR_ZONES]`, then for each of two zonelists (one
without NUMA) 16 bytes a zone of every node that there can be and 16 more, then `nr_zones`, whose
offset is exported.
"""

from typing import NamedTuple

from hvo.errors import HvoError
from hvo.memory.vmcoreinfo import VmcoreInfo

MOST_NODE_BITS = 10
"""NODES_SHIFT, at most (arch/x86/Kconfig and others)."""
_MOST_ZONES = 8
_ZONEREF = 16


class FlagWidths(NamedTuple):
    """Bits of the node, bits of the zone, and how many zones a node can have."""

    node_bits: int
    zone_bits: int
    zones: int

    @property
    def node_shift(self) -> int:
        """The lowest bit of the node."""
        return 64 - self.node_bits

    @property
    def zone_shift(self) -> int:
        """The lowest bit of the zone."""
        return self.node_shift - self.zone_bits


def zonelists_end(zone_size: int, zones: int, node_bits: int) -> int:
    """`OFFSET(pglist_data.nr_zones)` of a kernel with so many zones and bits of the node."""
    lists = 2 if node_bits else 1
    return zones * zone_size + lists * _ZONEREF * ((zones << node_bits) + 1)


def flag_widths(info: VmcoreInfo, most: int) -> FlagWidths:
    """The widths that a kernel was built with whose architecture has `most` zones, of which it may
    lack some; raises `HvoError` where its constants fit none.

    >>> info = VmcoreInfo.parse("SIZE(zone)=1856\\nOFFSET(pglist_data.nr_zones)=7968\\n")
    >>> flag_widths(info, 4)
    FlagWidths(node_bits=2, zone_bits=2, zones=4)
    """
    size, end = info.size("zone"), info.offset("pglist_data.nr_zones")
    for zones in (*range(most, 1, -1), *range(most + 1, _MOST_ZONES + 1)):
        for bits in range(MOST_NODE_BITS + 1):
            if zonelists_end(size, zones, bits) == end:
                return FlagWidths(bits, (zones - 1).bit_length(), zones)
    raise HvoError(
        f"OFFSET(pglist_data.nr_zones)={end} with SIZE(zone)={size}: expected what 2 to"
        f" {_MOST_ZONES} zones on up to {1 << MOST_NODE_BITS} nodes take"
    )
