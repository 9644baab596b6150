"""What the struct pages of a machine's memory take, found by walking the tables that map them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.machine.machine import Machine
from hvo.memory.interface import Words
from hvo.mmu.walk import walk

CELLS = 256
"""Parts of equal size that a picture of the memory map has, at most."""
_PIECE = 1 << 18  # vmemmap pages walked at once


@dataclass(frozen=True)
class Memmap:
    """The vmemmap of the memory that was asked for, at one moment.

    `pages`: its virtual pages; `frames`: frames that one of them maps writable; `shared`: frames
    that hold the shared tails of a zone (7.1), which no page maps writable and the kernel does not
    count as memory map; `read_only`: pages mapped read-only; `tables`: last-level tables in place
    of a leaf; `free`: free frames of the page allocator, of all memory. `page_size` in bytes. `own`
    is, for each of at most 256 parts of the vmemmap from its start, the share of pages that have a
    frame of their own.
    """

    page_size: int
    pages: int
    frames: int
    shared: int
    read_only: int
    tables: int
    free: int
    own: tuple[float, ...]

    @property
    def bytes(self) -> int:
        """What the memory map takes."""
        return self.frames * self.page_size


class _Seen:
    """Which frame numbers came up."""

    def __init__(self) -> None:
        self._seen = np.zeros(0, np.bool_)

    def add(self, frames: NDArray[np.int64]) -> None:
        """Note `frames`."""
        if frames.size and frames.max() >= self._seen.size:
            self._seen = np.concatenate(
                [self._seen, np.zeros(int(frames.max()) + 1 - self._seen.size, np.bool_)]
            )
        self._seen[frames] = True

    def count(self) -> int:
        """How many different ones."""
        return int(np.count_nonzero(self._seen))


def memmap(machine: Machine) -> Memmap:
    """Walk every page of the vmemmap of the memory that was asked for, and count; holes in that
    memory have none.
    """
    page_size, seen = machine.world.vmemmap.page_size, _Seen()
    flags: list[NDArray[np.bool_]] = []
    for addresses in _addresses(machine):
        found = walk(
            machine.world.memory, machine.world.vmemmap.format, machine.world.root, addresses
        )
        seen.add((found.address[found.writable] // np.uint64(page_size)).astype(np.int64))
        flags.append(found.writable[found.valid])
    writable = np.concatenate(flags)
    parts = np.array_split(writable, min(CELLS, writable.size))
    return Memmap(
        page_size,
        writable.size,
        seen.count(),
        _shared_tails(machine),
        int(np.count_nonzero(~writable)),
        _tables(machine),
        machine.world.zones.free_pages,
        tuple(float(part.mean()) for part in parts),
    )


def _spans(machine: Machine) -> list[tuple[int, int]]:
    """The vmemmap of each node's memory: first address and the one behind."""
    v = machine.world.vmemmap
    return [
        (int(v.address(node.memory[0])), int(v.address(node.memory[1])))
        for node in machine.plan.nodes
    ]


def _addresses(machine: Machine) -> Iterator[Words]:
    """The virtual addresses of all vmemmap pages, piece by piece."""
    page_size = machine.world.vmemmap.page_size
    for start, end in _spans(machine):
        for piece in range(start, end, _PIECE * page_size):
            yield np.arange(piece, min(piece + _PIECE * page_size, end), page_size, dtype=np.uint64)


def _tables(machine: Machine) -> int:
    """How many last-level tables map the vmemmap."""
    v, count = machine.world.vmemmap, 0
    for start, end in _spans(machine):
        leaves = np.arange(start // v.leaf * v.leaf, end, v.leaf, dtype=np.uint64)
        found = walk(machine.world.memory, v.format, machine.world.root, leaves, stop_level=1)
        count += int(np.count_nonzero(v.format.is_table(found.entry, 1)))
    return count


def _shared_tails(machine: Machine) -> int:
    """How many frames the zones have for shared tails: one for each zone and order that was ever
    optimised, and never freed.
    """
    v, zones = machine.world.vmemmap, np.arange(len(machine.world.zones.zones))
    if v.era.layout.shares != "zone-tail":
        return 0
    slots = [
        np.asarray(v.tail_slot(zones, pool.order), np.uint64) for pool in machine.pools.values()
    ]
    return int(np.count_nonzero(machine.world.memory.read_words(np.concatenate(slots))))
