"""One protocol, two executors: arrays for many pages at once, and one memory access at a time. They
must leave the same machine behind.
"""

import numpy as np
import pytest

from hvo.machine.batch import executor
from hvo.machine.batch.executor import ArrayExecutor
from hvo.machine.machine import Machine
from hvo.vmemmap.era import Era, era
from hvo.world.plain import PlainExecutor
from machine_state import differences, state

ERAS = ["5.14", "5.18", "6.2", "7.1"]


PAGES = 4


def machines(variant: Era, *, pages: int = PAGES) -> tuple[Machine, Machine]:
    """Two equal machines with an unoptimised pool, the second one run one access at a time."""
    pair = [Machine.build(memory="128MiB", era=variant, gate=False) for _ in range(2)]
    for machine in pair:
        machine.resize("2MiB", pages)
    pair[1].executor = PlainExecutor(pair[1].world)
    return pair[0], pair[1]


def same(one: Machine, other: Machine) -> None:
    assert differences(state(one), state(other)) == []


def allocations(name: str) -> int:
    """How many frames optimising the pages takes."""
    return {"5.14": 1, "5.18": 1, "6.2": 1 + PAGES, "7.1": 2 + PAGES}[name]


@pytest.mark.parametrize("name", ERAS)
def test_optimise_and_restore_agree(name: str) -> None:
    """Without failures both executors give the same results, and the whole machine is the same
    after optimise and after restore.
    """
    arrays, plain = machines(era(name))
    assert arrays.optimize("2MiB").tolist() == plain.optimize("2MiB").tolist() == [0] * PAGES
    assert arrays.optimized("2MiB").size == PAGES
    same(arrays, plain)
    assert arrays.restore("2MiB").tolist() == plain.restore("2MiB").tolist() == [0] * PAGES
    same(arrays, plain)
    assert isinstance(arrays.executor, ArrayExecutor)
    assert arrays.executor.at_once >= 6  # the array executor did run pages together


@pytest.mark.parametrize(
    ("name", "after"), [(name, k) for name in ERAS for k in range(allocations(name))]
)
def test_optimise_fails_alike_at_every_allocation(name: str, after: int) -> None:
    """Refusing every allocation from the k-th on: the same pages are left unoptimised, and nothing
    leaks, in both executors.
    """
    arrays, plain = machines(era(name))
    before = arrays.world.zones.free_pages
    results = []
    for machine in (arrays, plain):
        machine.world.zones.fail_after = after
        results.append(machine.optimize("2MiB").tolist())
        machine.world.zones.fail_after = None
    assert results[0] == results[1]
    same(arrays, plain)
    done = results[0].count(0)
    assert arrays.optimized("2MiB").size == done
    kept = arrays.world.vmemmap.era.layout.kept_pages
    table, tail = int(after > 0), int(name == "7.1" and after > 1)
    assert arrays.world.zones.free_pages == before + done * (8 - kept) - table - tail
    if name == "6.2" and after > 0:
        assert (
            done == PAGES
        )  # a head that cannot move stays where it is, and the tails are shared all the same


@pytest.mark.parametrize("after", range(10))
@pytest.mark.parametrize("name", ERAS)
def test_restore_fails_alike_at_every_frame(name: str, after: int) -> None:
    """Restore takes all frames of a page or none: it stops at the page that cannot have them, which
    stays optimised.
    """
    arrays, plain = machines(era(name), pages=2)
    frames = 8 - arrays.world.vmemmap.era.layout.kept_pages
    results = []
    for machine in (arrays, plain):
        machine.optimize("2MiB")
        machine.world.zones.fail_after = after
        results.append(machine.restore("2MiB").tolist())
        machine.world.zones.fail_after = None
    assert results[0] == results[1]
    assert results[0].count(0) == after // frames
    assert arrays.optimized("2MiB").size == 2 - after // frames
    same(arrays, plain)


@pytest.mark.parametrize("name", ERAS)
@pytest.mark.parametrize("after", [0, 9, None])
def test_shrinking_a_pool_agrees(name: str, after: int | None) -> None:
    """A pool that shrinks while frames run out keeps the pages that it cannot restore, as surplus;
    the next try frees them.
    """
    arrays, plain = machines(era(name))
    for machine in (arrays, plain):
        machine.optimize("2MiB")
        machine.world.zones.fail_after = after
        machine.resize("2MiB", 0)
        machine.world.zones.fail_after = None
    same(arrays, plain)
    frames = 8 - arrays.world.vmemmap.era.layout.kept_pages
    left = 0 if after is None else PAGES - after // frames
    assert (arrays.pool("2MiB").nr(), arrays.pool("2MiB").nr_surplus()) == (left, left)
    for machine in (arrays, plain):
        machine.resize("2MiB", left + 1)
        machine.resize("2MiB", 0)
    same(arrays, plain)
    assert arrays.pool("2MiB").nr() == 0


@pytest.mark.parametrize("name", ERAS)
def test_growing_a_pool_with_the_gate_on_agrees(name: str) -> None:
    """Pages that are optimised as they are allocated: free-list order, counters and tables are the
    same.
    """
    arrays, plain = machines(era(name), pages=0)
    for machine in (arrays, plain):
        machine.set_gate(True)
        machine.resize("2MiB", 5)
        machine.resize("2MiB", 9)
        machine.resize("2MiB", 7)
    same(arrays, plain)
    tops = [machine.pool("2MiB").free[0].pages().tolist() for machine in (arrays, plain)]
    assert tops[0] == tops[1]


@pytest.mark.parametrize(
    ("arch", "page_size", "size"),
    [
        ("x86_64", "4KiB", "2MiB"),
        ("arm64", "16KiB", "32MiB"),
        ("riscv64", "4KiB", "2MiB"),
        ("arm64", "64KiB", "512MiB"),
    ],
)
@pytest.mark.parametrize("name", ["5.18", "7.1"])
def test_other_architectures_agree(name: str, arch: str, page_size: str, size: str) -> None:
    """The same protocols on other page tables, with and without leaves to split."""
    memory = "1GiB" if page_size == "64KiB" else "256MiB"
    arrays, plain = shaped(name, arch, page_size, size, memory)
    assert arrays.optimize(size).tolist() == plain.optimize(size).tolist() == [0, 0]
    same(arrays, plain)


def shaped(name: str, arch: str, page_size: str, size: str, memory: str) -> tuple[Machine, Machine]:
    pair = [Machine.build(arch, page_size, memory, era=name, gate=False) for _ in range(2)]
    for machine in pair:
        machine.resize(size, 2)
    pair[1].executor = PlainExecutor(pair[1].world)
    return pair[0], pair[1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "after"), [("5.18", 1), ("6.2", 3), ("7.1", 4)])
def test_a_page_across_leaves_rolls_back_alike(name: str, after: int) -> None:
    """A 1 GiB page spans eight leaves; when a later one cannot be split, what was remapped before
    comes back with its own frames.
    """
    pair = [Machine.build(memory="1GiB", era=name, gate=False) for _ in range(2)]
    before = {}
    for machine in pair:
        machine.resize("1GiB", 1)
        before = state(machine)
        if machine is pair[1]:
            machine.executor = PlainExecutor(machine.world)
        machine.world.zones.fail_after = after
        assert machine.optimize("1GiB").tolist() == [-12]
        machine.world.zones.fail_after = None
    same(*pair)
    assert pair[0].optimized("1GiB").size == 0
    after_state = state(pair[0])
    assert (
        np.frombuffer(after_state["contents"], np.uint64).size
        == np.frombuffer(before["contents"], np.uint64).size
    )
    assert after_state["contents"] == before["contents"] or name != "5.18"


@pytest.mark.parametrize("name", ERAS)
def test_pages_across_leaves_go_together_as_one_by_one(name: str, monkeypatch) -> None:
    """1 GiB pages, whose blocks split eight leaves each: together, with frames dealt out, they
    leave what one after the other leaves.
    """
    together, singly = (Machine.build(memory="5GiB", era=name, gate=False) for _ in range(2))
    for machine in (together, singly):
        machine.resize("1GiB", 5)
    assert together.optimize("1GiB").tolist() == [0] * 5
    assert together.executor.at_once >= 4
    monkeypatch.setattr(executor, "_PAGES_AT_FIRST", 1)
    monkeypatch.setattr(executor, "_PAGES_AT_ONCE", 1)
    before = singly.executor.at_once
    assert singly.optimize("1GiB").tolist() == [0] * 5
    assert singly.executor.at_once == before
    same(together, singly)
    singly.restore("1GiB")
    monkeypatch.undo()
    together.restore("1GiB")
    same(together, singly)


@pytest.mark.parametrize("name", ERAS)
def test_two_nodes_agree(name: str) -> None:
    """Pages of a pool on two nodes take turns, and their frames come from their own node; one node
    runs out before the other.
    """
    pair = [Machine.build(memory="256MiB", era=name, nodes=2, gate=True) for _ in range(2)]
    pair[1].executor = PlainExecutor(pair[1].world)
    for machine in pair:
        machine.resize("2MiB", 5)
        machine.resize("2MiB", 6, node=1)
        machine.resize("2MiB", 3)
    same(*pair)
    assert [pair[0].pool("2MiB").nr(node) for node in (0, 1)] == [0, 3]
    assert pair[0].optimized("2MiB").size == 3


def test_pages_of_two_nodes_go_together() -> None:
    """Turns between nodes do not keep pages from going together, and each node gives what it
    has.
    """
    machine = Machine.build(memory="1GiB", era="7.1", nodes=2)
    machine.resize("2MiB", 400)
    assert [machine.pool("2MiB").nr(node) for node in (0, 1)] == [200, 200]
    assert machine.executor.at_once > 700
    machine.resize("2MiB", 100000)
    assert machine.pool("2MiB").nr() >= 512
    machine.resize("2MiB", 0)
    assert machine.pool("2MiB").nr() == 0
