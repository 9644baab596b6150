"""What is said of a fleet: sums against an oracle and against `hvo plan`, to the byte; its laws;
every action and every reason.
"""

from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from inventories import (
    GIB,
    HOST,
    MIB,
    POOL,
    SAVED,
    TIB,
    answer,
    ask,
    host,
    hvo,
    without_sources,
    write_parquet,
)
from oracle import ACTIONS, AMOUNTS, add_up

from hvo.fleet.synthetic import write_fleet
from hvo.layout.geometry import GEOMETRIES
from hvo.layout.plan import plan
from hvo.layout.pools import parse_pool
from hvo.layout.units import format_size

_KERNEL = {"5.14": "5.16.20", "5.18": "6.0.19", "6.2": "6.11.3", "7.1": "7.2.1"}
"""A release of each era in which x86-64 has the mechanism."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Path:
    """A synthetic fleet that has every state."""
    path = tmp_path_factory.mktemp("fleet") / "fleet.parquet"
    write_fleet(3000, 11, path)
    return path


@pytest.fixture(scope="module")
def rows(fleet) -> list[dict[str, Any]]:
    """Its rows, without what is not known."""
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in pq.read_table(fleet).to_pylist()
    ]


@pytest.fixture(scope="module")
def found(fleet) -> dict[str, Any]:
    """What is said of it, nothing summed up as others."""
    return ask(fleet, "--top", 100_000)


# -- sums --


def test_the_sums_are_those_of_every_host_added_up(rows, found):
    """In all, to the byte, with actions and the hosts that they gain on."""
    total = add_up(rows)[None]
    assert {name: found[name] for name in (*AMOUNTS, "hosts")} == {
        name: total[name] for name in (*AMOUNTS, "hosts")
    }
    assert {action["action"]: action["gain"] for action in found["actions"]} == {
        name: total[name] for name in ACTIONS if total[name]
    }
    assert found["rejected"] == 0


@pytest.mark.parametrize(
    ("key", "column"),
    [("group", "group"), ("kernel", "kernel"), ("arch", "arch"), ("size", "hugepage_size")],
)
def test_each_breakdown_is_the_hosts_added_up(rows, found, key, column):
    """By what is said of a host, and by HugeTLB size, in which a host counts once for each of its
    sizes.
    """
    expected = add_up((row for row in rows if column in row), column)
    known = [
        name for name in (*AMOUNTS, "hosts") if key != "size" or name not in ("memory", "memmap")
    ]
    said = {
        row["size" if key == "size" else "name"]: {name: row[name] for name in known if name in row}
        for row in found["by"][key]
    }
    assert said == {
        name: {each: sums[each] for each in said[name]} for name, sums in expected.items()
    }


def test_every_state_is_in_the_synthetic_fleet(found):
    """So that the comparisons above say something of each."""
    assert all(found[name] for name in ("saved", "possible", "unknown", "impossible", "kept"))
    assert {action["action"] for action in found["actions"]} == set(ACTIONS)
    assert found["defects"]
    assert len(found["impossible_because"]) > 3


def test_nothing_of_a_pool_is_counted_twice_or_not_at_all(found):
    """Struct pages of pools are saved, possible, unknown, impossible or kept, in every row of every
    breakdown.
    """
    everything = [found, *(row for rows in found["by"].values() for row in rows)]
    for row in everything:
        assert row["cost"] == sum(
            row[name] for name in ("saved", "possible", "unknown", "impossible", "kept")
        )
        assert row["restore_headroom_after"] == row["saved"] + row["unknown"] + row["possible"]
        assert all(value >= 0 for value in row.values() if isinstance(value, int))


@pytest.mark.parametrize("key", ["group", "kernel", "arch", "size"])
def test_rows_that_are_not_listed_are_summed_up(fleet, found, key):
    """The list of two and the others have the same sum as the whole list, and count the names."""
    short = ask(fleet, "--top", 2)["by"][key]
    assert [row["name"] for row in short[:2]] == [row["name"] for row in found["by"][key][:2]]
    assert (short[2]["name"], short[2]["merged"]) == (None, len(found["by"][key]) - 2)
    for name in ("cost", "saved", "possible", "unknown", "impossible", "kept"):
        assert sum(row[name] for row in short) == sum(row[name] for row in found["by"][key])


def test_the_hosts_where_most_is_possible(rows, found):
    """Those that the oracle has, with the same figures, the largest first; hosts with several rows
    among them.
    """
    by_host = add_up(rows, "host")
    expected = sorted(
        ((name, sums) for name, sums in by_host.items() if sums["possible"]),
        key=lambda pair: (-pair[1]["possible"], -pair[1]["unknown"], pair[0]),
    )
    assert [(row["host"], row["possible"], row["saved"], row["paid"]) for row in found["top"]] == [
        (name, sums["possible"], sums["saved"], sums["memmap"] - sums["saved"])
        for name, sums in expected
    ]
    several = {
        row["host"] for row in rows if sum(other["host"] == row["host"] for other in rows[:500]) > 1
    }
    assert several & {row["host"] for row in found["top"]}


@pytest.mark.parametrize("top", [1, 3, 17])
def test_a_shorter_list_of_hosts_is_its_beginning(fleet, found, top):
    """The inventory is read for these hosts only, and none is missed."""
    assert ask(fleet, "--top", top)["top"] == found["top"][:top]


# -- hvo plan says the same of one host --


@pytest.mark.parametrize(("shape", "era"), list(product(GEOMETRIES, _KERNEL)), ids=str)
def test_one_host_is_as_hvo_plan_says(shape, era, tmp_path):
    """Memory map, saving, tables and headroom of every row of the geometry table in every era, each
    HugeTLB size full.
    """
    arch, page = shape
    geometry = GEOMETRIES[shape]
    for size in (huge.size for huge in geometry.hugepages):
        planned = plan(geometry, 64 * GIB, [parse_pool(f"{format_size(size)}=all")], era)
        row = {
            "host": "a",
            "arch": arch,
            "kernel": _KERNEL[era],
            "page_size": page,
            "memory": 64 * GIB,
            "hugepage_size": size,
            "pages": planned.pools[0].pages,
            "supported": True,
            "gate": True,
            "optimized": 0,
        }
        said = answer([row], tmp_path)
        assert (said["memmap"], said["possible"], said["table_cost"]) == (
            planned.memmap,
            planned.saved,
            planned.table_cost,
        )
        assert said["restore_headroom_after"] == planned.restore_headroom
        assert said["impossible"] == (0 if planned.saved else said["cost"])


def test_the_headline(tmp_path):
    """1 TiB of 2 MiB pages saves 14 GiB, of 1 GiB pages 16 GiB less 4 MiB."""
    rows = [
        host(memory=TIB, pages=TIB // (2 * MIB), optimized=0),
        host(host="b", memory=TIB, hugepage_size=GIB, pages=1024, optimized=0),
    ]
    assert [row["possible"] for row in answer(rows, tmp_path)["by"]["size"]] == [
        16 * GIB - 4 * MIB,
        14 * GIB,
    ]


# -- what to do --


@pytest.mark.parametrize(
    ("values", "action", "gain"),
    [
        ({"gate": False}, "switch_on", 600 * SAVED),
        ({"gate": True}, "convert", 600 * SAVED),
        ({"gate": None}, "find_out", 600 * SAVED),
        ({"optimized": None, "gate": True}, "find_out", 1000 * SAVED),
        ({"optimized": None, "optimized_min": 100, "optimized_max": 700}, "find_out", 600 * SAVED),
        ({"kernel": "5.4.0-1-generic", "optimized": 0}, "upgrade", 1000 * SAVED),
        ({"kernel": "6.12.117+deb13-amd64"}, "upgrade", 600 * SAVED),
        ({"kernel": "5.15.3", "optimized": 1000}, "upgrade", 1000 * 4096),
        ({"supported": False, "optimized": 0}, "upgrade", 1000 * SAVED),
    ],
)
def test_the_one_thing_to_do(values, action, gain, tmp_path):
    """Each state of a pool has one action beside a change of size, and that gains what is
    missing.
    """
    said = answer([host(**values)], tmp_path)
    gains = {each["action"]: (each["gain"], each["hosts"]) for each in said["actions"]}
    gains.pop("change_size", None)
    if values.get("optimized_max"):
        assert gains.pop("convert") == (300 * SAVED, 1)
    assert gains == {action: (gain, 1)}


def test_a_change_of_size_gains_what_comes_on_top(tmp_path):
    """1000 pages of 2 MiB are one of 1 GiB and a rest; what converting gains is not in it."""
    said = answer([host()], tmp_path)
    gain = 16 * MIB - 4096 - 512 * SAVED
    assert [each["gain"] for each in said["actions"] if each["action"] == "change_size"] == [gain]


def test_finding_out_comes_last(tmp_path):
    """It gains nothing yet, however much is not known."""
    rows = [host(), host(host="b", optimized=None, pages=20_000)]
    assert [each["action"] for each in answer(rows, tmp_path)["actions"]] == [
        "change_size",
        "convert",
        "find_out",
    ]


def test_a_defect_is_told_and_nothing_is_advised_that_loses_pages(tmp_path):
    """On a kernel that loses pages when they are given back."""
    said = answer([host(kernel="6.12.117+deb13-amd64")], tmp_path)
    assert [(each["id"], each["hosts"], each["saved"]) for each in said["defects"]] == [
        ("H19", 1, 400 * SAVED)
    ]
    assert [each["action"] for each in said["actions"]] == ["upgrade"]


def test_a_defect_of_gigantic_pages_is_told_with_where_to_look(tmp_path):
    """H15: certain in a release that was measured, else possible; only for optimised pages of
    1 GiB, and nothing else is advised because of it.
    """
    gib = {"hugepage_size": 1 << 30, "pages": 4, "optimized": 4}
    kernels = ("7.1.13+deb13-amd64", "6.18.44", "6.17.1", "7.3.4")
    hosts = [host(host=kernel, kernel=kernel, **gib) for kernel in kernels]
    hosts += [host(host="small", kernel="6.17.1")]
    hosts += [host(host="plain", kernel="6.17.1", **gib | {"optimized": 0})]
    said = answer(hosts, tmp_path)
    assert [
        (each["id"], each["hosts"], each["certain"], each["loses"], each["fixed"])
        for each in said["defects"]
    ] == [("H15", 1, True, False, "7.2"), ("H15", 2, False, False, "7.2")]


def test_memory_that_hosts_its_own_vmemmap(tmp_path):
    """Nothing is possible of such pages, and it is said why; what is left over is."""
    said = answer([host(optimized=0, self_hosted=300)], tmp_path)
    assert (said["possible"], said["impossible"]) == (700 * SAVED, 300 * SAVED)
    (reason,) = said["impossible_because"]
    assert reason["reason"] == "it lies in memory that hosts its own vmemmap"
    said = answer([host(optimized=1000, self_hosted=300)], tmp_path)
    assert (said["possible"], said["impossible"], said["saved"]) == (0, 0, 1000 * SAVED)


# -- why not --


@pytest.mark.parametrize(
    ("values", "impossible", "why"),
    [
        (
            {"arch": "arm64", "kernel": "6.8.0-45-generic"},
            1000 * SAVED,
            "arm64 had the optimisation in 5.19 to 6.2 only",
        ),
        (
            {"arch": "aarch64", "kernel": "7.3.4"},
            1000 * SAVED,
            "arm64 had the optimisation in 5.19 to 6.2 only",
        ),
        ({"kernel": "5.10.0-33-amd64"}, 1000 * SAVED, "the optimisation came with 5.14"),
        (
            {"arch": "s390x", "hugepage_size": MIB},
            1000 * 16384,
            "s390x does not offer the optimisation",
        ),
        ({"arch": "sparc64"}, 1000 * 32768, "sparc64 is not known to have the optimisation"),
        (
            {"arch": "riscv64", "hugepage_size": 65536},
            1000 * 1024,
            "64KiB pages with 4KiB base pages",
        ),
        ({"struct_page_size": 56}, 1000 * 28672, "sizeof(struct page) is 56"),
        ({"supported": False}, 1000 * SAVED, "the host says that its kernel cannot"),
    ],
)
def test_why_it_is_impossible(values, impossible, why, tmp_path):
    """The reason is the first thing that would have to change."""
    said = answer([host(optimized=0, **values)], tmp_path)
    assert (said["saved"], said["possible"], said["impossible"]) == (0, 0, impossible)
    (reason,) = said["impossible_because"]
    assert reason["reason"].startswith(why)
    assert (reason["hosts"], reason["impossible"]) == (1, impossible)


def test_what_a_host_says_and_shows_of_its_kernel_is_believed(tmp_path):
    """A patched arm64 kernel that optimises, which no list knows: by its word, by its pages, and by
    those of its other pool.
    """
    patched = {"arch": "arm64", "kernel": "7.3.4-hvo"}
    assert (
        answer([host(supported=True, optimized=0, **patched)], tmp_path)["possible"] == 1000 * SAVED
    )
    assert answer([host(optimized=1, **patched)], tmp_path)["possible"] == 999 * SAVED
    two = [host(optimized=1, **patched), host(optimized=0, hugepage_size=GIB, pages=1, **patched)]
    assert answer(two, tmp_path)["possible"] == 999 * SAVED + 16 * MIB - 4096


# -- hosts with several rows --


def test_a_host_with_several_pools_counts_once(tmp_path):
    """Its memory, its struct pages and itself; its pools add up, and each is counted under its
    size.
    """
    rows = [
        host(),
        host(hugepage_size=GIB, pages=2, optimized=0),
        host(host="b", node=0),
        host(host="b", node=1, optimized=0),
    ]
    said = answer(rows, tmp_path)
    assert (said["hosts"], said["memory"], said["memmap"]) == (2, 128 * GIB, 2 * GIB)
    assert said["saved"] == 800 * SAVED
    assert {row["name"]: row["hosts"] for row in said["by"]["size"]} == {"2MiB": 2, "1GiB": 1}
    assert [action["hosts"] for action in said["actions"] if action["action"] == "convert"] == [2]
    assert [row["host"] for row in said["top"]] == ["a", "b"]


def test_a_host_without_a_pool_pays_as_well(tmp_path):
    """Struct pages of all memory, and nothing to do."""
    said = answer([HOST], tmp_path)
    assert (said["hosts"], said["paid"], said["cost"], said["actions"], said["top"]) == (
        1,
        GIB,
        0,
        [],
        [],
    )


# -- on a terminal --


def test_text_of_an_inventory_is_never_markup(tmp_path):
    """Names in brackets are shown as they are."""
    rows = [
        host(host="[bold]x[/]", group="[red]g"),
        host(host="y", kernel="5.4.0-[link=x]", optimized=0),
    ]
    shown = hvo(write_parquet(rows, tmp_path / "fleet.parquet"), "--top", 5).stdout
    assert all(text in shown for text in ("[bold]x[/]", "[red]g", "5.4.0-[link=x]"))


def test_the_answer_is_readable(tmp_path):
    """What a person is told of one host, in full."""
    shown = hvo(write_parquet([POOL], tmp_path / "fleet.parquet")).stdout
    said = [line.rstrip() for line in shown.splitlines()[:6]]
    assert said == [
        "fleet      1 host with 64GiB, 2000MiB of it in HugeTLB pools",
        "paid       1013.06MiB for struct pages",
        "saved      11200KiB",
        "possible   16800KiB more (tables for split leaves would take 64KiB in all)",
        "give back  needs up to 11200KiB free now, 28000KiB when all that is possible is saved",
        "",
    ]


def test_the_order_of_rows_does_not_matter(rows, found, tmp_path):
    """Backwards it is the same fleet."""
    assert without_sources(
        ask(write_parquet(rows[::-1], tmp_path / "back.parquet"), "--top", 100_000)
    ) == without_sources(found)
