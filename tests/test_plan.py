"""`hvo plan` says beforehand what `hvo run` measures on the simulated machine, to the byte; and
what it refuses, it names.
"""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.cli.main import main
from hvo.errors import HvoError
from hvo.layout.alternatives import compare
from hvo.layout.eras import ERA_LAYOUTS
from hvo.layout.geometry import GEOMETRIES, geometry
from hvo.layout.plan import plan
from hvo.layout.pools import Amount, PoolRequest, parse_pool
from hvo.machine.boot.build import VMEMMAP_BASE
from hvo.machine.machine import Machine
from hvo.machine.run.memmap import memmap

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
ERAS = list(ERA_LAYOUTS)


def request(size: int, pages: int) -> PoolRequest:
    return PoolRequest(size, (Amount(None, pages),))


def agrees(
    arch: str, page_size: int, memory: int, pools: dict[int, int], era: str, nodes: int = 1
) -> None:
    """Build the machine that was planned, fill and optimise the pools, restore them, and compare
    every figure.
    """
    planned = plan(
        geometry(arch, page_size), memory, [request(*pool) for pool in pools.items()], era, nodes
    )
    machine = Machine.build(arch, page_size, memory, era=era, nodes=nodes, gate=False)
    for size in sorted(pools, reverse=True):
        machine.resize(size, pools[size])
    before = memmap(machine)
    for pool in planned.pools:
        assert machine.pool(pool.size).nr() == pool.pages
        optimize(machine, planned, pool)
    after = memmap(machine)
    for size in pools:
        machine.restore(size)
    restored = memmap(machine)
    figures = (
        before.bytes,
        before.bytes - after.bytes,
        (after.tables - before.tables) * page_size,
        after.shared * page_size,
    )
    assert figures == (planned.memmap, planned.saved, planned.table_cost, planned.shared_tails)
    assert (after.free - before.free) * page_size == planned.net
    assert (after.free - restored.free) * page_size == planned.restore_headroom
    for node in planned.nodes:
        assert sum(machine.pool(size).nr(node.node) * size for size in pools) == node.pool_bytes


def optimize(machine: Machine, planned, pool) -> None:
    """Optimise one pool, and compare what its pages give back."""
    start = memmap(machine).frames
    machine.optimize(pool.size)
    assert (start - memmap(machine).frames) * planned.geometry.page_size == pool.saved
    assert (
        machine.world.vmemmap.vmemmap_pages(machine.hstate(pool.size).order) == pool.vmemmap_pages
    )
    if pool.pages:
        entries = machine.entries(int(machine.pool(pool.size).heads()[0]), pool.size)
        own = machine.world.vmemmap.era.layout.shares != "zone-tail"
        same = [entry for entry in entries if entry.frame == entries[-1].frame]
        assert (len(same) - own if pool.freed_pages else 0) == pool.freed_pages
        protected = machine.world.vmemmap.format.protects * pool.freed_pages
        assert sum(not entry.writable for entry in entries) == protected


ROWS = [
    (arch, page, huge.size)
    for (arch, page), shape in GEOMETRIES.items()
    if (arch, page) in VMEMMAP_BASE
    for huge in shape.hugepages
]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("arch", "page_size", "size"), ROWS)
def test_every_row_of_the_geometry_in_every_era(arch, page_size, size, era):
    """One pool that fills memory, and one that does not fill its last leaf."""
    memory = max(4 * geometry(arch, page_size).section_size, size)
    agrees(arch, page_size, memory, {size: memory // size}, era)
    agrees(arch, page_size, memory, {size: max(1, memory // size // 3)}, era)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("arch", "page_size"), VMEMMAP_BASE)
def test_all_sizes_at_once(arch, page_size, era):
    """A pool of each size, the smaller ones on leaves that the larger ones leave half used."""
    sizes = [huge.size for huge in geometry(arch, page_size).hugepages]
    memory = 2 * sizes[-1]
    agrees(
        arch, page_size, memory, dict(zip(sizes, (7, 5, 3, 1), strict=False)) | {sizes[-1]: 1}, era
    )


@pytest.mark.parametrize("era", ERAS)
def test_nodes_share_pools_as_the_kernel_deals_them(era):
    """Odd pages go to the first nodes, each node begins on leaves and (7.1) with shared tails of
    its own.
    """
    agrees("arm64", 4096, 6 * 128 * MIB, {2 * MIB: 65, 32 * MIB: 5}, era, nodes=3)
    agrees("x86_64", 4096, 6 * GIB, {2 * MIB: 1, GIB: 3}, era, nodes=2)


@settings(derandomize=True, database=None, max_examples=25, deadline=None)
@given(st.integers(0, 70), st.integers(0, 9), st.integers(1, 3), st.sampled_from(ERAS))
def test_any_partial_pools(small, middle, nodes, era):
    """Whatever part of memory the pools of two sizes take, leaves at the border are counted
    once.
    """
    agrees("arm64", 4096, nodes * 512 * MIB, {2 * MIB: small, 32 * MIB: middle}, era, nodes)


def test_memory_need_not_divide():
    """The map of a section that is not full is made whole; the first node gets what does not
    divide; pools fit what is there.
    """
    odd = plan(
        geometry("x86_64", 4096), 3 * GIB + 5 * MIB, [parse_pool("2MiB=all")], "7.1", nodes=2
    )
    assert [node.memory for node in odd.nodes] == [1538 * MIB + 512 * KIB, 1538 * MIB + 512 * KIB]
    assert odd.memmap == 2 * 13 * 2 * MIB
    assert odd.pools[0].pages == 2 * 769


def test_headline():
    """1 TiB of 2 MiB pages gives back 14 GiB, 12 GiB before 5.18, of 1 GiB pages 16 GiB less 4 MiB;
    the tables take 32 MiB.
    """
    shape = geometry("x86_64", 4096)
    saved = {era: plan(shape, TIB, [parse_pool("2MiB=all")], era).saved for era in ERAS}
    assert saved == {"5.14": 12 * GIB, "5.18": 14 * GIB, "6.2": 14 * GIB, "7.1": 14 * GIB}
    gigantic = plan(shape, TIB, [parse_pool("1GiB=1TiB")], "7.1")
    assert (gigantic.memmap, gigantic.saved, gigantic.table_cost, gigantic.shared_tails) == (
        16 * GIB,
        16 * GIB - 4 * MIB,
        32 * MIB,
        4096,
    )


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("2MiB=1000", PoolRequest(2 * MIB, (Amount(None, 1000),))),
        ("1GiB=600GiB", PoolRequest(GIB, (Amount(None, 600),))),
        ("2M=all", PoolRequest(2 * MIB, (Amount(None, None),))),
        ("1G=0:4,1:2GiB", PoolRequest(GIB, (Amount(0, 4), Amount(1, 2)))),
    ],
)
def test_amounts_that_people_write(text, asked):
    assert parse_pool(text) == asked


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--pool", "3MiB=1"], ("3MiB", "2MiB, 1GiB")),
        (["--pool", "1GiB=1025"], ("1025", "1024")),
        (["--pool", "1GiB=1000", "--pool", "2MiB=25GiB"], ("12800", "12288")),
        (["--pool", "2MiB=3MiB"], ("3MiB", "2MiB")),
        (["--pool", "2MiB"], ("SIZE=AMOUNT",)),
        (["--pool", "2MiB=1,2"], ("NODE:AMOUNT",)),
        (["--pool", "2MiB=1", "--pool", "2048kB=2"], ("2MiB", "once")),
        (["--pool", "1GiB=1:1"], ("node 1", "1 node(s)")),
        (["--pool", "2MiB=1", "--arch", "sparc"], ("sparc", "x86_64")),
        (["--pool", "2MiB=1", "--page-size", "16KiB"], ("16KiB", "4KiB")),
        (["--pool", "2MiB=1", "--era", "6.1"], ("6.1", "5.14")),
        (["--pool", "2MiB=1", "--compare", "colour"], ("colour", "page-size")),
        (["--pool", "2MiB=1", "--struct-page-size", "0"], ("--struct-page-size", "1")),
    ],
)
def test_errors_name_what_is_accepted(arguments, named):
    """Exit 2 and one line that has the bad value and the good ones."""
    result = CliRunner().invoke(main, ["plan", "--memory", "1TiB", *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in named), result.stderr


def test_compare_gives_the_same_bytes_of_pool():
    """Every geometry row and size is there once, holds at least what was asked, and less than one
    page more.
    """
    rows = compare(
        geometry("x86_64", 4096),
        TIB,
        [parse_pool("2MiB=600GiB")],
        "7.1",
        1,
        ["arch", "page-size", "hugepage-size"],
    )
    assert len(rows) == sum(len(shape.hugepages) for shape in GEOMETRIES.values())
    assert all(0 <= row.plan.pool_bytes - 600 * GIB < row.hugepage_size for row in rows)
    saved = {
        (row.geometry.arch, row.geometry.page_size, row.hugepage_size): row.plan.saved
        for row in rows
    }
    assert saved["x86_64", 4096, 2 * MIB] == 307200 * 7 * 4096
    assert saved["arm64", 16384, 32 * MIB] == 19200 * 7 * 16384
    assert saved["arm64", 65536, 512 * MIB] == 1200 * 7 * 65536


def test_compare_says_why_an_alternative_cannot_be():
    """A size that a granule lacks, and pages too large for the memory, are rows with a reason."""
    fixed = compare(
        geometry("x86_64", 4096), TIB, [parse_pool("1GiB=10")], "7.1", 1, ["arch", "page-size"]
    )
    assert {(row.geometry.arch, row.geometry.page_size) for row in fixed if row.plan is None} == {
        ("arm64", 65536),
        ("loongarch64", 16384),
    }
    small = compare(
        geometry("arm64", 65536), GIB, [parse_pool("2MiB=1GiB")], "7.1", 1, ["hugepage-size"]
    )
    assert [row.plan is None for row in small] == [False, False, True]
    assert "memory holds at most 0" in small[2].reason


def test_a_struct_page_of_another_size():
    """128 bytes cost and save twice as much; 80 are no power of two, so nothing can be
    optimised.
    """

    def planned(size):
        arguments = [
            "plan",
            "--memory",
            "1TiB",
            "--pool",
            "2MiB=all",
            "--era",
            "6.2",
            "--json",
            "--struct-page-size",
            size,
        ]
        return json.loads(CliRunner().invoke(main, arguments).stdout)

    double, odd = planned("128"), planned("80")
    assert (double["memmap"], double["saved"], double["table_cost"]) == (
        32 * GIB,
        30 * GIB,
        64 * MIB,
    )
    assert (odd["memmap"], odd["saved"], odd["table_cost"]) == (20 * GIB, 0, 0)


def test_json_has_the_keys_of_the_contract():
    """Without an era the newest is at the top and all are listed; headroom is node by node."""
    result = CliRunner().invoke(
        main, ["plan", "--memory", "1TiB", "--nodes", "2", "--pool", "1GiB=0:4,1:2", "--json"]
    )
    found = json.loads(result.stdout)
    assert {"pools", "memmap", "saved", "table_cost", "restore_headroom"} <= set(found)
    assert found["pools"] == [
        {
            "size": GIB,
            "pages": 6,
            "vmemmap_pages": 4096,
            "freed_pages": 4095,
            "saved": 6 * 4095 * 4096,
        }
    ]
    assert [node["restore_headroom"] for node in found["nodes"]] == [
        4 * 4095 * 4096,
        2 * 4095 * 4096,
    ]
    assert [era["era"] for era in found["eras"]] == ERAS
    assert found["era"] == ERAS[-1]
    assert found["saved"] == found["eras"][-1]["saved"] == found["restore_headroom"]


@pytest.mark.parametrize("more", [[], ["--compare", "page-size,hugepage-size"], ["--nodes", "2"]])
def test_the_terminal_shows_it(more):
    """Eras, alternatives and nodes come out as tables."""
    result = CliRunner().invoke(
        main, ["plan", "--arch", "arm64", "--memory", "1TiB", "--pool", "2MiB=512GiB", *more]
    )
    assert result.exit_code == 0
    assert "7GiB" in result.stdout
    assert "restore headroom" in result.stdout


def test_unknown_eras_are_refused():
    with pytest.raises(HvoError, match=r"6\.1"):
        plan(geometry("x86_64", 4096), GIB, [], "6.1")
