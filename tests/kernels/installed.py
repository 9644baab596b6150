"""The kernels and tools that are on this machine, and a skip that says what is missing where one is
not.
"""

import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[2] / "build/kernels"
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot: its `image`, its modules below `modules` (None: all built in), and the
    busybox of its architecture.
    """

    name: str
    arch: str
    image: Path
    modules: Path | None
    busybox: Path


@cache
def tool(name: str) -> str:
    """Where the program `name` is."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed: `make kernels` says what to install")
    return found


def debian_kernel(name: str) -> Kernel:
    """The kernel that `tools/install_kernels.sh` put into the directory `name`."""
    images = sorted((KERNELS / name / "boot").glob("vmlinuz-*"))
    if not images:
        pytest.skip(f"no kernel in build/kernels/{name}: `make kernels` says why")
    return Kernel(name, "x86_64", images[-1], KERNELS / name / "lib/modules", Path(tool("busybox")))


def foreign_kernel(name: str, arch: str, package_arch: str) -> Kernel:
    """The kernel of another architecture that `tools/install_kernels.sh` put into the directory
    `name`.
    """
    images = sorted((KERNELS / name / "boot").glob("vmlinu*"))
    busybox = KERNELS / "foreign-busybox" / package_arch
    if not images or not busybox.exists():
        pytest.skip(f"no kernel in build/kernels/{name}: `make kernels` says why")
    return Kernel(name, arch, images[-1], KERNELS / name / "lib/modules", busybox)


def built_kernel(name: str) -> Kernel:
    """The kernel for arm64 that `tools/build_arm64_kernels.sh` built into the directory `name`."""
    image = KERNELS / name / "Image"
    if not image.exists():
        pytest.skip(f"no kernel in build/kernels/{name}: `make kernel-arm64` builds it")
    return Kernel(name, "arm64", image, None, KERNELS / "arm64-busybox/bin/busybox")


def debian_arm64_kernel(series: str) -> Kernel:
    """Debian's own kernel for arm64 that `tools/install_arm64_kernel.sh` downloaded."""
    images = sorted((KERNELS / "arm64-debian" / series / "boot").glob("vmlinuz-*"))
    if not images:
        pytest.skip(f"no kernel in build/kernels/arm64-debian/{series}: `make kernels` says why")
    return Kernel(
        series,
        "arm64",
        images[-1],
        KERNELS / "arm64-debian" / series / "lib/modules",
        arm64_userland() / "bin/busybox",
    )


def arm64_userland() -> Path:
    """The tree of Debian's files for arm64 with busybox and Python, from the same script."""
    userland = KERNELS / "arm64-debian/userland"
    if not userland.exists():
        pytest.skip("no userland in build/kernels/arm64-debian: `make kernels` says why")
    return userland
