"""The running kernel's pools for tests that change them, and words to look at them."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvo.host import procfs
from hvo.host.converted import forget
from hvo.host.journal import JOURNAL
from hvo.host.kernel import GATE, read_kernel
from hvo.host.pools import settable, sizes
from hvo.host.status import read_status
from hvo.host.tree import Tree

SIZE = 2 << 20
_NEEDED = 6 << 30


@pytest.fixture(name="host")
def live_host() -> Iterator[Tree]:
    """The running kernel with empty pools and the switch off; afterwards pools and switch are as
    they were, whatever happened.
    """
    if not os.access(GATE, os.W_OK):
        pytest.skip(f"{GATE} cannot be written here")
    tree = Tree()
    kernel = read_kernel(tree)
    if (
        kernel.defects
        or kernel.freed_pages(SIZE) != 7
        or procfs.counters(tree, 4096).memmap is None
    ):
        pytest.skip(
            f"kernel {kernel.release} has no memory map counters, no 2 MiB pages that can be"
            " optimised, or a known defect"
        )
    with (Path(tempfile.gettempdir()) / "hvo-live-test.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from _emptied(tree)


def _emptied(tree: Tree) -> Iterator[Tree]:
    pools = [pool for size in sizes(tree) for pool in settable(tree, size, None)]
    if any(pool.in_use or pool.surplus for pool in pools) or tree.exists(JOURNAL):
        pytest.skip("somebody uses HugeTLB pages on this host")
    if procfs.table(tree.read("/proc/meminfo"))["MemAvailable"] < _NEEDED:
        pytest.skip("less than 6 GiB of memory are available")
    gate = tree.read(GATE).strip()
    try:
        for pool in pools:
            tree.write(pool.path, "0")
        tree.write(GATE, "0")
        yield tree
    finally:
        tree.remove(JOURNAL)
        for pool in pools:
            forget(tree, pool.size)
            tree.write(pool.path, "0")
        tree.write(GATE, gate)
        for pool in pools:
            tree.write(pool.path, str(pool.persistent))


def memmap(tree: Tree) -> int:
    """`nr_memmap_pages + nr_memmap_boot_pages`, read by this test itself."""
    rows = dict(line.split() for line in tree.read("/proc/vmstat").splitlines())
    return int(rows["nr_memmap_pages"]) + int(rows["nr_memmap_boot_pages"])


def optimized(tree: Tree, size: int = SIZE) -> int | None:
    """What `hvo status` says."""
    return next(
        row.optimized.exact
        for row in read_status(tree).pools
        if (row.pool.size, row.pool.node) == (size, None)
    )


def hvo(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-c", "from hvo.cli.main import main; main()", *words],
        capture_output=True,
        text=True,
    )


def wait_for_journal(host: Tree, child: int) -> None:
    """Wait until a conversion in the process `child` has begun, or ended."""
    path, until = host.path(JOURNAL), time.monotonic() + 20
    while not path.exists() and time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0002)
