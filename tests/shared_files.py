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
_UNPACKED = Path(tempfile.gettempdir()) / (
    f"hvo-cores-{os.getuid()}" + ("-own" if SHARED == OWN else "")
)


def need(path: Path) -> Path:
    """`path`, or a skip that says what is missing."""
    if not path.exists():
        pytest.skip(f"reference material is absent: {path.relative_to(SHARED.parent)}")
    return path


_PLACES = ("cores", "cores-new")


@cache
def truth() -> dict[str, Any]:
    """What is in each core, by its name."""
    found = json.loads(need(SHARED / "cores/truth.json").read_text())
    newer = SHARED / "cores-new/truth.json"
    return found | (json.loads(newer.read_text()) if newer.exists() else {})


def own_core(name: str) -> Path:
    """The project's own cut copy of the newer core `name`, packed."""
    return OWN / f"cores-new/{name}.elf.xz"


def _place(file: str) -> Path:
    """`file` of a core, in whichever place has it."""
    found = [SHARED / place / file for place in _PLACES if (SHARED / place / file).exists()]
    return need(found[0] if found else SHARED / _PLACES[0] / file)


def core(name: str) -> Path:
    """The core `name` unpacked (once a machine, replaced when the original is newer)."""
    packed = _place(f"{name}.elf.xz")
    target = _UNPACKED / f"{name}.elf"
    if not target.exists() or target.stat().st_mtime < packed.stat().st_mtime:
        _UNPACKED.mkdir(exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")
        part.write_bytes(lzma.decompress(packed.read_bytes()))
        part.rename(target)
    return target


def log(name: str) -> str:
    """What the kernel of core `name` printed."""
    return _place(f"{name}.log").read_text(errors="replace")


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
NEWER = [
    "riscv64-7.2-sv57",
    "riscv64-6.12-sv48",
    "riscv64-7.2-2nodes",
    "arm64-6.12.117",
    "arm64-7.2.13-16k",
    "x86-7.3.4-dimm",
    "x86-7.3.4-dimm-self",
    "x86-7.1.13-gigboot",
    "loong64-7.2",
    "x86-7.3.4-devdax",
    "x86-7.3.4-demoted",
]
"""Cores of other architectures, granules and kinds of memory, with their truth per node."""
