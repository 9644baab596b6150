"""`hvo export`: what is exported is what `hvo status --json` says; a failure is a metric; names,
definitions and their page agree.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from exporters import HOSTS, exported, exporter, get, program, status
from host_trees import MIB, NR, Host, NodePool

from hvo.cli.main import main
from hvo.host.metrics import FRESH_SECONDS, Reader, samples
from hvo.host.metrics_page import metrics_page
from hvo.host.metrics_table import BOUNDS, METRICS
from hvo.host.status import read_status
from hvo.host.tree import Tree
from hvo.layout.units import format_size

pytest.importorskip(
    "prometheus_client", reason="prometheus-client is not installed: pip install 'hvo[export]'"
)

DOCS = Path(__file__).resolve().parents[2] / "docs/metrics.md"


@pytest.mark.parametrize("name", HOSTS)
def test_metrics_say_what_status_says(name, tmp_path):
    """Every number of the JSON object is a metric: pools per size and node, bounds as bounds, exact
    numbers only where they are.
    """
    root = HOSTS[name].write(tmp_path / "host").root
    said, found = status(root), exported(root, tmp_path / "hvo.prom")
    kernel = said["kernel"]
    assert get(found, "hvo_kernel_info", release=kernel["release"], arch=kernel["arch"]) == 1
    assert get(found, "hvo_optimization_reason_info", reason=kernel["reason"]) == 1
    numbers = {
        "hvo_optimization_supported": kernel["supports"],
        "hvo_optimization_enabled": kernel["enabled"],
        "hvo_base_page_size_bytes": kernel["page_size"],
        "hvo_kernel_known_defects": sum(each["certain"] for each in kernel["defects"]),
        "hvo_memory_total_bytes": said["mem_total"],
        "hvo_memory_present_bytes": said["memory"],
        "hvo_scrape_success": 1,
    }
    assert {metric: get(found, metric) for metric in numbers} == numbers
    assert all(
        get(found, "hvo_memmap_bytes", origin=origin) == said["memmap"][origin]
        for origin in ("boot", "runtime")
    )
    assert get(found, "hvo_memmap_contradicts_pools") == (
        None if HOSTS[name].memmap is None else name == "contradiction"
    )
    for row in said["pools"]:
        check_row(found, row, several=len(HOSTS[name].nodes) > 1)


def check_row(found: dict, row: dict, several: bool) -> None:
    """One pool of `hvo status` against the metrics."""
    size = {"size": format_size(row["size"])}
    place = {**size, "node": row["node"] or 0}
    every = row["node"] is None
    if not (several and every):
        expected = [row["free"], row["in_use"], row["surplus"], row["cost"]]
        pages = [
            get(found, "hvo_hugetlb_pages", **place, state=state) for state in ("free", "in_use")
        ]
        assert [
            *pages,
            *(
                get(found, f"hvo_hugetlb_{name}", **place)
                for name in ("surplus_pages", "struct_page_bytes")
            ),
        ] == expected
    if every:
        assert get(found, "hvo_hugetlb_reserved_pages", **size) == row["reserved"]
        assert (
            get(
                found,
                "hvo_hugetlb_optimized_source_info",
                **size,
                source=row["source"],
                reason=row["reason"],
            )
            == 1
        )
    prefix, labels = ("hvo_hugetlb", size) if every else ("hvo_hugetlb_node", place)
    for name, key in (
        ("optimized_pages", "optimized"),
        ("saved_bytes", "saved"),
        ("possible_bytes", "possible"),
        ("paid_bytes", "paid"),
    ):
        values = [get(found, f"{prefix}_{name}{ending}", **labels) for ending in ("", *BOUNDS)]
        assert values == [row[key], row[f"{key}_low"], row[f"{key}_high"]]
    paid = [get(found, f"{prefix}_paid_bytes{ending}", **labels) for ending in BOUNDS]
    assert paid == [row["cost"] - row["saved_high"], row["cost"] - row["saved_low"]]


def test_a_bound_is_never_an_exact_number(tmp_path):
    """The tree without counters really has intervals, the others really have exact numbers: the
    test above compares both.
    """
    names = ("exact", "no counters", "two nodes")
    found = {
        name: exported(HOSTS[name].write(tmp_path / name).root, tmp_path / "hvo.prom")
        for name in names
    }
    values = [get(each, "hvo_hugetlb_optimized_pages", size="2MiB") for each in found.values()]
    assert values == [50, None, 35]
    assert [
        get(found["no counters"], f"hvo_hugetlb_optimized_pages{ending}", size="2MiB")
        for ending in BOUNDS
    ] == [0, 40]
    assert get(found["two nodes"], "hvo_hugetlb_node_optimized_pages", size="2MiB", node=0) is None


def test_nodes_add_up_to_the_pool(tmp_path):
    """Summing over nodes and states counts every page once; a host with one node that is not node 0
    has that one.
    """
    root = HOSTS["two nodes"].write(tmp_path / "two").root
    found = exported(root, tmp_path / "hvo.prom")
    pages = sum(
        value
        for (name, labels), value in found.items()
        if name == "hvo_hugetlb_pages" and ("size", "2MiB") in labels
    )
    assert pages == 40
    other = Host(pools={2 * MIB: {3: NodePool(7, 7)}}).write(tmp_path / "three").root
    assert (
        get(
            exported(other, tmp_path / "hvo.prom"),
            "hvo_hugetlb_pages",
            size="2MiB",
            node=3,
            state="free",
        )
        == 7
    )


def test_every_metric_is_defined_and_every_definition_is_used(tmp_path):
    """All that any host gives is in the table with as many labels, and nothing is in the table that
    no host gives.
    """
    trees = [host.write(tmp_path / name) for name, host in HOSTS.items()]
    given = {
        sample.metric: len(sample.labels) for tree in trees for sample in samples(read_status(tree))
    }
    given |= {
        sample.metric: 0
        for sample in Reader(Tree(tmp_path / "exact")).read().samples
        if "scrape" in sample.metric
    }
    assert given == {metric.name: len(metric.labels) for metric in METRICS.values()}


def test_names_follow_the_conventions():
    """`_total` on counters and only there, base units last (before `_min` and `_max`), a sentence
    for each.
    """
    for metric in METRICS.values():
        bare = metric.name.removesuffix("_min").removesuffix("_max")
        assert bare.endswith("_total") == (metric.kind == "counter")
        assert bare.endswith(f"_{metric.unit}") or metric.unit not in ("bytes", "seconds", "pages")
        assert bare.endswith("_info") == (metric.unit == "always 1")
        assert metric.help.endswith(".")


@pytest.mark.parametrize("name", HOSTS)
def test_promtool_finds_nothing_to_say(name, tmp_path):
    """`promtool check metrics` accepts the text of every host, and of one that cannot be read."""
    root = HOSTS[name].write(tmp_path / "host").root
    exported(root, tmp_path / "hvo.prom")
    texts = [(tmp_path / "hvo.prom").read_text()]
    (root / NR).unlink()
    CliRunner().invoke(
        main, ["export", "--root", str(root), "--textfile", str(tmp_path / "hvo.prom")]
    )
    texts.append((tmp_path / "hvo.prom").read_text())
    with exporter(root) as running:
        texts.append(running.get())
    for text in texts:
        assert "hvo_scrape_success" in text
        done = subprocess.run(
            [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reading_that_fails_is_a_metric(tmp_path):
    """The file of a pool goes away: success is 0, the errors count, the pools are not there, one
    line says why; then all is well again.
    """
    root = HOSTS["exact"].write(tmp_path).root
    now = [0.0]
    reader = Reader(Tree(root), lambda: now[0])
    said = []
    for change in (
        lambda: None,
        (root / NR).unlink,
        lambda: None,
        lambda: HOSTS["exact"].write(root),
    ):
        change()
        now[0] += FRESH_SECONDS
        reading = reader.read()
        values = {sample.metric: sample.value for sample in reading.samples}
        said.append(
            (
                values["hvo_scrape_success"],
                values["hvo_scrape_errors_total"],
                "hvo_hugetlb_pages" in values,
                reading.error is None,
            )
        )
    assert said == [
        (1, 0, True, True),
        (0, 1, False, False),
        (0, 2, False, False),
        (1, 2, True, True),
    ]


def test_one_reading_serves_for_a_while(tmp_path):
    """Two reads within the time give the same object though the host changed; after it the change
    is there.
    """
    root = HOSTS["exact"].write(tmp_path).root
    now = [10.0]
    reader = Reader(Tree(root), lambda: now[0])
    first = reader.read()
    Host(pools={2 * MIB: {0: NodePool(9, 9)}}).write(root)
    now[0] += FRESH_SECONDS * 0.9
    assert reader.read() is first
    now[0] += FRESH_SECONDS
    assert reader.read().samples != first.samples


def test_without_the_library_it_says_what_to_install(tmp_path):
    """A Python that has no prometheus-client: exit 2 and the one line."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None; from hvo.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "export", "--root", tmp_path], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        2,
        "hvo export needs prometheus-client: pip install 'hvo[export]'\n",
    )


def test_the_page_of_metrics_is_up_to_date():
    """`docs/metrics.md` is what `python -m hvo.host.metrics_page` prints."""
    assert DOCS.read_text() == metrics_page()
