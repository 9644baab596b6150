"""A conversion on the running kernel beside those who use its pool: processes that map pages with
and without a reservation, and guests of QEMU with their memory on hugetlbfs.

1200 pages, all from before the switch; everybody stays within the pages that are kept free.
"""

import ctypes
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_host import SIZE, hvo, memmap, optimized, wait_for_journal
from pool_users import Guests, running

from hvo.host.gate import switch
from hvo.host.hold import MappedPages
from hvo.host.journal import JOURNAL
from hvo.host.pools import read_pool
from hvo.host.resize import resize
from hvo.host.tree import Tree

pytestmark = pytest.mark.live
PAGES, GUEST = 1200, 32


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Where users say how many pages they have."""
    path = tmp_path / "users"
    path.write_bytes(bytes(16))
    return path


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """A hugetlbfs."""
    place = tmp_path / "huge"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", place], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"hugetlbfs cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def filled(host: Tree) -> int:
    """A pool with no optimised page, and the switch on; the memory map's size."""
    switch(host, False)
    resize(host, SIZE, 0)
    assert resize(host, SIZE, PAGES).ok
    switch(host, True)
    return memmap(host)


@contextmanager
def guests(shared: Path, mount: Path) -> Iterator[Guests]:
    """Guests start one after the other meanwhile; raises what went wrong with one."""
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("qemu-system-x86_64 is absent")
    started, over, failures = Guests(shared, mount, GUEST), threading.Event(), list[str]()

    def start() -> None:
        try:
            while not over.is_set():
                started.start()
        except (AssertionError, subprocess.SubprocessError) as error:
            failures.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    try:
        yield started
    finally:
        over.set()
        thread.join()
    assert not failures, failures[0]


def kill_at_random(host: Tree, draw: random.Random, batch: int, took: float) -> dict[str, int]:
    """Convert, killed in the middle by SIGKILL or SIGTERM three times; the result of the last
    one.
    """
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, None):
        words = ["--resume"] if host.exists(JOURNAL) else ["--batch", str(batch)]
        code = (  # nohup may have ignored it
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL);"
            " from hvo.cli.main import main; main()"
        )
        command = [sys.executable, "-c", code, "convert", *words, "--json"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if number:
            wait_for_journal(host, process.pid)
            time.sleep(draw.uniform(0, took))
            process.send_signal(number)
        printed, complaint = process.communicate(timeout=120)
        if process.returncode == 0:
            return json.loads(printed)
        # SIGTERM is 130 while pools change, and ends the program as usual before and after that
        assert process.returncode in ((-9,) if number == signal.SIGKILL else (130, -15)), complaint
    raise AssertionError("the last one was not killed")


def whole(host: Tree) -> None:
    """The pool is as large as at first, all free, and nothing is to be resumed."""
    pool = read_pool(host, SIZE)
    assert (pool.pages, pool.free, pool.surplus) == (PAGES, PAGES, 0)
    assert not host.exists(JOURNAL)


def frames(mapping: mmap.mmap, pages: int) -> list[int]:
    """The page frame numbers of a mapping's HugeTLB pages, by /proc/self/pagemap."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    with open("/proc/self/pagemap", "rb") as file:
        entries = [
            os.pread(file.fileno(), 8, (start + page * SIZE) // mmap.PAGESIZE * 8)
            for page in range(pages)
        ]
    return [int.from_bytes(entry, sys.byteorder) & (1 << 55) - 1 for entry in entries]


def held_by_a_child(pages: int, end: Callable[[MappedPages], object]) -> list[int]:
    """The frames of the pages that a child takes off the free list, in that order; then it does
    `end`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        hold = MappedPages()
        hold.begin(SIZE, pages, 0)
        hold.take(pages)
        assert hold._map is not None
        os.write(writing, json.dumps(frames(hold._map, pages)[::-1]).encode())
        end(hold)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as pipe:
        return json.load(pipe)


def test_held_pages_come_back_in_their_order(host: Tree):
    """Whether they are put back or their holder is killed: who takes as many pages then gets the
    same ones in the same order. What is put back first was taken first.
    """
    resize(host, SIZE, 100)
    before = held_by_a_child(40, lambda hold: None)
    assert len(set(before)) == 40
    assert held_by_a_child(40, lambda hold: hold.release()) == before
    assert held_by_a_child(40, lambda hold: os.kill(os.getpid(), signal.SIGKILL)) == before
    assert held_by_a_child(40, lambda hold: hold.give(10)) == before
    assert held_by_a_child(40, lambda hold: None) == before[10:] + before[:10]


@pytest.mark.parametrize(("batch", "keep_free"), [(20, 150), (300, 300), (20, 700)])
def test_alone_the_free_count_never_falls_below(host: Tree, shared: Path, batch, keep_free):
    """All pages but those that are kept free become optimised, and at no moment fewer are free."""
    start = filled(host)
    with running("watch", shared) as seen:
        done = hvo("convert", "--batch", str(batch), "--keep-free", str(keep_free), "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["rebuilt"], said["optimized"], said["left_free"]) == (
        0,
        PAGES - keep_free,
        PAGES - keep_free,
        keep_free,
    )
    assert (memmap(host) - start, optimized(host)) == (-7 * said["optimized"], said["optimized"])
    assert keep_free <= seen["least"] < PAGES  # mostly it is seen at the very moment
    whole(host)
    assert json.loads(hvo("convert", "--keep-free", "0", "--json").stdout)["left_free"] == 0
    assert optimized(host) == PAGES


def beside_users(
    host: Tree, shared: Path, mount: Path, batch: int, seed: int
) -> tuple[dict[str, int], dict[str, int], Guests]:
    """A conversion that is killed at random beside all kinds of users; what it said at last, what
    the process did that maps pages, and the guests.
    """
    keep_free, start, draw = max(batch, PAGES // 8), filled(host), random.Random(seed)
    with (
        running("watch", shared) as seen,
        running("map", shared, keep_free - GUEST, seed) as mapped,
        guests(shared, mount) as started,
    ):
        said = kill_at_random(host, draw, batch, 1.5)
    whole(host)
    optimised = (start - memmap(host)) // 7
    rest = said["left"] + said["left_free"] + said["taken_meanwhile"]
    assert PAGES - optimised <= rest, said
    assert seen["least_with_users"] >= keep_free, (seen, said)
    return said, mapped, started


@pytest.mark.parametrize("batch", [20, 300])
def test_no_user_fails_within_what_is_kept_free(host: Tree, shared: Path, mount: Path, batch: int):
    """While it runs, is killed and goes on: a process maps and touches pages again and again, and
    guests start. The free count and what they have are never fewer than are kept free together;
    all but what the result says is optimised at the end, and no page is lost.
    """
    said, mapped, started = beside_users(host, shared, mount, batch, seed=batch)
    assert said["ok"], said["problem"]
    assert min(mapped["reserved"], mapped["unreserved"], started.started) > 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_no_user_fails_in_a_dozen_conversions(host: Tree, shared: Path, mount: Path, seed: int):
    """The same at other moments."""
    for batch in (20, 300):
        assert beside_users(host, shared, mount, batch, seed)[0]["ok"]
