"""Cores of Debian kernels, plain and compressed: what we find in them equals what the kernels' own
counters said.
"""

import subprocess
from functools import cache
from pathlib import Path

import pytest

from kernels.agreement import Ended, assert_as_counted, assert_memory_total_grew, audit
from kernels.installed import tool

pytestmark = pytest.mark.kernels

COMPRESSIONS = {"zlib": "-c", "lzo": "-l", "snappy": "-p", "zstd": "-z"}


@cache
def built_in() -> set[str]:
    """The compressions that makedumpfile was built with."""
    told = subprocess.run(
        [tool("makedumpfile"), "-v"], capture_output=True, text=True, check=True
    ).stdout
    return {"zlib"} | {line.split()[0] for line in told.splitlines() if line.endswith("\tenabled")}


def compressed(core: Path, target: Path, compression: str, level: int) -> Path:
    """The ELF core `core` as makedumpfile writes it."""
    if compression not in built_in():
        pytest.skip(f"the distribution's makedumpfile is built without {compression}")
    command = [
        tool("makedumpfile"),
        COMPRESSIONS[compression],
        "-d",
        str(level),
        str(core),
        str(target),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return target


def test_core_says_what_the_counters_said(ended: Ended):
    """The ELF core that QEMU saved."""
    assert_as_counted(audit(ended.core), ended)


def test_memory_total_grew_by_the_frames_freed(ended: Ended):
    """7 frames for every 2 MiB page that ever became optimised, 8 where its head is moved."""
    assert_memory_total_grew(ended)


@pytest.mark.parametrize("level", [0, 31])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_core_says_the_same(ended: Ended, tmp_path: Path, compression: str, level: int):
    """Also without zero pages, page cache, user pages and free pages (level 31): what is read are
    the kernel's own pages.
    """
    core = compressed(ended.core, tmp_path / "core", compression, level)
    assert_as_counted(audit(core), ended)
    core.unlink()
