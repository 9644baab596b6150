"""The vmemmap pages of a machine that have no frame of their own.

On x86-64 and arm64 a read-only entry tells them; riscv64 maps them writable as well
(`Format.protects`), so there only the frames tell.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Memory, Words
from hvo.mmu.format import Format
from hvo.mmu.walk import walk
from hvo.world.state import World

Frames = NDArray[np.int64]


def are_optimized(memory: Memory, format: Format, root: int, last: Words) -> NDArray[np.bool_]:
    """Whether the huge pages with the last vmemmap pages at the virtual addresses `last` are
    optimised: the page is read-only, or shares its frame with the one before it.
    """
    found = walk(memory, format, root, last)
    before = walk(memory, format, root, last - np.uint64(1 << format.page_shift))
    return ~found.writable | (found.valid & before.valid & (found.address == before.address))


def zone_tails(world: World, orders: Iterable[int]) -> Frames:
    """The frames that hold the zones' shared tails (7.1) of pages of `orders`, ascending; the
    kernel does not count them as memory map.
    """
    v, zones = world.vmemmap, np.arange(len(world.zones.zones))
    if v.era.layout.shares != "zone-tail":
        return np.zeros(0, np.int64)
    slots = [np.asarray(v.tail_slot(zones, order), np.uint64) for order in orders]
    found = np.unique(world.memory.read_words(np.concatenate(slots))).astype(np.int64)
    return found[found != 0]
