"""What the struct pages of a machine's memory take, found by walking the tables that map them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.machine.machine import Machine
from hvo.memory.interface import Words
from hvo.mmu.walk import walk
from hvo.world.shared_tails import Frames, zone_tails

CELLS = 256
"""Parts of equal size that a picture of the memory map has, at most."""
_PIECE = 1 << 18  # vmemmap pages walked at once


@dataclass(frozen=True)
class Memmap:
    """The vmemmap of the memory that was asked for, at one moment.

    `pages`: its virtual pages; `frames`: frames behind them but for `shared`: those that hold the
    shared tails of a zone (7.1), which the kernel does not count as memory map; `read_only`: pages
    mapped read-only; `tables`: last-level tables in place of a leaf; `free`: free frames of the
    page allocator, of all memory. `page_size` in bytes. `own` is, for each of at most 256 parts of
    the vmemmap from its start, the share of pages that have a frame of their own.
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
    """Which frame numbers came up, of pages that have a frame of their own; `tails` never count."""

    def __init__(self, tails: Frames) -> None:
        self._tails = tails
        self._seen = np.zeros(0, np.bool_)
        self._grow(tails)
        self._seen[tails] = True

    def _grow(self, frames: Frames) -> None:
        if frames.size and frames.max() >= self._seen.size:
            self._seen = np.concatenate(
                [self._seen, np.zeros(int(frames.max()) + 1 - self._seen.size, np.bool_)]
            )

    def add_first(self, frames: Frames) -> NDArray[np.bool_]:
        """Note `frames` -> which of them come up for the first time."""
        self._grow(frames)
        first = np.zeros(frames.size, np.bool_)
        first[np.unique(frames, return_index=True)[1]] = True
        first &= ~self._seen[frames]
        self._seen[frames] = True
        return first

    def add(self, frames: Frames) -> None:
        """Note `frames`."""
        self._grow(frames)
        self._seen[frames] = True

    def count(self) -> int:
        """How many different ones, without the tails."""
        return int(np.count_nonzero(self._seen)) - self._tails.size


def memmap(machine: Machine) -> Memmap:
    """Walk every page of the vmemmap of the memory that was asked for, and count; holes in that
    memory have none.
    """
    page_size, v = machine.world.vmemmap.page_size, machine.world.vmemmap
    tails = zone_tails(machine.world, (pool.order for pool in machine.pools.values()))
    seen, flags, read_only = _Seen(tails), [np.zeros(0, np.bool_)], 0
    for addresses in _addresses(machine):
        found = walk(machine.world.memory, v.format, machine.world.root, addresses)
        frames = (found.address[found.valid] // np.uint64(page_size)).astype(np.int64)
        writable = found.writable[found.valid]
        read_only += int(np.count_nonzero(~writable))
        if v.format.protects:
            seen.add(frames[writable])
            flags.append(writable)
        else:
            flags.append(seen.add_first(frames))
    own = np.concatenate(flags)
    parts = np.array_split(own, min(CELLS, own.size))
    return Memmap(
        page_size,
        own.size,
        seen.count(),
        tails.size,
        read_only,
        _tables(machine),
        machine.world.zones.free_pages,
        tuple(float(part.mean()) for part in parts),
    )


def _spans(machine: Machine) -> list[tuple[int, int]]:
    """The vmemmap of each range of memory: first address and the one behind."""
    v = machine.world.vmemmap
    return [(int(v.address(start)), int(v.address(end))) for start, end in machine.plan.memory]


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
