"""Guests that have run, each once for all tests that ask about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kernels.agreement import Ended
from kernels.guest import Guest
from kernels.image import build_image
from kernels.installed import Kernel, built_kernel, debian_kernel, tool
from kernels.scenarios import SCENARIOS

DEBIAN = [("6.1", "on"), ("6.1", "mixed"), ("6.12", "off"), ("6.12", "mixed"), ("6.12", "gigantic"), ("6.12-oldest", "mixed")]
BUILT = [("arm64-4k", "on"), ("arm64-4k", "mixed"), ("arm64-4k", "sizes"), ("arm64-64k", "few")]


@contextmanager
def end_of(kernel: Kernel, name: str) -> Iterator[Ended]:
    """Run the scenario `name`; the core is gone afterwards, for it has the size of the guest's memory."""
    scenario = SCENARIOS[name]
    guest = Guest(kernel, scenario.memory_mib, scenario.words, append=scenario.append)
    with TemporaryDirectory() as directory:
        core = Path(directory) / "core"
        yield Ended(scenario, guest.run(core), core)


@pytest.fixture(scope="module", params=DEBIAN, ids="-".join)
def ended(request: pytest.FixtureRequest) -> Iterator[Ended]:
    """One guest with a kernel of Debian after the other."""
    kernel, scenario = request.param
    with end_of(debian_kernel(kernel), scenario) as result:
        yield result


@pytest.fixture(scope="module", params=BUILT, ids="-".join)
def ended_arm64(request: pytest.FixtureRequest) -> Iterator[Ended]:
    """One guest with a kernel built here after the other."""
    kernel, scenario = request.param
    with end_of(built_kernel(kernel), scenario) as result:
        yield result


@pytest.fixture(scope="session")
def image() -> Iterator[Path]:
    """A disk with Python and this project."""
    busybox = Path(tool("busybox"))
    with TemporaryDirectory() as directory:
        yield build_image(Path(directory) / "image", busybox)
