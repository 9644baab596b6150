"""Where the reference material is: real kernels' memory, the truth about it, what they printed.

It lies beside the project; where it is absent, a few small cores of the project's own take its
place, and what needs the others is skipped with a reason.
"""

import json
import lzma
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

OWN = Path(__file__).resolve().parent / "data/shared"
BESIDE = Path(os.environ.get("HVO_SHARED", Path(__file__).resolve().parents[2] / "shared"))
SHARED = BESIDE if BESIDE.exists() else OWN
_UNPACKED = Path(tempfile.gettempdir()) / f"hvo-cores-{os.getuid()}"


def need(path: Path) -> Path:
    """`path`, or a skip that says what is missing."""
    if not path.exists():
        pytest.skip(f"reference material is absent: {path.relative_to(SHARED.parent)}")
    return path


@cache
def truth() -> dict[str, Any]:
    """What is in each core, by its name."""
    return json.loads(need(SHARED / "cores/truth.json").read_text())


def core(name: str) -> Path:
    """The core `name` unpacked (once a machine, replaced when the original is newer)."""
    newer = SHARED / f"cores-new/{name}.elf.xz"
    packed = newer if newer.exists() else need(SHARED / f"cores/{name}.elf.xz")
    target = _UNPACKED / f"{name}.elf"
    if not target.exists() or target.stat().st_mtime < packed.stat().st_mtime:
        _UNPACKED.mkdir(exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")
        part.write_bytes(lzma.decompress(packed.read_bytes()))
        part.rename(target)
    return target


def log(name: str) -> str:
    """What the kernel of core `name` printed."""
    return need(SHARED / f"cores/{name}.log").read_text(errors="replace")


CORES = [
    "x86-6.1-on",
    "x86-6.1-dump-on",
    "x86-6.12-off",
    "x86-6.12-on",
    "x86-6.12.94-mixed",
    "x86-6.12-gig",
    "x86-7.3-on",
    "arm64-6.1-4k-off",
    "arm64-6.1-4k-on",
    "arm64-6.1-4k-mixed",
    "arm64-6.1-64k-few",
    "arm64-7.3-4k-sizes",
    "arm64-7.3-stock",
    "defect-x86-6.12.117-mixed",
]
