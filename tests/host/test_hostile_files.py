"""Files of a host with anything in them: every command says in one line what it did not expect, and
none ends in a traceback.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from host_trees import GIB, MIB, Host, NodePool

from hvo.cli.main import main
from hvo.host.metrics import Reader
from hvo.host.tree import Tree

JUNK = (
    "",
    "\n\n",
    "x",
    "-1",
    "99999999999999999999999999",
    "9" * 5000,
    "²",
    "1 2 3",
    "\0",
    "MemTotal: kB\n\nMemFree:\n",
    "MemTotal: 1 kB\n",
    "PageTables: ² kB\nMemTotal: 99999999999999999999 kB\n",
    "Node 0, zone Normal\n",
    "Node 99999999999999999999, zone X\n pages free 1\n",
    "ffffffffffffffff-ffffffffffffffff : System RAM\n",
    "0-ffffffffffffffff : System RAM\n",
    "[" * 100_000,
    "{}",
    "null",
    '{"boot_id":"b0"}',
    '{"boot_id":"b0","promises":[{}]}',
    '{"boot_id":"b0","promises":[{"node":"../..","pages":"x","out":[]}],"size":"y","batch":1}',
    '{"boot_id":"b0","pages":"x","busy":null,"missing":[]}',
    '{"boot_id":"b0","memmap":1e999,"nodes":[[0,20,1e999,[[1,1e999]]]],"pages":[]}',
    "\x1f\x8b\x08\x00",
)
JOURNAL = "run/hvo/convert.json"
OWN = {
    "proc/iomem": "00001000-0009ffff : System RAM\n",
    "proc/locks": "1: FLOCK ADVISORY WRITE 1 00:19:77 0 EOF\n",
    JOURNAL: json.dumps(
        {
            "boot_id": "b0",
            "size": 2 * MIB,
            "promises": [{"node": 0, "pages": 10, "out": 2}],
            "gigantic": False,
            "force": False,
            "batch": 2,
        }
    ),
    "run/hvo/converted-2048kB.json": '{"boot_id":"b0","pages":13,"busy":1,"missing":13}',
    "run/hvo/progress-2048kB.json": '{"boot_id":"b0","memmap":33554432,"nodes":[]}',
}
COMMANDS = (
    ("status",),
    ("resize", "2MiB=20", "--dry-run"),
    ("convert", "--dry-run"),
    ("convert", "--undo", "--dry-run"),
)
FILES = (
    *OWN,
    "proc/meminfo",
    "proc/vmstat",
    "proc/zoneinfo",
    "proc/version",
    "proc/cmdline",
    "proc/cpuinfo",
    "proc/config.gz",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/arch",
    "proc/sys/kernel/hostname",
    "proc/sys/vm/hugetlb_optimize_vmemmap",
    "sys/devices/system/memory/block_size_bytes",
    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A recorded host with two nodes."""
    pools = {2 * MIB: {0: NodePool(10, 10), 1: NodePool(3, 2, 1)}, GIB: {0: NodePool()}}
    Host(pools=pools, sections=16, memmap=(0, 16 * 512)).write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_any_content_is_a_result_or_one_line(name, root):
    """Numbers of thousands of digits, other digits, empty lines, deep JSON, values of other kinds,
    nothing, and a directory in the place of the file.
    """
    path = root / name
    for other, text in OWN.items():
        if other != JOURNAL or name == JOURNAL:  # an interrupted command hides all else
            (root / other).parent.mkdir(parents=True, exist_ok=True)
            (root / other).write_text(text)
    for junk in (*JUNK, None):
        if junk is None:
            path.unlink(missing_ok=True)
            path.mkdir(parents=True)
        else:
            path.write_text(junk)
        for words in COMMANDS:
            found = CliRunner().invoke(main, [*words, "--root", str(root)])
            assert found.exit_code in (0, 1, 2)
            assert "defect" not in found.stderr, (junk, words, found.stderr)
            assert found.stderr.count("\n") == (found.exit_code != 0), (junk, words, found.stderr)
        assert "defect" not in (Reader(Tree(root)).read().error or ""), junk


@pytest.mark.parametrize(
    "name",
    [
        "sys/kernel/mm/hugepages/hugepages-0kB",
        "sys/kernel/mm/hugepages/hugepages-3kB",
        "sys/kernel/mm/hugepages/hugepages-99999999999kB",
        "sys/kernel/mm/hugepages/hugepages-٣kB",
        "sys/devices/system/node/node٣",
        "sys/devices/system/node/node999999/hugepages/hugepages-2048kB",
        "sys/devices/system/memory/memory٣",
    ],
)
def test_any_name_is_a_result_or_one_line(name, root):
    """Names of sizes, nodes and memory blocks that no kernel has."""
    (root / name).mkdir(parents=True)
    for words in COMMANDS:
        found = CliRunner().invoke(main, [*words, "--root", str(root)])
        assert found.exit_code in (0, 1, 2)
        assert "defect" not in found.stderr, (words, found.stderr)


def test_files_are_read_within_bounds(root):
    """One that is larger than any of procfs, and build options that unpack to more."""
    with (root / "proc/vmstat").open("wb") as file:
        file.truncate(1 << 40)
    found = CliRunner().invoke(main, ["status", "--root", str(root)])
    assert found.exit_code == 2
    assert "proc/vmstat: expected at most 64 MiB" in found.stderr


def test_a_scrape_is_answered_whatever_happens(root, monkeypatch):
    """A defect is `hvo_scrape_success 0`, and the next reading is whole again."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    clock = iter(range(10)).__next__
    reader = Reader(Tree(root), clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr("hvo.host.metrics.read_status", broken)
        reading = reader.read()
        assert "ZeroDivisionError: a defect" in (reading.error or "")
        assert {each.metric: each.value for each in reading.samples}["hvo_scrape_success"] == 0
    assert reader.read().error is None
