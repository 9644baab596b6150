"""The host commands in a guest with two NUMA nodes, and with surplus pages that are stuck: what no
recorded tree can show.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from kernels.guest import Guest, GuestRun
from kernels.installed import debian_kernel
from kernels.scenarios import HOST_NODES, HOST_USED

pytestmark = pytest.mark.kernels

SIZE, TAILS = 2 << 20, 7


@pytest.fixture(scope="module")
def run(image: Path) -> GuestRun:
    """A kernel of Debian that gets back what it frees."""
    done = Guest(debian_kernel("6.12-oldest"), 1024, HOST_NODES, image, nodes=2).run(limit=600)
    if said(done, "status-mixed")["kernel"]["defects"]:
        pytest.skip(
            f"{done.release} loses pages: the archive has no older kernel of its series any more"
        )
    return done


def said(run: GuestRun, name: str) -> dict[str, Any]:
    """The object that the command `name` printed."""
    captured = run.captured[name]
    assert captured.text, f"{name} exits {captured.status}: {captured.errors}"
    return json.loads(captured.text)


def row(run: GuestRun, name: str, node: int | None = None) -> dict[str, Any]:
    """The pages of 2 MiB that a status shows, of a node or of all."""
    (found,) = [
        pool for pool in said(run, name)["pools"] if (pool["size"], pool["node"]) == (SIZE, node)
    ]
    return found


def old_free(run: GuestRun, node: int) -> int:
    """Free pages of a node that were there before the switch was on; which node the file's pages
    are from is the kernel's choice.
    """
    return 20 - row(run, "status-mixed", node)["in_use"]


def test_a_pool_of_one_node_grows_and_is_converted_alone(run: GuestRun):
    """30 more pages on node 1; then its free ones from before the switch become optimised, while
    node 0 is left; both have their sizes.
    """
    assert (said(run, "grow")["ok"], said(run, "convert-node")["ok"]) == (True, True)
    assert [row(run, "status-mixed", node)["pages"] for node in (None, 0, 1)] == [70, 20, 50]
    assert (row(run, "status-mixed")["optimized"], said(run, "convert-node")["optimized"]) == (
        30,
        old_free(run, 1),
    )
    assert {write["path"].split("/")[5] for write in said(run, "convert-node")["writes"]} == {
        "node1"
    }


def test_all_nodes_are_converted_but_for_pages_in_use(run: GuestRun):
    """What is left of node 0; 10 pages in use stay, and are later work, which no command is advised
    for.
    """
    assert (said(run, "convert")["ok"], said(run, "convert")["optimized"]) == (
        True,
        old_free(run, 0),
    )
    found = row(run, "status-converted")
    assert (found["pages"], found["in_use"], found["optimized"], found["surplus"]) == (
        70,
        HOST_USED,
        60,
        0,
    )
    assert [each["command"] for each in said(run, "status-converted")["advice"]] == [None]
    assert (
        "10 pages of 2MiB are not optimised" in said(run, "status-converted")["advice"][0]["text"]
    )


def test_pages_that_could_not_be_restored_are_told_and_freed(run: GuestRun):
    """40 pages should have gone and had no frames for it: advice says so, its command frees them,
    and the counters rise by 280.
    """
    assert [run.snapshots["short"][f"{name}_hugepages@2048kB"] for name in ("nr", "surplus")] == [
        70,
        40,
    ]
    (stuck,) = [each for each in said(run, "status-stuck")["advice"] if each["command"]]
    assert (stuck["command"], stuck["gain"]) == ("hvo resize 2MiB=30", 40 * SIZE)
    freed = said(run, "free")
    assert (freed["ok"], [write["value"] for write in freed["writes"]]) == (True, ["70", "30"])
    assert freed["changes"][0]["measured"] == 40 * TAILS
    found = row(run, "status-free")
    assert (found["pages"], found["free"], found["surplus"]) == (30, 30 - HOST_USED, 0)
