"""bench-host against a kernel that refuses or falls short, with a clock of its own, so that figures
are known.
"""

import errno
from itertools import count
from pathlib import Path

import pytest
from host_simulator import Kernel
from host_trees import GIB, MIB, Host, NodePool

from hvo.errors import HvoError
from hvo.host import journal as journals
from hvo.host.bench import bench_host
from hvo.host.convert import resume, undo
from hvo.host.kernel import GATE

SIZE = 2 * MIB


def kernel(tmp_path: Path, *pools: NodePool, optimized: int = 0, **more: object) -> Kernel:
    """A simulated kernel whose pools have free pages, `optimized` of them on top of each list."""
    freed = 7 * sum(min(optimized, pool.free) for pool in pools)
    made = Host(
        pools={SIZE: dict(enumerate(pools)), GIB: {0: NodePool()}},
        sections=16,
        memmap=(0, 16 * 512 - freed),
        **more,
    )
    return Kernel(made, tmp_path, optimized)


def clock(step: int):
    """A clock that goes on by `step` nanoseconds more at each reading: readings 0, 1, 3, 6, ...
    steps.
    """
    numbers, now = count(), [0]

    def read() -> int:
        now[0] += next(numbers) * step
        return now[0]

    return read


@pytest.mark.parametrize("gate", [0, 1])
def test_pool_and_switch_are_as_before_and_times_are_a_page(gate, tmp_path):
    """Ten pages, two rounds: each part is the time between two readings over ten, the first round
    is not counted, and nothing is left.
    """
    tree = kernel(tmp_path, NodePool(40, 30), optimized=20, gate=gate)
    before = tree.stacks[0].copy()
    found = bench_host(tree, SIZE, pages=10, rounds=2, clock=clock(10))
    assert found.outcome.ok, found.outcome.complaint
    assert {key: timing.rounds for key, timing in found.times.items()} == {
        ("allocate", False): (9, 17),
        ("free", False): (11, 19),
        ("allocate", True): (13, 21),
        ("free", True): (15, 23),
    }
    assert (tree.stacks[0], tree.pool(), tree.number(GATE)) == (before, NodePool(40, 30), gate)
    assert journals.load(tree) is None
    assert found.to_json()["allocate"]["off"]["median_ns"] == 13


def test_the_node_with_most_free_memory_unless_one_is_asked_for(tmp_path):
    """All writes go to one node's pool, so that no other node's pages move."""
    tree = kernel(tmp_path, NodePool(5, 5), NodePool(7, 7))
    zones = tree.read("/proc/zoneinfo").replace(
        "pages free     1000000", "pages free     500000", 1
    )
    (tmp_path / "proc/zoneinfo").write_text(zones)
    assert bench_host(tree, SIZE, pages=4, rounds=1).outcome.details["node"] == 1
    assert bench_host(tree, SIZE, 0, pages=4, rounds=1).outcome.details["node"] == 0
    assert {write.path.split("/")[5] for write in tree.written if "/node/" in write.path} == {
        "node0",
        "node1",
    }


def test_dry_run_writes_nothing_and_says_what_it_would(tmp_path):
    """Both halves of the warm-up and of one round, then the switch."""
    tree = kernel(tmp_path, NodePool(3, 3), gate=0)
    found = bench_host(tree, SIZE, pages=4, rounds=1, dry_run=True)
    assert [write.value for write in found.outcome.writes] == ["0", "7", "3", "1", "7", "3"] * 2 + [
        "0"
    ]
    assert tree.written == []
    assert found.to_json()["free"]["on"] == {
        "median_ns": None,
        "least_ns": None,
        "most_ns": None,
        "rounds_ns": [],
    }


@pytest.mark.parametrize(
    ("pools", "more", "words", "match"),
    [
        (NodePool(4, 4), {"free_pages": 4000}, {"pages": 10}, "10 pages need"),
        (NodePool(4, 4), {"free_pages": 900}, {}, "1 pages need"),
        (NodePool(4, 4, surplus=1), {}, {}, "surplus"),
        (NodePool(4, 4), {"gate": None}, {}, "cannot optimise"),
        (NodePool(4, 4), {"release": "6.12.117"}, {}, "H19"),
    ],
)
def test_what_must_not_be_measured(pools, more, words, match, tmp_path):
    """Too little free memory, surplus pages, no switch, a kernel that loses pages: one line, and
    nothing was written.
    """
    tree = kernel(tmp_path, pools, **more)
    with pytest.raises(HvoError, match=match):
        bench_host(tree, SIZE, **words)
    assert tree.written == []


@pytest.mark.parametrize("at", range(1, 9))
def test_a_refused_write_leaves_pool_and_switch_as_they_were(at, tmp_path):
    """Whichever write to the pool the kernel refuses."""
    tree = kernel(tmp_path, NodePool(10, 10), gate=0)

    def refuse(number: int) -> None:
        if number == at:
            raise OSError(errno.EINVAL, "EINVAL")

    tree.on_write.append(refuse)
    with pytest.raises(HvoError, match="the kernel refuses the value"):
        bench_host(tree, SIZE, pages=4, rounds=1)
    assert (tree.pool(), tree.number(GATE), journals.load(tree)) == (NodePool(10, 10), 0, None)


def test_memory_that_runs_out_is_a_problem(tmp_path):
    """The pool does not get there: the line says so, and all is put back."""
    tree = kernel(tmp_path, NodePool(10, 10))
    tree.room = 3
    outcome = bench_host(tree, SIZE, pages=4, rounds=1).outcome
    assert "13 pages and 0 surplus ones instead of 14" in (outcome.complaint or "")
    assert (tree.pool(), tree.number(GATE)) == (NodePool(10, 10), 1)


@pytest.mark.parametrize("again", [undo, resume])
def test_what_was_killed_is_taken_back(again, tmp_path):
    """As `kill -9` leaves it, the pool grown and the switch on: undo and resume alike bring both
    back.
    """
    tree = kernel(tmp_path, NodePool(10, 10), gate=0)

    class Killed(BaseException):
        pass

    def kill(number: int) -> None:
        if number == 4:
            raise Killed

    tree.on_write.append(kill)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hvo.host.bench.restore", lambda *_: None)
        with pytest.raises(Killed):
            bench_host(tree, SIZE, pages=4, rounds=1)
    tree.on_write.clear()
    assert (tree.pool().pages, tree.number(GATE)) == (14, 1)
    with pytest.raises(
        HvoError,
        match="an earlier hvo bench-host was interrupted: take it back with hvo convert --undo",
    ):
        bench_host(tree, SIZE)
    assert again(tree).ok
    assert (tree.pool(), tree.number(GATE), journals.load(tree)) == (NodePool(10, 10), 0, None)
