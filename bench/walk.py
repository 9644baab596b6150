"""Entries walked per second: every page of the vmemmap of 1 TiB, through tables in one flat array
of words.

`python bench/walk.py [--random]` prints one line with the machine's name; `--random` shuffles the
addresses.
"""

import platform
import sys
import time
from pathlib import Path

import numpy as np

from hvo.layout import format_size, geometry, parse_size
from hvo.mmu.formats import format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.walk import walk

ROOT = 0x1000
ROUNDS = 5


class FlatMemory:
    """Physical memory in one array; frames for tables are handed out from the bottom."""

    def __init__(self, size: int, page_size: int) -> None:
        self.page_size = page_size
        self.words = np.zeros(size // 8, np.uint64)
        self.next = ROOT + page_size

    def allocate(self, count: int) -> np.ndarray:
        """Physical addresses of `count` zeroed frames."""
        first, self.next = self.next, self.next + count * self.page_size
        return np.arange(first, self.next, self.page_size, dtype=np.uint64)

    def read_words(self, addresses: np.ndarray) -> np.ndarray:
        """The words at `addresses`; an address outside raises `IndexError`."""
        return self.words[addresses >> np.uint64(3)]

    def write_words(self, addresses: np.ndarray, values: np.ndarray) -> None:
        """Store `values` at `addresses`."""
        self.words[addresses >> np.uint64(3)] = values


def cpu_name() -> str:
    """The model name that Linux gives, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Build the tables, walk them a few times, print the best."""
    format, memmap = (
        format_for("arm64", 4096, 48),
        geometry("arm64", 4096).cost_bytes(parse_size("1TiB")),
    )
    memory = FlatMemory(parse_size("64MiB"), format.page_size)
    start = format.canonical(0xFFFFFDFFC0000000)
    began = time.perf_counter()
    map_range(memory, format, ROOT, start, 1 << 40, memmap, 0, memory.allocate)  # type: ignore[arg-type]
    build = time.perf_counter() - began
    addresses = np.uint64(start) + np.arange(0, memmap, format.page_size, dtype=np.uint64)
    if "--random" in sys.argv[1:]:
        np.random.default_rng(1).shuffle(addresses)
    best = min(_timed(lambda: walk(memory, format, ROOT, addresses)) for _ in range(ROUNDS))  # type: ignore[arg-type]
    print(
        f"walk: {addresses.size} entries of {format_size(memmap)} of vmemmap in {best:.3f} s,"
        f" {addresses.size / best / 1e6:.1f} M entries/s on one core (tables built in {build:.3f}"
        f" s; {cpu_name()})"
    )


def _timed(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
