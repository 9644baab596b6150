"""Conversions beside others who take and free pages, on simulated free lists of every kind: how
many pages stay free, what is rebuilt, and what is left.
"""

import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from host_simulator import Kernel
from host_trees import GIB, MIB, Host, NodePool
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.host import journal as journals
from hvo.host import progress, rebuilding
from hvo.host.convert import convert, resume

SIZE = 2 * MIB


class Pools(NamedTuple):
    """Free and used pages of each node, and how many of the free ones are optimised, those on
    top.
    """

    free: tuple[int, ...]
    used: tuple[int, ...]
    optimised: int
    reserved: int
    reverse: bool
    counted: bool


class Request(NamedTuple):
    """The arguments of a conversion."""

    batch: int | None
    keep_free: int | None


@st.composite
def pools(draw: st.DrawFn) -> Pools:
    """One node or two, of every mixture."""
    nodes = draw(st.integers(1, 2))
    free = tuple(draw(st.lists(st.integers(0, 60), min_size=nodes, max_size=nodes)))
    used = tuple(draw(st.lists(st.integers(0, 20), min_size=nodes, max_size=nodes)))
    reserved = draw(st.integers(0, min(free[0], 10))) if nodes == 1 else 0
    optimised = draw(st.integers(0, min(free)))
    return Pools(free, used, optimised, reserved, draw(st.booleans()), draw(st.booleans()))


REQUESTS = st.builds(Request, st.none() | st.integers(1, 40), st.none() | st.integers(0, 100))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to wait for simulated users."""
    monkeypatch.setattr(rebuilding.time, "sleep", lambda _: None)


@contextmanager
def simulated(found: Pools) -> Iterator[Kernel]:
    """A kernel with such pools."""
    nodes = {
        node: NodePool(free + used, free)
        for node, (free, used) in enumerate(zip(found.free, found.used, strict=True))
    }
    sections = 16
    memmap = (0, sections * 512 - 7 * found.optimised * len(nodes)) if found.counted else None
    host = Host(
        pools={SIZE: nodes, GIB: {0: NodePool()}},
        sections=sections,
        memmap=memmap,
        reserved=found.reserved,
        release="6.18.44" if found.counted else "6.1.9",
    )
    root = Path(tempfile.mkdtemp(prefix="hvo-", dir="/dev/shm"))
    try:
        tree = Kernel(host, root, found.optimised, found.reverse)
        tree.on_disk = False
        yield tree
    finally:
        shutil.rmtree(root)


def free_pages(tree: Kernel) -> int:
    """Free pages of all nodes that are not reserved."""
    return sum(pool.free for pool in tree.host.pools[SIZE].values()) - tree.host.reserved


def run(tree: Kernel, request: Request, **more: object):
    """Convert."""
    return convert(tree, SIZE, batch=request.batch, keep_free=request.keep_free, hold=tree, **more)


def known_optimised(found: Pools) -> bool:
    """Whether the counters say that nothing is to be done, or nothing is there."""
    return found.counted and (found.optimised == found.free[0] and not any(found.used))


def split(tree: Kernel, request: Request) -> tuple[dict[int, int], dict[str, int]]:
    """How many pages of each node may not be touched, and the figures of a dry run."""
    planned = run(tree, request, dry_run=True).details
    free = {node: len(stack) for node, stack in tree.stacks.items()}
    everything = planned["convertible"] + planned["left_free"]
    if not everything:
        return free, planned
    rest, floors = everything, {}
    for node, pages in free.items():
        mine = min(pages, rest)
        rest -= mine
        kept = -(-planned["keep_free"] * mine // everything)
        floors[node] = pages - max(0, mine - kept)
    return floors, planned


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pools(), REQUESTS)
def test_alone_it_rebuilds_all_but_the_bottom(found: Pools, request: Request):
    """On every node the pages at the bottom are the same ones as before and all others are new;
    as many as asked are free at every moment, and at most a batch is out of the pool. Figures and
    writes are those of the dry run. Together the windows take at most 4/3 pages for each that is
    rebuilt, and a batch a node.
    """
    with simulated(found) as tree:
        before = {node: list(stack) for node, stack in tree.stacks.items()}
        pages = tree.host.pools[SIZE][0].pages
        floors, planned = split(tree, request)
        free, sizes = [free_pages(tree)], [pages]
        tree.on_step.append(lambda: free.append(free_pages(tree)))
        tree.on_step.append(lambda: sizes.append(tree.host.pools[SIZE][0].pages))
        dry, outcome = run(tree, request, dry_run=True), run(tree, request)
        details = outcome.details
        assert outcome.ok, outcome.complaint
        assert min(free) >= min(free[0], planned["keep_free"])
        assert min(sizes) >= pages - planned["batch"]
        if details["optimized"] is None or all(
            page.optimised for stack in before.values() for page in stack[floors[0] :]
        ):
            assert dry.writes == outcome.writes
        for node, stack in tree.stacks.items():
            assert len(stack) == len(before[node])
            assert stack[: floors[node]] == before[node][: floors[node]]
            if outcome.writes and dry.writes == outcome.writes:
                assert all(page.optimised for page in stack[floors[node] :])
                assert not set(stack[floors[node] :]) & set(before[node])
        assert tree.taken <= 4 / 3 * details["rebuilt"] + details["batch"] * len(floors)
        assert (details["taken_meanwhile"], details["freed_meanwhile"]) == (0, 0)
        assert journals.load(tree) is None


class Users:
    """Take and free pages of every node at random moments, never more than was promised to stay
    free.
    """

    def __init__(self, tree: Kernel, share: dict[int, int], seed: int, often: float) -> None:
        self.tree, self.share, self.often = tree, share, often
        self.draw = random.Random(seed)
        self.failed = 0

    def act(self) -> None:
        """Perhaps take or free some, once the conversion has begun."""
        if not self.tree.written or self.draw.random() >= self.often:
            return
        node = self.draw.choice(list(self.share))
        mine = len(self.tree.theirs[node])
        wanted = self.draw.randint(0, self.share[node])
        if wanted > mine:
            if self.tree.pool(node).free < wanted - mine:
                self.failed += 1
            else:
                self.tree.others_take(node, wanted - mine)
        else:
            self.tree.others_free(node, mine - wanted)

    def end(self) -> None:
        """Free all."""
        for node, pages in self.tree.theirs.items():
            self.tree.others_free(node, len(pages))


@settings(max_examples=60, deadline=None)
@given(pools(), REQUESTS, st.integers(0, 1 << 32), st.sampled_from([0.01, 0.1, 0.5]))
def test_others_never_fail_within_what_is_kept_free(
    found: Pools, request: Request, seed: int, often: float
):
    """However they take and free pages between any two steps, there are always enough; the pool has
    its size, and what is not optimised in the end was left or taken, as is said.
    """
    with simulated(found) as tree:
        floors, _ = split(tree, request)
        if found.reserved:
            floors = {node: floor - found.reserved for node, floor in floors.items()}
        sizes = {node: pool.pages for node, pool in tree.host.pools[SIZE].items()}
        users = Users(tree, floors, seed, often)
        tree.on_step.append(users.act)
        outcome = run(tree, request)
        tree.on_step.clear()
        users.end()
        assert users.failed == 0
        assert outcome.ok, outcome.complaint
        assert sizes == {node: pool.pages for node, pool in tree.host.pools[SIZE].items()}
        rest = sum(not page.optimised for stack in tree.stacks.values() for page in stack)
        details = outcome.details
        if found.counted:
            said = sum(details[name] for name in ("left", "left_free", "taken_meanwhile"))
            assert rest <= said, (rest, details)


class Killed(BaseException):
    """The process is gone."""


def kill(tree: Kernel, at: int) -> None:
    """Kill whoever works with `tree` at its step number `at`: from there on nothing happens."""
    steps = iter(range(at))

    def step() -> None:
        if next(steps, None) is None:
            raise Killed

    tree.on_step[:] = [step]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pools(), REQUESTS, st.lists(st.integers(0, 120), max_size=6))
def test_killed_at_any_step_it_is_finished(found: Pools, request: Request, kills: list[int]):
    """However often it is killed, the last `--resume` leaves every page but those at the bottom
    optimised, and the pool whole.
    """
    with simulated(found) as tree:
        before = {node: list(stack) for node, stack in tree.stacks.items()}
        floors, _ = split(tree, request)
        done = False
        for at in [*kills, 1 << 30]:
            kill(tree, at)
            try:
                if journals.load(tree) is None and not done:
                    outcome = run(tree, request)
                else:
                    outcome = resume(tree, hold=tree)
                assert outcome.ok, outcome.complaint
                done = True
            except Killed:
                tree.on_step.clear()
                tree.release()
        for node, stack in tree.stacks.items():
            assert len(stack) == len(before[node])
            if not found.counted:
                assert all(page.optimised for page in stack[floors[node] :])
            assert sum(not page.optimised for page in stack) <= floors[node]
        assert journals.load(tree) is None


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pools(), REQUESTS, st.integers(0, 120))
def test_an_interrupted_one_is_gone_on_with(found: Pools, request: Request, at: int):
    """SIGINT at any step: the pool is whole and no journal is left; the next conversion rebuilds
    exactly the pages that the first one did not.
    """
    with simulated(found._replace(counted=True, optimised=0)) as tree:
        _, planned = split(tree, request)
        steps = iter(range(at))

        def step() -> None:
            if next(steps, None) is None:
                tree.on_step.clear()
                signal.raise_signal(signal.SIGINT)

        tree.on_step[:] = [step]
        born = tree.born
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            run(tree, request)
            return  # it ended before the signal came
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGINT, before)
        tree.on_step.clear()
        assert journals.load(tree) is None
        in_the_middle = tree.exists(progress.path(SIZE))
        outcome = run(tree, request)
        assert outcome.ok, outcome.complaint
        if in_the_middle:
            assert tree.born - born == planned["convertible"]
        assert sum(sum(tree.optimised(node)) for node in tree.stacks) == planned["convertible"]
