"""Node and zone of a frame, as the highest bits of its struct page's flags tell
(`include/linux/page-flags-layout.h`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Words
from hvo.memory.vmcoreinfo import VmcoreInfo

_ZONE_BITS = 3
"""At most; configurations with four zones or fewer use two, and the bit below is then another
field's.
"""


@dataclass(frozen=True)
class ZoneBits:
    """Where node and zone are: `node_bits` at the top (0: the kernel knows no nodes), the zone
    below.
    """

    node_bits: int

    @classmethod
    def of(cls, info: VmcoreInfo) -> ZoneBits:
        """node_data[] has an element for each node that there can be (CONFIG_NODES_SHIFT)."""
        return cls(info.length("node_data", 1).bit_length() - 1)

    def node(self, flags: Words) -> NDArray[np.int64]:
        """Node of each of `flags`."""
        if not self.node_bits:
            return np.zeros(flags.shape, np.int64)
        return (flags >> np.uint64(64 - self.node_bits)).astype(np.int64)

    def zone_mask(self, heads: Words, tails: Words) -> np.uint64:
        """Mask of node and zone in flags, where `heads` are those of HugeTLB heads and `tails`
        those of the tails that they share.

        Of the lowest bit it is not known whether it belongs to the zone: not where most heads and
        tails differ in it.
        """
        width = self.node_bits + _ZONE_BITS
        lowest = 1 << (64 - width)
        mask = ((1 << width) - 1) << (64 - width)
        differ = np.count_nonzero((heads ^ tails) & np.uint64(lowest))
        return np.uint64(mask ^ lowest if 2 * differ > len(heads) else mask)
