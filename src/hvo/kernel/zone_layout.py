"""Which zones a kernel makes of a node's memory: the borders of each architecture, and the movable
part at the end.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hvo.errors import HvoError

Range = tuple[int, int]

_MIB, _GIB = 1 << 20, 1 << 30

# Zones below Normal with the address where each ends: arch/x86/mm/init.c `zone_sizes_init`, arm64
# `zone_sizes_init` (ZONE_DMA takes all 32-bit addresses there and leaves ZONE_DMA32 empty), riscv
# and loongarch `zone_sizes_init`.
LOW_ZONES: dict[str, tuple[tuple[str, int], ...]] = {
    "x86_64": (("DMA", 16 * _MIB), ("DMA32", 4 * _GIB)),
    "arm64": (("DMA", 4 * _GIB),),
    "riscv64": (("DMA32", 4 * _GIB),),
    "loongarch64": (("DMA32", 4 * _GIB),),
}

# enum zone_type (include/linux/mmzone.h) as the distributions' options make it: the number of a
# zone in the flags of its struct pages is its place here.
ZONE_NAMES: dict[str, tuple[str, ...]] = {
    "x86_64": ("DMA", "DMA32", "Normal", "Movable", "Device"),
    "arm64": ("DMA", "DMA32", "Normal", "Movable", "Device"),
    "riscv64": ("DMA32", "Normal", "Movable", "Device"),
    "loongarch64": ("DMA32", "Normal", "Movable", "Device"),
}

# MAX_PAGE_ORDER of each base page size (ARCH_FORCE_MAX_ORDER, arch/arm64/Kconfig).
MAX_ORDERS = {4096: 10, 16384: 11, 65536: 13}


def zone_number(arch: str, name: str) -> int:
    """The number of the zone `name` in the flags of its struct pages."""
    return ZONE_NAMES[arch].index(name)


class ZoneMemory(NamedTuple):
    """A zone to be: its name and the (first, last + 1) frames of its memory, ascending."""

    name: str
    ranges: list[Range]


def zone_memory(
    arch: str, memory: Sequence[Range], page_size: int, movable_frames: int = 0
) -> list[ZoneMemory]:
    """The zones of a node with the frame ranges `memory` (ascending, disjoint), lowest first; zones
    without memory are left out.

    The last `movable_frames` frames of the highest zone become Movable. Raises `HvoError` for an
    unknown `arch` or `page_size`, or when nothing would be left of the highest zone.
    """
    if arch not in LOW_ZONES:
        raise HvoError(
            f"no zones are known for architecture {arch!r}: expected one of {', '.join(LOW_ZONES)}"
        )
    if page_size not in MAX_ORDERS:
        raise HvoError(
            f"base page size {page_size}: expected one of {', '.join(map(str, MAX_ORDERS))}"
        )
    return _with_movable(_parts(arch, memory, page_size), movable_frames) if memory else []


def _parts(arch: str, memory: Sequence[Range], page_size: int) -> list[ZoneMemory]:
    """The zones of a node that have memory, lowest first, each with its ranges."""
    bounds = [(name, end // page_size) for name, end in LOW_ZONES[arch]] + [
        ("Normal", memory[-1][1])
    ]
    starts = [0] + [bound for _, bound in bounds]
    parts = [
        ZoneMemory(name, _clip(memory, start, end))
        for start, (name, end) in zip(starts, bounds, strict=False)
    ]
    return [part for part in parts if part.ranges]


def _clip(memory: Sequence[Range], start: int, end: int) -> list[Range]:
    """What of `memory` lies in the frames `start` to `end`."""
    return [
        (max(first, start), min(last, end))
        for first, last in memory
        if first < end and last > start
    ]


def _with_movable(parts: list[ZoneMemory], frames: int) -> list[ZoneMemory]:
    """`parts` with the last `frames` frames of the highest zone made Movable
    (`find_zone_movable_pfns_for_nodes`).
    """
    if not frames:
        return parts
    name, ranges = parts[-1]
    there = sum(end - start for start, end in ranges)
    if not 0 < frames < there:
        raise HvoError(
            f"{frames} movable frames: expected fewer than the highest zone of the node has,"
            f" {there} in {name}"
        )
    border = _last_frames(ranges, frames)
    last = ranges[-1][1]
    return [
        *parts[:-1],
        ZoneMemory(name, _clip(ranges, 0, border)),
        ZoneMemory("Movable", _clip(ranges, border, last)),
    ]


def _last_frames(ranges: Sequence[Range], frames: int) -> int:
    """The frame from which on `ranges` hold `frames` frames; they hold more."""
    after = 0
    for start, end in reversed(ranges):
        if after + end - start >= frames:
            return end - (frames - after)
        after += end - start
    return ranges[0][0]
