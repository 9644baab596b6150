"""The commands on the running kernel: every change compared with the kernel's counters exactly, and
everything put back as it was.

Skipped where the switch cannot be written. A lock keeps other runs of these tests away; nothing
else may touch the pools meanwhile.
"""

import json
import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from live_host import SIZE, hvo, memmap, optimized, wait_for_journal

from hvo.host.convert import convert, resume, undo
from hvo.host.gate import switch
from hvo.host.hold import MappedPages
from hvo.host.journal import JOURNAL
from hvo.host.kernel import GATE
from hvo.host.pools import read_pool
from hvo.host.resize import resize
from hvo.host.status import read_status
from hvo.host.tree import Tree

pytestmark = pytest.mark.live
GIB = 1 << 30


@pytest.fixture
def used() -> Iterator[list[mmap.mmap]]:
    """Mappings of HugeTLB pages, gone before the pools are put back."""
    mappings: list[mmap.mmap] = []
    yield mappings
    for mapping in mappings:
        mapping.close()


def use(mappings: list[mmap.mmap], pages: int) -> mmap.mmap:
    """Map `pages` pages of 2 MiB and write the number of each into it."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 21 << 26
    mapping = mmap.mmap(-1, pages * SIZE, flags=flags)
    mappings.append(mapping)
    for page in range(pages):
        mapping[page * SIZE : page * SIZE + 8] = page.to_bytes(8, "little")
        mapping[(page + 1) * SIZE - 1] = page & 0xFF
    return mapping


def contents(mapping: mmap.mmap) -> list[tuple[int, int]]:
    """What `use` wrote, as it is now."""
    pages = range(len(mapping) // SIZE)
    return [
        (
            int.from_bytes(mapping[page * SIZE : page * SIZE + 8], "little"),
            mapping[(page + 1) * SIZE - 1],
        )
        for page in pages
    ]


def test_enable_fill_shrink_disable(host):
    """512 pages of 2 MiB take 3584 pages out of the memory map, 312 of them given back bring 2184
    again, with the commands' own words.
    """
    start = memmap(host)
    assert hvo("enable").returncode == 0
    grown = hvo("resize", "2MiB=512", "--json")
    assert (grown.returncode, memmap(host) - start) == (0, -512 * 7)
    assert json.loads(grown.stdout)["changes"][0]["measured"] == -3584
    assert optimized(host) == 512
    assert hvo("resize", "2MiB=200").returncode == 0
    assert (memmap(host) - start, optimized(host)) == (-200 * 7, 200)
    assert hvo("disable").returncode == 0
    assert hvo("resize", "2MiB=230").returncode == 0
    assert (memmap(host) - start, optimized(host)) == (-200 * 7, 200)
    assert hvo("resize", "2MiB=0").returncode == 0
    assert memmap(host) == start


def test_a_mixed_pool_becomes_optimised(host):
    """40 pages from before the switch and 80 after it: 40 more become optimised, the pool has 120
    at the end, all are free.
    """
    start = memmap(host)
    resize(host, SIZE, 40)
    switch(host, True)
    resize(host, SIZE, 120)
    assert optimized(host) == 80
    outcome = convert(host, SIZE, batch=16, keep_free=0)
    assert outcome.ok, outcome.complaint
    assert (outcome.details["optimized"], memmap(host) - start, optimized(host)) == (
        40,
        -120 * 7,
        120,
    )
    pool = read_pool(host, SIZE)
    assert (pool.pages, pool.free, pool.surplus) == (120, 120, 0)
    assert convert(host, SIZE).writes == ()


def test_pages_in_use_keep_their_contents_and_are_later_work(host, used):
    """10 of 64 pages are in use while the rest is converted: 54 become optimised, the 10 are
    untouched, then they can be converted too.
    """
    start = memmap(host)
    resize(host, SIZE, 64)
    mapping = use(used, 10)
    before = contents(mapping)
    switch(host, True)
    outcome = convert(host, SIZE, batch=7, keep_free=0)
    assert outcome.ok, outcome.complaint
    assert (memmap(host) - start, contents(mapping)) == (-54 * 7, before)
    assert "10 pages are in use" in outcome.notes[0]
    assert [each.command for each in read_status(host).advice] == [None]
    used.pop().close()
    assert [each.command for each in read_status(host).advice] == ["hvo convert --size 2MiB"]
    assert convert(host, SIZE, keep_free=0).ok
    assert memmap(host) - start == -64 * 7


def test_a_pool_is_never_set_below_what_is_in_use(host, used):
    """20 of 30 are mapped, 5 more only reserved: 24 is refused with exit 2 and one line, 25 is
    done, and nothing becomes surplus.
    """
    resize(host, SIZE, 30)
    use(used, 20)
    used.append(
        mmap.mmap(-1, 5 * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000 | 21 << 26)
    )
    refused = hvo("resize", "2M=24")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "expected at least 25" in refused.stderr
    assert read_pool(host, SIZE).pages == 30
    assert hvo("resize", "2M=25").returncode == 0
    assert read_pool(host, SIZE).surplus == 0


@pytest.mark.slow
def test_gigantic_pages_only_on_request_and_one_at_a_time(host):
    """Two pages of 1 GiB from before the switch: refused without --gigantic, then 4095 pages of
    memory map less for each.
    """
    start = memmap(host)
    if not resize(host, GIB, 2).ok:
        pytest.skip("no two free gigabytes in one piece")
    assert hvo("enable").returncode == 0
    refused = hvo("convert", "--size", "1GiB")
    assert (refused.returncode, "--gigantic" in refused.stderr) == (2, True)
    outcome = convert(host, GIB, gigantic=True, keep_free=0)
    assert outcome.ok, outcome.complaint
    assert (memmap(host) - start, optimized(host, GIB)) == (-2 * 4095, 2)
    assert [int(write.value) for write in outcome.writes] == [1, 2, 1, 2]


def test_somebody_else_sets_the_pool_in_the_middle(host):
    """After the third batch another process takes pages away: the conversion stops with its line,
    and the other's size stays.
    """
    resize(host, SIZE, 64)
    switch(host, True)
    said: list[tuple[str, int, int]] = []

    def disturb(what: str, done: int, total: int) -> None:
        said.append((what, done, total))
        if len(said) == 4:
            host.path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages").write_text("50\n")

    outcome = convert(host, SIZE, batch=8, keep_free=0, announce=disturb)
    assert said == [("converting 2MiB", done, 64) for done in (0, 8, 16, 24)]
    assert "somebody else set it from 64 to 50" in outcome.complaint
    pool = read_pool(host, SIZE)
    assert (pool.pages, pool.free, host.exists(JOURNAL)) == (50, 50, False)


def test_read_only_files_are_one_line(host):
    """In a mount namespace where /proc/sys and /sys are read-only: exit 2, one line, nothing
    changed.
    """
    resize(host, SIZE, 4)
    for place, words in (("/proc/sys", ("enable",)), ("/sys", ("resize", "2MiB=8"))):
        mount = f"mount --bind {place} {place} && mount -o remount,bind,ro {place}"
        command = [
            "unshare",
            "-m",
            "sh",
            "-c",
            f'{mount} || exit 77; exec "$@"',
            "sh",
            sys.executable,
        ]
        done = subprocess.run(
            [*command, "-c", "from hvo.cli.main import main; main()", *words],
            capture_output=True,
            text=True,
        )
        if done.returncode in (1, 77) and "mount" in done.stderr:
            pytest.skip("mounts cannot be changed here")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "read-only filesystem" in done.stderr
    assert (read_pool(host, SIZE).pages, host.number(GATE)) == (4, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_command_fills_the_pool_again(host, number):
    """SIGTERM, SIGINT and SIGHUP in the middle: exit 130, the pool is whole, no journal is left."""
    resize(host, SIZE, 256)
    switch(host, True)
    words = ["convert", "--batch", "1"]
    code = (  # nohup may have ignored it
        f"import signal; signal.signal({number:d}, signal.SIG_DFL); from hvo.cli.main import main;"
        " main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE)
    wait_for_journal(host, process.pid)
    process.send_signal(number)
    assert b"interrupted" in process.communicate()[1]
    assert process.returncode == 130
    pool = read_pool(host, SIZE)
    assert (pool.pages, pool.free, host.exists(JOURNAL)) == (256, 256, False)


def _killed_after(host: Tree, seconds: float) -> None:
    """Convert in a child that is killed so long after its journal appeared (or, when negative,
    after it was born).
    """
    child = os.fork()
    if not child:
        os.close(2)
        convert(host, SIZE, batch=4, keep_free=0, hold=MappedPages())
        os._exit(0)
    if seconds >= 0:
        wait_for_journal(host, child)
    time.sleep(abs(seconds))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _kill_repeatedly(host: Tree, used: list[mmap.mmap], times: int) -> tuple[int, int]:
    """Kill a conversion of 64 pages so often, and after each time resume or undo; how often pages
    were missing, and a journal left.
    """
    draw, missing, interrupted = random.Random(20261123), 0, 0
    resize(host, SIZE, 64)
    mapping = use(used, 10)
    before = contents(mapping)
    switch(host, True)
    began = time.monotonic()
    assert convert(host, SIZE, batch=4, keep_free=0).ok
    took = time.monotonic() - began
    for attempt in range(times):
        _make_unoptimised(host)
        _killed_after(host, draw.uniform(-0.05, 1) * took)
        missing += read_pool(host, SIZE).pages < 64
        interrupted += host.exists(JOURNAL)
        outcome = undo(host) if attempt % 2 else resume(host)
        assert outcome.ok, (attempt, outcome.complaint)
        pool = read_pool(host, SIZE)
        assert (pool.pages, pool.free, pool.surplus, host.exists(JOURNAL)) == (
            64,
            54,
            0,
            False,
        ), attempt
        if not attempt % 2 and "nothing was" not in "".join(outcome.notes):
            assert optimized(host) == 54, attempt
        assert contents(mapping) == before, attempt
    return missing, interrupted


def _make_unoptimised(host: Tree) -> None:
    """Rebuild the free pages with the switch off."""
    host.write(GATE, "0")
    for count in ("10", "64"):
        host.write(read_pool(host, SIZE).path, count)
    host.write(GATE, "1")
    assert optimized(host) == 0


def test_killed_at_random_moments_loses_no_page(host, used):
    """`kill -9` at 8 seeded moments, with 10 pages in use: --resume and --undo leave 64 pages, the
    used ones with their contents.
    """
    missing, interrupted = _kill_repeatedly(host, used, 8)
    assert interrupted > 1
    assert missing <= interrupted


@pytest.mark.slow
def test_killed_at_two_hundred_moments_loses_no_page(host, used):
    """The same at 200 moments; in some of them pages were really out of the pool."""
    missing, interrupted = _kill_repeatedly(host, used, 200)
    assert (missing > 0, interrupted > 60) == (True, True)


def test_measuring_leaves_a_mixed_pool_as_it_was(host):
    """20 pages from before the switch and 30 after it; bench-host takes and gives back 64 more, and
    each kind is as it was.
    """
    start = memmap(host)
    resize(host, SIZE, 20)
    switch(host, True)
    resize(host, SIZE, 50)
    done = hvo("bench-host", "--pages", "64", "--rounds", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(
        found[what][gate]["least_ns"] > 0 for what in ("allocate", "free") for gate in ("on", "off")
    )
    pool = read_pool(host, SIZE)
    assert (pool.pages, pool.free, optimized(host), memmap(host) - start, host.number(GATE)) == (
        50,
        50,
        30,
        -210,
        1,
    )
    resize(host, SIZE, 20)
    assert memmap(host) == start


def test_a_measurement_that_is_killed_is_taken_back(host):
    """`kill -9` at seeded moments: `hvo convert --undo` brings back the pool and the switch."""
    draw, interrupted = random.Random(11), 0
    resize(host, SIZE, 8)
    for _ in range(6):
        words = ["bench-host", "--pages", "256", "--rounds", "50"]
        process = subprocess.Popen(
            [sys.executable, "-c", "from hvo.cli.main import main; main()", *words],
            stderr=subprocess.DEVNULL,
        )
        wait_for_journal(host, process.pid)
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.wait()
        interrupted += host.exists(JOURNAL)
        assert hvo("convert", "--undo").returncode == 0
        pool = read_pool(host, SIZE)
        assert (pool.pages, pool.free, host.number(GATE), host.exists(JOURNAL)) == (8, 8, 0, False)
    assert interrupted > 2
