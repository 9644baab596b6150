"""Debian's kernels of other architectures and page sizes: what an audit finds in their memory is
what their own counters say, and a machine like them keeps all guarantees.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hvo.machine.run.run import Request
from hvo.machine.run.run import run as simulate
from hvo.memory.target import open_target
from kernels.agreement import audit, page_counts
from kernels.guest import Guest, GuestRun
from kernels.installed import debian_arm64_kernel, foreign_kernel

pytestmark = pytest.mark.kernels

SCENARIOS = {
    "riscv64": "hvo 0; pool 20; hvo 1; pool 70",
    "arm64-16k": "pool_of 32768kB 6; pool_of 2048kB 20",
    "arm64-4k": "pool 40; pool_of 32768kB 3; pool_of 64kB 20",
}
OPTIMIZED = {"riscv64": {2 << 20: 50}}
"""Pages that become optimised, by size; Debian's arm64 kernels optimise none."""


class Ended(NamedTuple):
    """A guest at its end, and its memory."""

    name: str
    run: GuestRun
    core: Path


@pytest.fixture(scope="module", params=SCENARIOS)
def ended(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ended]:
    """One guest after the other."""
    name = request.param
    if name == "riscv64":
        kernel = foreign_kernel("riscv64", "riscv64", "riscv64")
    elif name == "arm64-16k":
        kernel = foreign_kernel("arm64-16k", "arm64-16k", "arm64")
    else:
        kernel = debian_arm64_kernel("6.12")
    core = tmp_path_factory.mktemp("foreign") / "core"
    yield Ended(name, Guest(kernel, 1024, SCENARIOS[name]).run(core), core)
    core.unlink()


def test_the_audit_says_what_the_counters_say(ended: Ended):
    """Pages by size, those optimised, and nothing wrong with any."""
    found = json.loads(audit(ended.core).text)
    assert found["kernel"] == ended.run.release
    pools = {pool["size"]: pool for pool in found["pools"]}
    assert {size: pool["pages"] for size, pool in pools.items()} == page_counts(
        ended.run.snapshots["end"]
    )
    wanted = OPTIMIZED.get(ended.name, {})
    assert {size: pool["optimized"] for size, pool in pools.items() if pool["optimized"]} == wanted
    assert [finding for finding in found["findings"] if finding["severity"] != "info"] == []


def test_a_machine_like_it_keeps_all_guarantees(ended: Ended):
    """It is restored and optimised as its kernel does."""
    memory = open_target(str(ended.core), lambda _: None)
    result = simulate(Request("arm64", 4096, 0, 1, None, like=memory), lambda _: None)
    assert result.kept, result.guarantees
    assert result.pool.optimized == result.pool.pages > 0
