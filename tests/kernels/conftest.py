"""Guests that have run, each once for all tests that ask about it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kernels.agreement import Ended
from kernels.guest import Guest, GuestRun
from kernels.image import build_foreign_image, build_image
from kernels.installed import (
    KERNELS,
    Kernel,
    arm64_userland,
    built_kernel,
    debian_arm64_kernel,
    debian_kernel,
    tool,
)
from kernels.scenarios import HOST, HOST_WITHOUT, SCENARIOS

DEBIAN = [
    ("6.1", "on"),
    ("6.1", "mixed"),
    ("6.12", "off"),
    ("6.12", "mixed"),
    ("6.12", "gigantic"),
    ("6.12-oldest", "mixed"),
]
BUILT = [("arm64-4k", "on"), ("arm64-4k", "mixed"), ("arm64-4k", "sizes"), ("arm64-64k", "few")]


@contextmanager
def end_of(kernel: Kernel, name: str) -> Iterator[Ended]:
    """Run the scenario `name`; the core is gone afterwards, for it has the size of the guest's
    memory.
    """
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


def _once(boot: Callable[[str], GuestRun]) -> Callable[[str], GuestRun]:
    """Boot each guest once, also one that gets nowhere: no test waits for it again."""

    @cache
    def outcome(name: str) -> GuestRun | RuntimeError:
        try:
            return boot(name)
        except RuntimeError as error:
            return error

    def ran(name: str) -> GuestRun:
        found = outcome(name)
        if isinstance(found, RuntimeError):
            raise found
        return found

    return ran


@pytest.fixture(scope="session")
def arm64_image() -> Iterator[Path]:
    """A disk for arm64 with Debian's Python, this project, and the build options of the kernels."""
    with TemporaryDirectory() as directory:
        options = sorted(KERNELS.glob("arm64-debian/*/boot/config-*"))
        yield build_foreign_image(Path(directory) / "image", arm64_userland(), options)


@pytest.fixture(scope="session")
def host(image: Path) -> Callable[[str], GuestRun]:
    """Run this project's commands on a host with that kernel of Debian, once."""
    return _once(lambda name: Guest(debian_kernel(name), 768, HOST, image).run(limit=600))


@pytest.fixture(scope="session")
def arm64_host(arm64_image: Path) -> Callable[[str], GuestRun]:
    """The same on arm64, where Debian's kernels cannot optimise."""
    return _once(
        lambda series: Guest(debian_arm64_kernel(series), 768, HOST_WITHOUT, arm64_image).run(
            limit=600
        )
    )
