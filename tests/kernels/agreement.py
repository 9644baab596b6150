"""What `hvo audit` finds in a guest's memory, compared with what the guest's own counters say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from kernels.guest import Captured, Counters, GuestRun
from kernels.scenarios import Scenario

Audit = dict[str, Any]
"""The object that `hvo audit --json` prints."""
_STRUCT_PAGE = 64


class Ended(NamedTuple):
    """A guest at its end: what it did, what it said, and its memory as an ELF core."""

    scenario: Scenario
    run: GuestRun
    core: Path


def audit(core: Path) -> Captured:
    """What `hvo audit --json` prints about `core`, and its status; errors are raised with their
    message.
    """
    command = [
        sys.executable,
        "-c",
        "from hvo.cli.main import main; main()",
        "audit",
        str(core),
        "--json",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1):
        raise RuntimeError(ended.stderr)
    return Captured(ended.stdout, ended.stderr, ended.returncode)


def page_counts(counters: Counters) -> dict[int, int]:
    """HugeTLB pages by their size in bytes, as sysfs says; sizes without pages are left out."""
    sizes = {
        name.partition("@")[2]: value
        for name, value in counters.items()
        if name.startswith("nr_hugepages@")
    }
    return {int(size.removesuffix("kB")) << 10: pages for size, pages in sizes.items() if pages}


def frames_saved(ended: Ended) -> int | None:
    """Frames by which the kernel's count of vmemmap is lower than the memory needs; None before
    6.11, which does not count them.
    """
    counted = [
        value for name, value in ended.run.snapshots["end"].items() if name.startswith("nr_memmap")
    ]
    page_size = ended.scenario.page_size
    needed = (ended.scenario.memory_mib << 20) // page_size * _STRUCT_PAGE // page_size
    return needed - sum(counted) if counted else None


def pages_lost(ended: Ended) -> int:
    """Optimised pages that left the pool and did not come back as free memory (H19): MemFree tells
    by the size of the whole.
    """
    if "shrunk-70" not in ended.run.snapshots:
        return 0
    before, after = (ended.run.snapshots[name] for name in ("on-120", "shrunk-70"))
    left = before["HugePages_Total"] - after["HugePages_Total"]
    return 0 if after["MemFree"] - before["MemFree"] > left * before["Hugepagesize"] // 2 else left


def tails(size: int, page_size: int) -> int:
    """Vmemmap pages of a HugeTLB page of `size` that share a frame once it is optimised (5.18): all
    but the first.
    """
    return size // page_size * _STRUCT_PAGE // page_size - 1


def assert_as_counted(said: Captured, ended: Ended) -> None:
    """Pages are those that sysfs has; the optimised ones explain every frame that the kernel saved;
    nothing is wrong but what it lost.
    """
    found: Audit = json.loads(said.text)
    page_size, lost = ended.scenario.page_size, pages_lost(ended)
    assert (found["kernel"], found["page_size"], found["missing"]) == (
        ended.run.release,
        page_size,
        [],
    )
    assert {pool["size"]: pool["pages"] for pool in found["pools"]} == page_counts(
        ended.run.snapshots["end"]
    )
    for pool in found["pools"]:
        _assert_pool(pool, ended.scenario.optimized[pool["size"]], page_size)
    assert found["layout"] == ("head-shared" if any(ended.scenario.optimized.values()) else "none")
    assert frames_saved(ended) in (None, found["saved"] // page_size)
    assert found["lost"]["pages"] == lost
    assert ({finding["id"] for finding in found["findings"]}, said.status) == (
        ({"lost-page"}, 1) if lost else (set(), 0)
    )


def _assert_pool(pool: dict[str, int], optimized: int, page_size: int) -> None:
    """The kernel's flags and the mapping agree, frames are shared and saved as often as that says,
    and no page is half done.
    """
    each = tails(pool["size"], page_size)
    assert (pool["optimized"], pool["flagged"], pool["partial"]) == (optimized, optimized, 0)
    assert pool["vmemmap_pages"] == each + 1
    assert pool["backing_frames"] == pool["pages"] * (each + 1) - optimized * each
    assert (pool["saved"], pool["possible"]) == (
        optimized * each * page_size,
        (pool["pages"] - optimized) * each * page_size,
    )


def assert_memory_total_grew(ended: Ended) -> None:
    """MemTotal grew by every frame given back that was reserved since boot: where the head is moved
    too (6.2), that is one more a page.
    """
    page_size = ended.scenario.page_size
    frames = 0 if frames_saved(ended) is None else 1
    grown = sum(
        pages * (tails(size, page_size) + frames) for size, pages in ended.scenario.became.items()
    )
    snapshots = ended.run.snapshots
    assert snapshots["end"]["MemTotal"] - snapshots["boot"]["MemTotal"] == grown * page_size // 1024
