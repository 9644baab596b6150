"""Cores of Debian kernels, plain and compressed: what we find in them equals what the kernels' own counters said."""

import subprocess
from functools import cache
from pathlib import Path

import pytest

from hvo.memory.core import open_core
from kernels.conftest import Ended
from kernels.installed import tool
from kernels.scenarios import frames_saved, memory_gained, page_counts
from kernels.walked import Walked, walked

pytestmark = pytest.mark.kernels

COMPRESSIONS = {"uncompressed": (), "zlib": ("-c",), "lzo": ("-l",), "snappy": ("-p",), "zstd": ("-z",)}
EVERYTHING, NO_USELESS_PAGE = "0", "31"
"""Dump levels of makedumpfile: with every page; without zero pages, page cache, user pages and free pages."""


@cache
def built_in() -> set[str]:
    """The compressions that makedumpfile was built with."""
    told = subprocess.run([tool("makedumpfile"), "-v"], capture_output=True, text=True, check=True).stdout
    return {"uncompressed", "zlib"} | {line.split()[0] for line in told.splitlines() if line.endswith("\tenabled")}


def compressed(core: Path, target: Path, compression: str, level: str) -> Path:
    """The ELF core `core` as makedumpfile writes it."""
    if compression not in built_in():
        pytest.skip(f"the distribution's makedumpfile is built without {compression}")
    command = [tool("makedumpfile"), *COMPRESSIONS[compression], "-d", level, str(core), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def assert_as_counted(found: Walked, ended: Ended) -> None:
    """Pages are those of the pools' own counters; the optimised ones explain every frame that the kernel has gained."""
    scenario, run, _ = ended
    assert found.release == run.release
    assert {pool.size: pool.pages for pool in found.pools} == page_counts(run.snapshots["end"])
    pool, = found.pools
    assert (pool.optimized, pool.flagged) == (scenario.optimized, scenario.optimized)
    tails = pool.size // 4096 * 64 // 4096 - 1
    assert found.read_only == pool.optimized * tails
    assert pool.backing_frames == pool.pages * (tails + 1) - pool.optimized * tails
    assert frames_saved(run) in (None, pool.optimized * tails)
    assert not found.unreadable


def test_core_says_what_the_counters_said(ended: Ended):
    """The ELF core that QEMU saved."""
    assert_as_counted(walked(open_core(ended.core)), ended)


def test_memory_total_grew_by_the_frames_freed(ended: Ended):
    """7 frames for every 2 MiB page that was ever optimised; 8 where the head is moved to a new frame (6.2), and so its old one freed."""
    moved = frames_saved(ended.run) is not None
    assert memory_gained(ended.run) == ended.scenario.ever_optimized * (32 if moved else 28)


@pytest.mark.parametrize("level", [EVERYTHING, NO_USELESS_PAGE])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_core_says_the_same(ended: Ended, tmp_path: Path, compression: str, level: str):
    """Level 31 keeps all that is needed: page tables, sections and struct pages are the kernel's own pages."""
    core = compressed(ended.core, tmp_path / "core", compression, level)
    assert_as_counted(walked(open_core(core)), ended)
    core.unlink()
