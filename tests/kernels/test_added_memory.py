"""Guests with memory that the firmware does not know: added beside two nodes, and hosting its own
struct pages. What audit and status say there is what the guest's own counters say.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hvo.machine.run.run import Request
from hvo.machine.run.run import run as simulate
from hvo.memory.target import open_target
from kernels.agreement import audit
from kernels.guest import Guest, GuestRun
from kernels.installed import debian_kernel

pytestmark = pytest.mark.kernels

SIZE = 2 << 20
_ONLINE = """
for block in /sys/devices/system/memory/memory*; do
  if [ "$($bb cat $block/state)" = offline ]; then echo online_movable > $block/state; fi
done
hvo 1; pool 300
"""
_ASKED = """
ask live audit live --json
for number in 0 1 2 3 4 5 6 7; do capture live-$number in_image /bin/hvo audit live --json; done
ask status status --audit live --json
ask convert convert --json
"""
SELF = "memory_hotplug.memmap_on_memory=1 memhp_default_state=online_movable"


class Added(NamedTuple):
    """A guest at its end, and its memory."""

    run: GuestRun
    core: Path
    hosts_itself: bool


@pytest.fixture(scope="module", params=[False, True], ids=["dimm", "self-hosted"])
def added(
    request: pytest.FixtureRequest, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Added]:
    """Two nodes and a dimm of 512 MiB; then one whose blocks host their own struct pages."""
    core = tmp_path_factory.mktemp("added") / "core"
    guest = Guest(
        debian_kernel("6.12-oldest"),
        640,
        _ONLINE + _ASKED,
        image,
        SELF if request.param else "",
        1 if request.param else 2,
        (512,),
    )
    yield Added(guest.run(core, limit=500), core, request.param)
    core.unlink()


def said(run: GuestRun, name: str) -> dict[str, Any]:
    """The object that the command `name` printed."""
    captured = run.captured[name]
    assert captured.text, f"{name} exits {captured.status}: {captured.errors}"
    return json.loads(captured.text)


def test_the_audit_finds_the_pool_and_nothing_wrong(added: Added):
    """As many pages as sysfs says, from memory and while it runs."""
    for found in (json.loads(audit(added.core).text), said(added.run, "live")):
        (pool,) = [pool for pool in found["pools"] if pool["size"] == SIZE]
        assert pool["pages"] == added.run.snapshots["live"]["nr_hugepages@2048kB"]
        assert [finding["id"] for finding in found["findings"]] == []


def test_a_running_kernel_is_read_by_one_thread_at_a_time(added: Added):
    """Eight audits in a row find nothing: reads of /proc/kcore at once would mix up their bytes."""
    found = [said(added.run, f"live-{number}") for number in range(8)]
    assert [[finding["id"] for finding in each["findings"]] for each in found] == [[]] * 8


def test_a_machine_like_it_keeps_all_guarantees(added: Added):
    """Holes between the nodes and the dimm are no memory, and self-hosted blocks are left."""
    memory = open_target(str(added.core), lambda _: None)
    result = simulate(Request("x86_64", 4096, 0, 1, None, like=memory), lambda _: None)
    assert result.kept, result.guarantees
    assert (result.pool.optimized < result.pool.pages) is added.hosts_itself


def test_status_counts_what_is_optimised(added: Added):
    """By the page tables, and none of the pages in blocks that host their own struct pages."""
    (row,) = [
        pool
        for pool in said(added.run, "status")["pools"]
        if (pool["size"], pool["node"]) == (SIZE, None)
    ]
    (pool,) = [pool for pool in said(added.run, "live")["pools"] if pool["size"] == SIZE]
    assert (row["pages"], row["optimized"]) == (pool["pages"], pool["optimized"])
