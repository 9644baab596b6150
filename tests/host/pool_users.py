"""Processes that use the HugeTLB pages of the running kernel while others change the pool, and one
that watches how many are free.

Run as a program: `pool_users.py map FILE PAGES SEED` maps and touches up to so many pages again and
again, with a reservation and without; `watch FILE` reads the number of free pages as fast as it
can. Both end at SIGTERM; they share FILE, where those who take pages say how many they may have.
"""

import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIZE = 2 << 20
FREE = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
_HUGETLB, _NORESERVE = 0x40000 | 21 << 26, 0x4000
_MAPPER, _GUEST = 0, 8
"""Where in the file each says how many pages it may have."""


class _Ended(Exception):
    """SIGTERM has come."""


def _end(number: int, frame: FrameType | None) -> None:
    raise _Ended


def _shared(path: str) -> mmap.mmap:
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 16)


def say(shared: mmap.mmap, where: int, pages: int) -> None:
    """Say how many pages a user may have from now on."""
    struct.pack_into("Q", shared, where, pages)


def map_again_and_again(path: str, most: int, seed: int) -> None:
    """Map pages and write to each; dies of SIGBUS, or of mmap's error, when there are too few."""
    shared, draw, times = _shared(path), random.Random(seed), {True: 0, False: 0}
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _HUGETLB
    try:
        while True:
            pages, reserve = draw.randint(1, most), draw.random() < 0.5
            say(shared, _MAPPER, pages)
            mapping = mmap.mmap(-1, pages * SIZE, flags=flags | (0 if reserve else _NORESERVE))
            for page in range(pages):
                mapping[page * SIZE] = 1
            mapping.close()
            say(shared, _MAPPER, 0)
            times[reserve] += 1
            time.sleep(draw.uniform(0, 0.03))
    except _Ended:
        print(json.dumps({"reserved": times[True], "unreserved": times[False]}))


def watch(path: str) -> None:
    """The least number of free pages, and of free pages and those that users may have at once."""
    shared, samples, least, least_with = _shared(path), 0, 1 << 60, 1 << 60
    descriptor = os.open(FREE, os.O_RDONLY)
    try:
        while True:
            mine = struct.unpack_from("QQ", shared)
            free = int(os.pread(descriptor, 32, 0))
            now = struct.unpack_from("QQ", shared)
            samples += 1
            least = min(least, free)
            least_with = min(least_with, free + sum(map(max, mine, now)))
    except _Ended:
        found = {"samples": samples, "least": least, "least_with_users": least_with}
        print(json.dumps(found))


@contextmanager
def running(*words: object) -> Generator[dict[str, int]]:
    """One of the two in the background; what it printed is there after the block."""
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True
    )
    said: dict[str, int] = {}
    try:
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, f"{words[0]} ended with {process.returncode}"
    said |= json.loads(printed)


class Guests:
    """QEMU guests with their memory on hugetlbfs, one after the other: some are paused and have all
    of it, some run their firmware and take what they touch.
    """

    def __init__(self, shared: Path, mount: Path, pages: int) -> None:
        self._shared = _shared(str(shared))
        self._words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg"]
        self._words += ["-m", f"{pages * SIZE >> 20}M", "-mem-path", str(mount)]
        self._pages = pages
        self.started = 0

    def start(self) -> None:
        """Start the next one, and end it."""
        paused = self.started % 2 == 0
        say(self._shared, _GUEST, self._pages)
        more = ["-mem-prealloc", "-S"] if paused else []
        process = subprocess.Popen(
            [*self._words, *more, "-monitor", "stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        printed = process.stdout.readline()  # the monitor's greeting: its memory is there
        if not paused:
            time.sleep(0.2)
        printed += process.communicate("quit\n", timeout=60)[0]
        assert process.returncode == 0, printed
        say(self._shared, _GUEST, 0)
        self.started += 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    if sys.argv[1] == "map":
        map_again_and_again(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        watch(sys.argv[2])
