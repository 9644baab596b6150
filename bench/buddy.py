"""How fast and how small the page allocator is: `python bench/buddy.py` prints one line a
figure.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hvo.kernel.buddy import Zone

TIB = (1 << 40) // 4096


def memory(key: str) -> float:
    """A figure of /proc/self/status in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) / 1024


def timed(what: str, budget: str, work: Callable[[], Any]) -> Any:
    """Run `work`, print how long it took, what memory it left and had at its peak, and return its
    result.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    resident, anonymous, start = memory("VmRSS"), memory("RssAnon"), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    left, peak = memory("RssAnon") - anonymous, memory("VmHWM") - resident
    print(
        f"{what:<58} {seconds * 1e3:8.1f} ms, left {left:+6.1f} MiB, peak {peak:+6.1f} MiB  "
        f" {budget}"
    )
    return result


def main() -> None:
    """Print the figures for a zone of 1 TiB, and one of 16 TiB, with 4 KiB pages."""
    print(f"machine: {platform.node()} {platform.machine()}, numpy {np.__version__}")
    zone = timed("make a zone of 1 TiB", "budget 20 ms, 60 MiB", lambda: Zone(0, "Normal", 0, TIB))
    pages = timed(
        "allocate 524288 blocks of order 9", "budget 50 ms", lambda: zone.allocate(9, 1 << 19)
    )
    timed("free 524288 blocks of order 9", "budget 200 ms", lambda: zone.free(pages, 9))
    timed("reserve the 4.19 M frames of the vmemmap", "", lambda: zone.reserve_range(0, 1 << 22))
    timed(
        "allocate 507904 blocks of order 9 (all but the vmemmap)",
        "",
        lambda: zone.allocate(9, 1 << 19),
    )
    # What the optimisation gives back: the last 7 of every 8 frames of the vmemmap of 1 TiB.
    tails = np.arange(1 << 22).reshape(-1, 8)[:, 1:].reshape(-1)
    timed("free 3.67 M reserved frames to the queue", "", lambda: zone.free_reserved(tails))
    frames = timed("allocate 3.67 M frames", "", lambda: zone.allocate_frames(len(tails)))
    assert frames is not None
    timed("free 3.67 M frames to the queue", "", lambda: zone.free_frames(frames))
    timed("drain 3.67 M frames, runs of 7", "budget 2000 ms", zone.drain)
    timed(
        "allocate 3.67 M frames from the buddy lists", "", lambda: zone.allocate_frames(len(tails))
    )
    small = Zone(0, "Normal", 0, TIB)
    scattered = np.random.default_rng(1).permutation(1 << 22)
    small.take(scattered)
    small.free_frames(scattered)
    timed("drain 4.19 M frames in random order, wholly coalescing", "budget 2000 ms", small.drain)
    timed("10000 times: allocate one frame, free it", "", lambda: single_frames(small, 10000))
    timed(
        "1000 times: allocate one block of order 9, free it", "", lambda: single_blocks(small, 1000)
    )
    timed("make a zone of 16 TiB", "", lambda: Zone(0, "Normal", 0, 16 * TIB))


def single_frames(zone: Zone, times: int) -> None:
    """One frame at a time, as the machine does after the first failure."""
    for _ in range(times):
        zone.free_frames(zone.allocate_upto(1))


def single_blocks(zone: Zone, times: int) -> None:
    """One block at a time."""
    for _ in range(times):
        zone.free(zone.allocate(9, 1), 9)


if __name__ == "__main__":
    main()
