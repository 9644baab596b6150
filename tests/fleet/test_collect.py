"""What hosts said of themselves becomes an inventory: status and metrics of the same host are the
same rows, and what is none is told.
"""

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from inventories import GIB, MIB, ask, hvo

from hvo.cli.main import main
from hvo.fleet.columns import NAMES

sys.path.append(str(Path(__file__).resolve().parents[1] / "host"))
from host_trees import Host, NodePool

SAVED = 7 * 4096


def say(host: Host, place: Path, name: str) -> tuple[Path, Path]:
    """What `hvo status --json` and `hvo export --textfile` say of a recorded host."""
    tree = place / f"{name}.tree"
    host.write(tree)
    (tree / "proc/sys/kernel/hostname").write_text(f"{name}\n")
    status, metrics = place / f"{name}.json", place / f"{name}.prom"
    status.write_text(CliRunner().invoke(main, ["status", "--root", str(tree), "--json"]).stdout)
    assert (
        CliRunner()
        .invoke(main, ["export", "--root", str(tree), "--textfile", str(metrics)])
        .exit_code
        == 0
    )
    return status, metrics


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of an inventory in CSV, without what is not known."""
    return [
        {name: value for name, value in row.items() if value} for row in csv.DictReader(path.open())
    ]


HOSTS = {
    "two-pools": Host(
        pools={2 * MIB: {0: NodePool(100, 100)}, GIB: {0: NodePool(2, 2)}},
        sections=64,
        memmap=(0, 64 * 512),
    ),
    "two-nodes": Host(
        pools={2 * MIB: {0: NodePool(60, 10), 1: NodePool(40, 40)}},
        sections=64,
        memmap=(100, 64 * 512 - 800),
    ),
    "no-counters": Host(
        release="6.1.0-50-amd64", pools={2 * MIB: {0: NodePool(100, 50)}}, memmap=None
    ),
    "off": Host(gate=0, pools={2 * MIB: {0: NodePool(10, 10)}}, sections=64, memmap=(0, 64 * 512)),
    "cannot": Host(
        release="6.8.0-45-generic",
        arch="arm64",
        options=("HUGETLB_PAGE", "SPARSEMEM_VMEMMAP"),
        gate=None,
        memmap=None,
    ),
    "empty": Host(),
}


@pytest.mark.parametrize("name", HOSTS)
def test_status_and_metrics_are_the_same_rows(name, tmp_path):
    """Whichever of the two a site keeps, its fleet is the same; the rows are sound."""
    status, metrics = say(HOSTS[name], tmp_path, name)
    for number, file in enumerate((status, metrics)):
        assert hvo("collect", file, "-o", tmp_path / f"{number}.csv").exit_code == 0
    found = rows(tmp_path / "0.csv")
    assert found == rows(tmp_path / "1.csv")
    assert {row["host"] for row in found} == {name}
    assert ask(tmp_path / "0.csv")["rejected"] == 0


def test_what_is_collected_is_what_status_says(tmp_path):
    """Bytes saved, possible and unknown of every host, added up, are those of the fleet; also of
    Parquet.
    """
    files = [say(host, tmp_path, name)[0] for name, host in HOSTS.items()]
    inventory = tmp_path / "fleet.parquet"
    result = hvo("collect", tmp_path, "-o", inventory, "--group", "rack 7")
    assert result.exit_code == 1  # the directory has the metrics of the same hosts, too
    assert result.stderr.count("is in ") == len(HOSTS)
    said = ask(inventory)
    pools = [
        pool
        for file in files
        for pool in json.loads(file.read_text())["pools"]
        if pool["node"] is None
    ]
    assert said["saved"] == sum(pool["saved_low"] for pool in pools)
    assert said["possible"] == sum(pool["possible_low"] for pool in pools)
    assert said["unknown"] == sum(pool["saved_high"] - pool["saved_low"] for pool in pools) > 0
    assert said["memory"] == sum(json.loads(file.read_text())["memory"] for file in files)
    assert [row["name"] for row in said["by"]["group"]] == ["rack 7"]


def test_metrics_of_many_hosts_in_one_file(tmp_path):
    """As a Prometheus server gives them away, with the label `instance`; the port is none of the
    name.
    """
    _, metrics = say(HOSTS["off"], tmp_path, "off")
    lines = [line for line in metrics.read_text().splitlines() if not line.startswith("#")]
    text = ""
    for instance in ("web1:9750", "[2001:db8::1]:9750", "db.example.org"):
        for line in lines:
            name, brace, rest = line.partition("{")
            metric, _, value = line.rpartition(" ")
            text += (
                f'{name}{{instance="{instance}",{rest}\n'
                if brace
                else f'{metric}{{instance="{instance}"}} {value}\n'
            )
    (tmp_path / "all.txt").write_text(text)
    assert hvo("collect", tmp_path / "all.txt", "-o", tmp_path / "x.csv").exit_code == 0
    assert [row["host"] for row in rows(tmp_path / "x.csv")] == [
        "web1",
        "[2001:db8::1]",
        "db.example.org",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", "{", "expected what `hvo status --json` printed"),
        ("x.json", '{"kernel": {}}', "expected what `hvo status --json` printed"),
        ("x.json", "[]", "expected what `hvo status --json` printed"),
        ("x.prom", "no metrics {", "expected metrics as `hvo export` prints them"),
        ("x.prom", "up 1\n", "there is none that begins with hvo_"),
        ("x.prom", "hvo_scrape_success 0\n", "hvo_scrape_success is 0"),
        ("x.prom", "hvo_scrape_success 1\n", "there is no hvo_kernel_info"),
        (
            "x.prom",
            'hvo_kernel_info{release="6.1"} 1\nhvo_optimization_supported 1\n',
            "no label 'arch'",
        ),
        (
            "x.json",
            (
                '{"kernel": {"release": "6.1", "arch": "arm64", "page_size": "big", "supports":'
                ' false}, "pools": [], "memory": 1}'
            ),
            "a value is none of its kind",
        ),
        ("x.yaml", "a: 1", "expected a file of .json, .prom, .txt"),
        ("none.json", None, "it cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used(name, text, said, tmp_path):
    """It is told with its name in one line and makes it exit 1; what the others say is written all
    the same.
    """
    good, _ = say(HOSTS["off"], tmp_path, "good")
    if text is not None:
        (tmp_path / name).write_text(text)
    result = hvo("collect", tmp_path / name, good, "-o", tmp_path / "fleet.csv", "--json")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"hvo fleet collect: {tmp_path / name}: ")
    assert said in result.stderr
    assert json.loads(result.stdout)["refused"][0]["file"] == str(tmp_path / name)
    assert [row["host"] for row in rows(tmp_path / "fleet.csv")] == ["good"]


def test_an_inventory_is_there_whole_or_not_at_all(tmp_path):
    """One that cannot be written is told before anything is read; one that is there is replaced."""
    good, _ = say(HOSTS["off"], tmp_path, "good")
    assert hvo("collect", good, "-o", tmp_path / "no/fleet.csv").exit_code == 2
    (tmp_path / "fleet.csv").write_text("old")
    assert hvo("collect", good, "-o", tmp_path / "fleet.csv").exit_code == 0
    assert (tmp_path / "fleet.csv").read_text().startswith(",".join(f'"{name}"' for name in NAMES))
    assert not list(tmp_path.glob(".fleet*"))


def test_what_is_no_file_keeps_its_place(tmp_path):
    """A device is written to, never replaced: that would be the end of /dev/null."""
    good, _ = say(HOSTS["off"], tmp_path, "good")
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    for words in (("collect", good, "-o", null), ("generate", "--hosts", 5, "-o", null)):
        assert hvo(*words).exit_code == 0
    assert null.is_symlink()
    assert Path("/dev/null").is_char_device()


def test_this_host(tmp_path):
    """The host that the test runs on, where it can be read."""
    result = CliRunner().invoke(main, ["status", "--json"])
    if result.exit_code == 2:
        pytest.skip(f"this host cannot be read: {result.stderr.strip()}")
    (tmp_path / "me.json").write_text(result.stdout)
    assert hvo("collect", tmp_path / "me.json", "-o", tmp_path / "fleet.csv").exit_code == 0
    said, status = ask(tmp_path / "fleet.csv"), json.loads(result.stdout)
    assert (said["hosts"], said["rejected"], said["memory"]) == (1, 0, status["memory"])


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_inventory_is_never_replaced_by_an_empty_one(more, tmp_path):
    """No file, only files that cannot be used, or none in a directory: 2 with one line, the old
    inventory stays; and none is made where there was none.
    """
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("a.json", "b.prom"):
        (tmp_path / "bad" / name).write_text("nothing")
    for given in ("missing.json", "empty", "bad", "bad/a.json"):
        for output in ("old.csv", "new.csv"):
            result = hvo("collect", tmp_path / given, "-o", tmp_path / output, *more)
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
            assert f"{output} is left as it is: " in result.stderr
            assert ("and 1 more" in result.stderr) == (given == "bad")
            if more:
                said = json.loads(result.stdout)
                assert said["error"]["message"] == result.stderr.rstrip("\n")
                assert (said["rows"], len(said["refused"])) == (
                    0,
                    {"empty": 0, "bad": 2}.get(given, 1),
                )
        assert (tmp_path / "old.csv").read_text() == "old"
        assert not (tmp_path / "new.csv").exists()
