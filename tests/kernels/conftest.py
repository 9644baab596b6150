"""Guests that have run, each once for all tests that ask about it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from kernels.guest import Guest, GuestRun
from kernels.image import build_image
from kernels.installed import debian_kernel, tool
from kernels.scenarios import SCENARIOS, Scenario


class Ended(NamedTuple):
    """A guest at its end: what it did, what it said, and its memory as an ELF core."""

    scenario: Scenario
    run: GuestRun
    core: Path


@pytest.fixture(
    scope="module",
    params=[("6.1", "on"), ("6.1", "mixed"), ("6.12", "on"), ("6.12", "mixed"), ("6.12-oldest", "mixed")],
    ids="-".join,
)
def ended(request: pytest.FixtureRequest) -> Iterator[Ended]:
    """One guest after the other; its core is gone when its tests are done, for it has the size of its memory."""
    kernel, name = request.param
    scenario = SCENARIOS[name]
    guest = Guest(debian_kernel(kernel), scenario.memory_mib, scenario.words, append=scenario.append)
    with TemporaryDirectory() as directory:
        core = Path(directory) / "core"
        yield Ended(scenario, guest.run(core), core)


@pytest.fixture(scope="session")
def image() -> Iterator[Path]:
    """A disk with Python and this project."""
    tool("mke2fs")
    with TemporaryDirectory() as directory:
        yield build_image(Path(directory) / "image", Path(tool("busybox")))
