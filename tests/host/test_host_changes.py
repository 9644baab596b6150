"""enable, disable, resize and convert against a kernel that refuses, falls short, or is changed by
somebody else in the middle.
"""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from host_simulator import Kernel
from host_trees import GIB, MIB, Host, NodePool

from hvo.cli.main import main
from hvo.errors import HvoError
from hvo.host import journal as journals
from hvo.host import procfs
from hvo.host.beneath import Beneath
from hvo.host.convert import convert, resume, undo
from hvo.host.gate import PERSISTENT, switch
from hvo.host.kernel import GATE
from hvo.host.refill import restore
from hvo.host.resize import resize
from hvo.host.status import read_status
from hvo.layout.deal import deal

SIZE = 2 * MIB
NODE0 = "node0/hugepages/hugepages-2048kB/nr_hugepages"
ALL = "mm/hugepages/hugepages-2048kB/nr_hugepages"


def host(*pools: NodePool, **more: object) -> Host:
    """A host with a pool of 2 MiB pages on each node."""
    return Host(
        pools={SIZE: dict(enumerate(pools)), GIB: {0: NodePool()}},
        sections=16,
        memmap=(0, 16 * 512),
        **more,
    )


def kernel(tmp_path: Path, *pools: NodePool, optimized: int = 0, **more: object) -> Kernel:
    """A simulated kernel, with so many optimised pages on top of each free list."""
    made = host(*pools, **more)
    made.memmap = (0, 16 * 512 - 7 * sum(min(optimized, pool.free) for pool in pools))
    return Kernel(made, tmp_path, optimized)


def state(root: Path) -> dict[str, bytes]:
    """Every file below `root` but the lock's."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def changed(before: dict[str, bytes], root: Path) -> set[str]:
    """Files that are not as they were."""
    after = state(root)
    return {name for name in before | after if before.get(name) != after.get(name)}


# --- the switch


def test_enable_and_disable_are_idempotent(tmp_path):
    """The second time writes nothing; --persist writes one file, whole; disable writes the
    opposite.
    """
    tree = host(NodePool(10, 10), gate=0).write(tmp_path)
    assert [write.path for write in switch(tree, True, persist=True).writes] == [PERSISTENT, GATE]
    assert tree.read(PERSISTENT) == "vm.hugetlb_optimize_vmemmap = 1\n"
    assert (
        sorted([PERSISTENT.rsplit("/", 1)[1], "10-hugepages.conf", "50-default.conf"])[0]
        in PERSISTENT
    )  # sysctl.d(5): by their names
    assert switch(tree, True, persist=True).writes == ()
    assert tree.number(GATE) == 1
    assert switch(tree, False, persist=True).ok
    assert (tree.read(PERSISTENT), tree.number(GATE)) == ("vm.hugetlb_optimize_vmemmap = 0\n", 0)


@pytest.mark.parametrize("end", ["hugetlb_optimize_vmemmap"])
def test_a_refused_switch_leaves_no_file_behind(end, tmp_path):
    """The sysctl cannot be written: what --persist wrote before is gone again, the old file is
    back.
    """
    tree = kernel(tmp_path, NodePool(), gate=0)
    tree.refused[end] = errno.EACCES
    before = state(tmp_path)
    with pytest.raises(HvoError, match="no permission: run as root"):
        switch(tree, True, persist=True)
    assert not changed(before, tmp_path)
    tree.replace(PERSISTENT, "# mine\n")
    before = state(tmp_path)
    with pytest.raises(HvoError):
        switch(tree, True, persist=True)
    assert not changed(before, tmp_path)


def test_a_kernel_without_the_switch_is_refused_with_the_reason(tmp_path):
    """Nothing is written where nothing can be switched."""
    tree = host(NodePool(), gate=None, options=None, release="6.6.1", arch="arm64").write(tmp_path)
    with pytest.raises(HvoError, match="break-before-make"):
        switch(tree, True)
    assert tree.written == []


def boot_tool(root: Path, name: str, status: int) -> Path:
    """A boot loader's tool that notes its arguments."""
    tool = root / "usr/sbin" / name
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text(f'#!/bin/sh\necho "$@" >> {root}/called\nexit {status}\n')
    tool.chmod(0o755)
    return root / "called"


def test_boot_parameter_with_the_tools_that_are_there(tmp_path):
    """grubby is given the parameter, update-grub a snippet; without either the parameter is named
    and nothing is changed.
    """
    tree = host(NodePool(), gate=0).write(tmp_path)
    before = state(tmp_path)
    with pytest.raises(HvoError, match="hugetlb_free_vmemmap=on"):
        switch(tree, True, boot=True)
    assert not changed(before, tmp_path)
    (tmp_path / "etc/default/grub.d").mkdir(parents=True)
    called = boot_tool(tmp_path, "update-grub", 0)
    with pytest.raises(HvoError, match=r"needs to execute /usr/sbin/update-grub.*files only"):
        switch(tree, True, boot=True)
    tree.running = True
    assert switch(tree, True, boot=True, dry_run=True).writes[-1].path == "/usr/sbin/update-grub"
    assert not called.exists()
    assert switch(tree, True, boot=True).ok
    assert "hugetlb_free_vmemmap=on" in tree.read("/etc/default/grub.d/60-hvo.cfg")
    assert called.exists()
    boot_tool(tmp_path, "grubby", 0)
    switch(tree, False, boot=True)
    assert "--args=hugetlb_free_vmemmap=off" in called.read_text()


def test_a_failing_boot_tool_takes_everything_back(tmp_path):
    """The tool fails after the other writes: snippet, sysctl and file are as they were."""
    tree = host(NodePool(), gate=0).write(tmp_path)
    (tmp_path / "etc/default/grub.d").mkdir(parents=True)
    called = boot_tool(tmp_path, "update-grub", 3)
    tree.running = True
    before = state(tmp_path)
    with pytest.raises(HvoError, match="update-grub"):
        switch(tree, True, persist=True, boot=True)
    assert changed(before, tmp_path) == {called.name}


# --- resize


def test_growing_and_shrinking_change_the_counters_exactly(tmp_path):
    """Optimised pages lower the sum by seven each, giving them back raises it; with the switch off
    nothing moves.
    """
    tree = kernel(tmp_path, NodePool())
    measured = [resize(tree, SIZE, count, 0).changes[0] for count in (100, 60)]
    tree._put(GATE, "0")
    measured += [resize(tree, SIZE, count, 0).changes[0] for count in (80, 60)]
    assert [(change.measured, change.holds) for change in measured] == [
        (-700, True),
        (280, True),
        (0, True),
        (0, True),
    ]


def test_a_counter_that_does_not_move_as_predicted_is_found(tmp_path):
    """A kernel that says it optimises and does not: exit 1 with the difference."""
    tree = kernel(tmp_path, NodePool())
    tree.on_write.append(
        lambda _: (tmp_path / "proc/sys/vm/hugetlb_optimize_vmemmap").write_text("0\n")
    )
    outcome = resize(tree, SIZE, 10, 0)
    assert not outcome.ok
    assert "changed by 0, expected -70" in outcome.complaint


@pytest.mark.parametrize(("release", "most"), [("5.15.3", 24), ("6.1.9", 28), ("6.6.1", 32)])
def test_kernels_without_counters_are_checked_by_memtotal(release, most, tmp_path):
    """Before 6.11: MemTotal may rise by the frames from boot, so many KiB a page at most, by whole
    pages; a fall is found to be wrong.
    """
    tree = kernel(tmp_path, NodePool(), release=release)
    tree.host.memmap = None
    tree._flush(0)
    if release == "5.15.3":  # two pages are kept; it had no switch, and optimised by boot parameter
        options = "".join(
            f"CONFIG_{name}=y\n" for name in ("HUGETLB_PAGE", "HUGETLB_PAGE_FREE_VMEMMAP")
        )
        (tmp_path / "proc/config.gz").write_bytes(gzip.compress(options.encode()))
        (tmp_path / "proc/cmdline").write_text("hugetlb_free_vmemmap=on\n")
        tree.exists = lambda name: name != GATE and Kernel.exists(tree, name)
    cases = (
        (100, 100 * most, True),
        (150, 50 * most - 1, False),
        (200, 50 * most + 4, False),
        (250, -4, False),
        (300, 50 * most, True),
        (400, 1200, True),
        (500, 0, True),
    )
    for count, kib, fits in cases:
        total = procfs.table(tree.read("/proc/meminfo"))["MemTotal"] // 1024 + kib
        tree.on_write[:] = [lambda _, total=total: setattr(tree.host, "mem_total", total)]
        change = resize(tree, SIZE, count, 0).changes[0]
        assert (change.counter, change.measured, change.holds) == ("MemTotal", kib * 1024, fits)


def test_dry_run_writes_nothing_and_predicts(tmp_path):
    """The write and the change are told; no file changes."""
    tree = kernel(tmp_path, NodePool(10, 10), optimized=10)
    before = state(tmp_path)
    for outcome in (
        resize(tree, SIZE, 40, 0, dry_run=True),
        resize(tree, SIZE, 4, 0, dry_run=True),
        switch(tree, False, dry_run=True),
    ):
        assert outcome.dry_run
        assert len(outcome.writes) == 1
    assert resize(tree, SIZE, 4, 0, dry_run=True).changes[0].low == 6 * 7
    assert not changed(before, tmp_path)


def test_an_interrupted_resize_says_how_far_it_came(number, tmp_path):
    """The kernel stops at Ctrl-C with 30 of 50 pages: exit 1 and how many there are, no further
    attempt; one that is complete is fine.
    """
    tree = kernel(tmp_path, NodePool(4, 4))
    tree.on_write.append(lambda _: signal.raise_signal(number))
    assert resize(tree, SIZE, 5, 0).ok
    tree.room = 25
    outcome = resize(tree, SIZE, 50, 0, retries=3)
    assert outcome.complaint == "interrupted at 30 of 50 pages of 2MiB; it had 5"
    assert (tree.pool_writes, outcome.changes[0].measured) == (2, -25 * 7)


def test_a_shortfall_is_reported_after_the_retries(tmp_path):
    """The allocator has 30 pages: exit 1 says how many are missing; a retry compacts memory and
    asks again.
    """
    tree = kernel(tmp_path, NodePool())
    tree.room = 30
    assert "30 of 50 pages of 2MiB" in resize(tree, SIZE, 50, 0, retries=2).problem
    assert tree.pool_writes == 3
    assert tree.read("/proc/sys/vm/compact_memory") == "1\n"


def test_pages_that_cannot_be_restored_stay_as_surplus_and_a_retry_gets_them(tmp_path):
    """Frames for 4 of 10 pages: 6 stay as surplus, exit 1. Setting the same size again tries them
    again, once the frames are there.
    """
    tree = kernel(tmp_path, NodePool(20, 20), optimized=20)
    tree.frames = 4 * 7
    outcome = resize(tree, SIZE, 10, 0, force=True)
    assert "6 pages of 2MiB stayed as surplus" in outcome.complaint
    assert (outcome.changes[0].measured, tree.pool()) == (4 * 7, NodePool(16, 16, 6))
    assert "6 pages of 2MiB stayed as surplus" in resize(tree, SIZE, 10, retries=2).complaint
    dry = resize(tree, SIZE, 10, dry_run=True)
    assert ([write.value for write in dry.writes], dry.changes[0].low) == (["16", "10"], 6 * 7)
    tree.frames = 100
    outcome = resize(tree, SIZE, 10, 0)
    assert outcome.ok, outcome.complaint
    assert (
        tree.pool(),
        [write.value for write in outcome.writes],
        outcome.changes[0].measured,
    ) == (NodePool(10, 10), ["16", "10"], 42)


@pytest.mark.parametrize(
    ("pool", "count", "change", "absorbed"),
    [
        (
            NodePool(14, 0, 4),
            12,
            0,
            2,
        ),  # two of the surplus pages become part of it, none is allocated
        (NodePool(14, 0, 4), 20, -6 * 7, 4),
        (NodePool(14, 4), 12, 2 * 7, 0),
        (NodePool(14, 6, 4), 9, 5 * 7, 0),
        (NodePool(14, 4, 6), 8, 4 * 7, 0),  # ten are in use, two of them surplus afterwards
    ],
)
def test_what_a_dry_run_predicts_comes_true(pool, count, change, absorbed, tmp_path):
    """Surplus pages are in the pool already: the change that is predicted, and what is written, is
    then measured and done.
    """
    tree = kernel(tmp_path, pool, optimized=pool.free)
    tree.host.memmap = (0, 16 * 512 - 7 * pool.pages)  # those in use are optimised too
    tree._flush(0)
    planned, done = resize(tree, SIZE, count, 0, dry_run=True), resize(tree, SIZE, count, 0)
    assert done.ok, done.complaint
    assert (planned.writes, planned.changes[0].low, planned.changes[0].high) == (
        done.writes,
        change,
        change,
    )
    told = [note.split()[0] for note in done.notes if "before the kernel allocates any" in note]
    assert told == [str(absorbed)] * bool(absorbed)
    assert done.changes[0].measured == change


def test_surplus_pages_in_use_are_left_alone(tmp_path):
    """7 in use, 6 of 10 surplus, so that 3 free ones are stuck: they go, the others stay until
    their users end; below 4 is refused.
    """
    tree = kernel(tmp_path, NodePool(10, 3, 6))
    assert resize(tree, SIZE, 4, 0).ok
    assert tree.pool() == NodePool(7, 0, 3)
    assert resize(tree, SIZE, 4, 0).writes == ()
    with pytest.raises(HvoError, match="expected at least 4"):
        resize(tree, SIZE, 3, 0)


@pytest.mark.parametrize(
    ("count", "reserved", "fits"), [(40, 0, True), (39, 0, False), (40, 5, False), (45, 5, True)]
)
def test_never_below_what_is_in_use_or_reserved(count, reserved, fits, tmp_path):
    """40 of 100 pages are in use: that many and the reserved ones stay, whatever --force says."""
    tree = kernel(tmp_path, NodePool(100, 60), reserved=reserved)
    if fits:
        assert resize(tree, SIZE, count, 0).ok
    else:
        with pytest.raises(HvoError, match=f"expected at least {40 + reserved}"):
            resize(tree, SIZE, count, 0, force=True)
        assert tree.pool_writes == 0


def test_headroom_is_predicted_and_refused(tmp_path):
    """100 optimised pages need 700 frames to be given back; 500 are free above the watermark:
    refused, unless forced or in steps.
    """
    tree = kernel(tmp_path, NodePool(100, 100), optimized=100, free_pages=700)
    with pytest.raises(
        HvoError,
        match=r"node 0: giving 100 pages back may need 2800KiB .* 2000KiB are free outside movable",
    ):
        resize(tree, SIZE, 0, 0)
    assert tree.pool_writes == 0
    assert resize(tree, SIZE, 50, 0).ok
    assert resize(tree, SIZE, 0, 0, force=True).ok


def test_pages_that_are_not_optimised_need_no_headroom(tmp_path):
    """The counters say that none is optimised: nothing has to be allocated."""
    tree = kernel(tmp_path, NodePool(100, 100), free_pages=200)
    assert resize(tree, SIZE, 0, 0).ok


def test_more_than_is_available_is_refused(tmp_path):
    """Growing past MemAvailable would push the host into reclaim."""
    tree = kernel(tmp_path, NodePool(), free_pages=1000)
    with pytest.raises(HvoError, match="are available; --force"):
        resize(tree, SIZE, 3, 0)


def test_pages_leave_nodes_in_turn():
    """The kernel takes one page from each node in turn while it has any."""
    assert deal({0: 10, 1: 2}, 6) == {0: 4, 1: 2}
    assert deal({0: 3, 1: 3}, 3) == {0: 2, 1: 1}
    assert deal({0: 1}, 5) == {0: 1}


def test_known_defect_refuses_what_gives_pages_back(tmp_path):
    """On 6.12.117 a smaller pool and a conversion need --force; a larger pool does not, nor does
    one with nothing optimised.
    """
    tree = kernel(tmp_path, NodePool(20, 20), optimized=5, release="6.12.117")
    for call in (lambda: resize(tree, SIZE, 10, 0), lambda: convert(tree, SIZE, hold=tree)):
        with pytest.raises(HvoError, match=r"H19.*--force"):
            call()
    assert tree.pool_writes == 0
    assert resize(tree, SIZE, 30, 0).ok
    forced = resize(tree, SIZE, 10, 0, force=True)
    assert forced.ok
    assert (
        forced.notes[0]
        == "known defect H19: up to 15 optimised pages of 2MiB are given back and lost, 30MiB"
    )
    dry = convert(
        kernel(tmp_path / "half", NodePool(20, 20), optimized=5, release="6.12.117"),
        SIZE,
        force=True,
        keep_free=0,
        dry_run=True,
    )
    assert dry.notes == (
        "known defect H19: up to 5 optimised pages of 2MiB are given back and lost, 10MiB",
    )


# --- convert


def test_a_pool_becomes_optimised_batch_by_batch(tmp_path):
    """Every free page is rebuilt, never more than a batch is out, the ones in use are left, the sum
    falls by seven a page.
    """
    tree = kernel(tmp_path, NodePool(100, 70))
    least = []
    tree.on_write.append(lambda _: least.append(tree.pool().pages))
    outcome = convert(tree, SIZE, batch=16, keep_free=0, hold=tree)
    assert outcome.ok
    assert (outcome.details["optimized"], outcome.changes[0].measured) == (70, -490)
    assert min(least) == 100 - 16
    assert (tree.pool(), tree.optimised(), tree.held) == (NodePool(100, 70), [True] * 70, [])
    assert "30 pages are in use" in outcome.notes[0]
    assert not (tmp_path / "run/hvo/convert.json").exists()


class Pretended:
    """Says that it holds pages, and does not."""

    def __init__(self) -> None:
        self.pages = 0

    def begin(self, size: int, most: int, node: int | None) -> None: ...

    def take(self, pages: int) -> None:
        self.pages += pages

    def give(self, pages: int) -> None:
        self.pages -= pages

    def release(self) -> None:
        self.pages = 0


class Limited:
    """Holds pages of a simulated kernel until something happens."""

    def __init__(self, tree: Kernel, most: int, happen: Callable[[], None] = lambda: None) -> None:
        self.tree, self.most, self.happen = tree, most, happen
        self.begin, self.give, self.release = tree.begin, tree.give, tree.release

    @property
    def pages(self) -> int:
        return self.tree.pages

    def take(self, pages: int) -> None:
        if self.pages + pages > self.most:
            self.happen()
            raise HvoError("cannot hold")
        self.tree.take(pages)


def test_without_holding_the_same_pages_would_come_again(tmp_path):
    """Why rebuilt pages are held: a free list is a stack. The counters tell, and it says so."""
    tree = kernel(tmp_path, NodePool(40, 40))
    outcome = convert(tree, SIZE, batch=10, keep_free=0, hold=Pretended())
    assert (outcome.details["optimized"], outcome.details["left_free"]) == (10, 30)


def test_pages_that_cannot_be_held_stop_it(tmp_path):
    """A cgroup limit, say: an error, and the pool is whole, with what was converted until then."""
    tree = kernel(tmp_path, NodePool(40, 40))
    with pytest.raises(HvoError, match="cannot hold"):
        convert(tree, SIZE, batch=10, keep_free=0, hold=Limited(tree, 20))
    assert (tree.pool(), sum(tree.optimised()), journals.load(tree)) == (
        NodePool(40, 40),
        10,
        None,
    )


def test_reserved_pages_are_left_alone(tmp_path):
    """60 are free, 20 of them promised: 40 are rebuilt."""
    tree = kernel(tmp_path, NodePool(100, 60), reserved=20)
    assert convert(tree, SIZE, batch=16, keep_free=0, hold=tree).details["rebuilt"] == 40


def test_each_node_on_its_own(tmp_path):
    """Both nodes are converted by their own files, or only the one that is asked for."""
    tree = kernel(tmp_path, NodePool(20, 20), NodePool(30, 10))
    assert convert(tree, SIZE, 1, batch=4, keep_free=0, hold=tree).ok
    assert (sum(tree.optimised()), sum(tree.optimised(1))) == (0, 10)
    outcome = convert(tree, SIZE, batch=8, keep_free=0, hold=tree)
    assert outcome.ok
    assert {write.path.split("/")[5] for write in outcome.writes} == {"node0"} | {"node1"}
    assert (sum(tree.optimised()), sum(tree.optimised(1))) == (20, 10)


def test_an_optimised_pool_is_not_touched(tmp_path):
    """Nothing to do is found out from the counters."""
    tree = kernel(tmp_path, NodePool(50, 50), optimized=50)
    outcome = convert(tree, SIZE, hold=tree)
    assert outcome.ok
    assert tree.pool_writes == 0
    assert "optimised already" in outcome.notes[0]


@pytest.mark.parametrize(
    ("pools", "more", "size", "match"),
    [
        ([NodePool(10, 10)], {"gate": 0}, SIZE, "hvo enable first"),
        ([NodePool(10, 10, 3)], {}, SIZE, "3 pages are surplus"),
        ([NodePool(10, 10)], {}, GIB, "--gigantic"),
        ([NodePool(10, 10)], {}, 3 * MIB, "this kernel has 2MiB, 1GiB"),
    ],
)
def test_what_must_not_be_converted(pools, more, size, match, tmp_path):
    """Refused before anything is written."""
    tree = kernel(tmp_path, *pools, **more)
    with pytest.raises(HvoError, match=match):
        convert(tree, size, hold=tree)
    assert tree.written == []


def test_a_batch_that_cannot_be_filled_again_stops(tmp_path):
    """Somebody takes 5 of the pages that are out: it stops, says what is missing, and --undo
    completes the pool once memory is back.
    """
    tree = kernel(tmp_path, NodePool(40, 40))
    tree.room = 0
    tree.on_write.append(
        lambda number: setattr(tree, "room", tree.room - 5) if number == 4 else None
    )
    outcome = convert(tree, SIZE, batch=10, keep_free=0, hold=tree)
    assert "5 of 40 pages of 2MiB are missing" in outcome.complaint
    assert (tree.pool(), tree.held) == (NodePool(35, 35), [])
    for call in (lambda: convert(tree, SIZE, hold=tree), lambda: resize(tree, SIZE, 10)):
        with pytest.raises(HvoError, match="--resume"):
            call()
    assert read_status(tree).advice[0].command == "hvo convert --resume"
    assert "missing" in undo(tree).problem
    tree.room = 5
    assert undo(tree).ok
    assert tree.pool() == NodePool(40, 40)
    assert journals.load(tree) is None


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that ends programs, also where these tests run in the background or below nohup,
    which ignore some.
    """
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def short_of(tree: Kernel, pages: int, at: int, more) -> None:
    """A kernel that has only the pages which are out, and loses some of them at a write; then
    `more` happens as well.
    """
    tree.room = 0

    def happen(number: int) -> None:
        if number == at:
            tree.room -= pages
            more()

    tree.on_write.append(happen)


def test_an_interrupt_does_not_hide_that_pages_are_missing(number, tmp_path):
    """Ctrl-C, or a terminal that goes, while the pool cannot be filled: no mere "interrupted", the
    line says what is missing.
    """
    tree = kernel(tmp_path, NodePool(40, 40))
    short_of(tree, 5, 4, lambda: signal.raise_signal(number))
    outcome = convert(tree, SIZE, batch=10, keep_free=0, hold=tree)
    assert outcome.complaint.startswith(
        "interrupted; 5 of 40 pages of 2MiB are missing: hvo convert --undo"
    )
    assert journals.load(tree) is not None


def test_an_interrupt_ends_it_after_the_batch(number, tmp_path):
    """The pool is whole, no journal is left, and the signal means again what it did before; one
    that is ignored (nohup) is not heeded.
    """
    tree = kernel(tmp_path, NodePool(40, 40))
    before = signal.getsignal(number)
    tree.on_write.append(lambda write: signal.raise_signal(number) if write == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        convert(tree, SIZE, batch=10, keep_free=0, hold=tree)
    assert (tree.pool(), sum(tree.optimised()), journals.load(tree), signal.getsignal(number)) == (
        NodePool(40, 40),
        20,
        None,
        before,
    )
    signal.signal(number, signal.SIG_IGN)
    tree.pool_writes = 0
    assert convert(tree, SIZE, batch=10, keep_free=0, hold=tree).ok


def test_a_failure_does_not_hide_what_became_of_the_pool(tmp_path):
    """Converted pages cannot be held, and somebody has set the pool: the error says both."""
    tree = kernel(tmp_path, NodePool(40, 40))

    with pytest.raises(HvoError, match=r"^cannot hold; .*somebody else set it from 40 to 35"):
        convert(
            tree, SIZE, batch=10, keep_free=0, hold=Limited(tree, 0, lambda: tree.set_pool(0, 35))
        )


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("pages", [0, 7, 200])
def test_somebody_else_sets_the_pool_in_the_middle(at, pages, tmp_path):
    """At any write: the conversion stops or is overtaken, says so, holds nothing, and leaves no
    journal.
    """
    tree = kernel(tmp_path, NodePool(40, 40))
    tree.on_write.append(lambda number: tree.set_pool(0, pages) if number == at else None)
    outcome = convert(tree, SIZE, batch=10, keep_free=0, hold=tree)
    overwritten = outcome.ok  # our own write came right after: the pool is as promised
    if not overwritten:
        assert "somebody else set it" in outcome.complaint or "expected" in outcome.complaint
    assert tree.held == []
    assert tree.pool().pages in ((40,) if overwritten else (pages, 40))
    assert journals.load(tree) is None


@pytest.mark.parametrize("at", range(1, 8))
def test_a_refused_write_leaves_the_pool_as_it_was(at, tmp_path):
    """From some write on the kernel refuses, then allows again: --undo finds the pool whole or
    makes it so.
    """
    tree = kernel(tmp_path, NodePool(40, 40))
    tree.on_write.append(
        lambda number: tree.refused.update({NODE0: errno.EINVAL}) if number == at else None
    )
    with pytest.raises(HvoError, match="the kernel refuses the value"):
        convert(tree, SIZE, batch=10, keep_free=0, hold=tree)
    assert tree.held == []
    tree.refused.clear()
    tree.on_write.clear()
    assert undo(tree).ok
    assert tree.pool() == NodePool(40, 40)
    assert resume(tree, hold=tree).notes == ("nothing was interrupted",)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("end", [NODE0, "convert.json"])
def test_no_permission_and_read_only(number, end, tmp_path, monkeypatch):
    """The very first write is refused: one line, nothing changed, nothing left to undo."""
    tree = kernel(tmp_path, NodePool(40, 40))
    tree.refused[end] = number
    if end == "convert.json":
        monkeypatch.setattr(
            Beneath, "replace", lambda *_, **__: (_ for _ in ()).throw(OSError(number, "refused"))
        )
    before = state(tmp_path)
    with pytest.raises(HvoError, match=r"no permission|read-only filesystem"):
        convert(tree, SIZE, batch=10, keep_free=0, hold=tree)
    assert tree.pool() == NodePool(40, 40)
    monkeypatch.undo()
    tree.refused.clear()
    assert undo(tree).ok
    assert {name for name in changed(before, tmp_path) if "/.convert" not in name} == set()


def test_resume_finishes_what_was_killed(tmp_path):
    """A journal says that 10 pages are out: they come back first, then the rest is converted."""
    tree = kernel(tmp_path, NodePool(40, 40))
    journal = journals.Journal(
        SIZE, (journals.Promise(0, 40, 0),), gigantic=False, force=False, batch=10, keep_free=0
    )
    journal.with_out(0, 10).save(tree)
    tree.set_pool(0, 33)
    assert resume(tree, hold=tree).ok
    assert (tree.pool(), tree.optimised()) == (NodePool(40, 40), [True] * 40)


def test_a_journal_is_not_trusted_blindly(tmp_path):
    """One of another boot is nothing; a pool beyond what it allows is somebody else's; a damaged
    one is an error.
    """
    tree = kernel(tmp_path, NodePool(40, 40))
    journal = journals.Journal(
        SIZE, (journals.Promise(0, 60, 10),), gigantic=False, force=False, batch=10, keep_free=0
    )
    journal.save(tree)
    assert "somebody else set it from 60 to 40" in restore(tree, journal)
    assert tree.pool() == NodePool(40, 40)
    journal.save(tree)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("b1\n")
    assert journals.load(tree) is None
    (tmp_path / "run/hvo/convert.json").write_text("[]")
    with pytest.raises(HvoError, match="expected the journal"):
        undo(tree)


def test_a_resize_that_is_refused_half_way_says_what_it_did(tmp_path):
    """The first attempt falls short, and compacting is refused: the pool has grown, so it is 1 with
    both, not 2.
    """
    tree = kernel(tmp_path, NodePool(10, 10))
    tree.room, tree.refused["compact_memory"] = 5, errno.EACCES
    outcome = resize(tree, SIZE, 20, 0, retries=1)
    assert (outcome.ok, outcome.details["pages"], len(outcome.writes)) == (False, 15, 1)
    assert "compact_memory: no permission" in outcome.problem
    tree.refused[NODE0] = errno.EACCES
    with pytest.raises(HvoError, match="no permission"):  # and 2 where nothing has changed
        resize(tree, SIZE, 20, 0, retries=1)


def test_two_at_once_are_refused(tmp_path):
    """The lock is held while pools change."""
    tree = kernel(tmp_path, NodePool(40, 40))
    with tree.lock(journals.LOCK), pytest.raises(HvoError, match="another hvo"):
        resize(tree, SIZE, 50, 0)
    assert resize(tree, SIZE, 50, 0).ok


def test_a_node_keeps_its_share_and_the_rest_is_named(tmp_path):
    """100 of 400 free pages stay free, 3 of 4 of them on the node that has 3 of 4; the note names
    the command that takes them too, and afterwards it leaves none.
    """
    tree = kernel(tmp_path, NodePool(320, 300), NodePool(100, 100))
    dry = convert(tree, SIZE, batch=20, keep_free=100, dry_run=True, hold=tree)
    outcome = convert(tree, SIZE, batch=20, keep_free=100, hold=tree)
    assert outcome.ok, outcome.complaint
    assert (dry.writes, dry.notes) == (outcome.writes, outcome.notes)
    assert [tree.optimised(node).count(False) for node in (0, 1)] == [75, 25]
    assert (outcome.details["rebuilt"], outcome.details["left_free"]) == (300, 100)
    command = "hvo convert --size 2MiB --keep-free 0"
    assert f"100 stay free: {command} takes them too" in outcome.notes[-1]
    assert [each.command for each in read_status(tree).advice] == [command]
    assert convert(tree, SIZE, keep_free=0, hold=tree).details["left_free"] == 0
    assert sum(tree.optimised(0)) + sum(tree.optimised(1)) == 400
    assert [each.command for each in read_status(tree).advice] == [None]


# --- the commands


def run(tmp_path: Path, *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `hvo`."""
    result = CliRunner().invoke(main, [*words, "--root", str(tmp_path)])
    return result.exit_code, result.stdout, result.stderr


def test_commands_on_a_plain_tree(tmp_path):
    """Files that answer to nothing: a resize is found not to have happened (1), a refusal is 2,
    each with one line.
    """
    host(NodePool(10, 6)).write(tmp_path)
    status, out, err = run(tmp_path, "resize", "2MiB=20", "--json")
    assert status == 1
    assert set(json.loads(out)) >= {
        "command",
        "dry_run",
        "ok",
        "problem",
        "writes",
        "changes",
        "notes",
        "pages",
        "asked",
    }
    assert err.count("\n") == 1
    assert "Traceback" not in err
    host(NodePool(10, 6)).write(tmp_path)
    taken_up = (
        ["--resume", "--undo"],
        ["--undo", "--node", "0"],
        ["--resume", "--size", "1G"],
        ["--resume", "--force"],
        ["--undo", "--keep-free", "0"],
        ["--keep-free", "-1"],
    )
    resizes = (["resize", "2MiB=1"], ["resize", "2MiB"], ["resize", "2MiB=5", "--node", "9"])
    for words in (*resizes, *(["convert", *words] for words in taken_up)):
        status, out, err = run(tmp_path, *words)
        assert (status, out, err.count("\n")) == (2, "", 1), (words, err)
    assert run(tmp_path, "disable", "--dry-run")[0] == 0
    assert run(tmp_path, "enable")[0] == 0
    assert run(tmp_path, "convert", "--undo")[0] == 0
    assert run(tmp_path, "convert", "--dry-run")[0] == 0


def test_somebody_without_privileges(tmp_path):
    """Reading needs no root; changing is one line and 2. Really run as another user, where that can
    be done.
    """
    tree = tmp_path
    host(NodePool(10, 6), gate=0).write(tree)
    for parent in (tree, *tree.rglob("*")):
        parent.chmod(0o755 if parent.is_dir() else 0o644)
    words = (
        "cli.main",
        "cli.status",
        "cli.enable",
        "cli.resize",
        "host.status",
        "host.gate",
        "host.resize",
    )
    words += ("report.status", "report.host")
    load = ", ".join(
        f"hvo.{word}" for word in words
    )  # before the change: the new user may not be able to read Python itself
    code = (
        f"import encodings.idna, os, sys, {load}; os.setgroups([]); os.setgid(65534);"
        " os.setuid(65534); hvo.cli.main.main()"
    )
    if os.geteuid():
        pytest.skip("only root can become another user")
    results = {
        words: subprocess.run(
            [sys.executable, "-c", code, *words, "--root", tree], capture_output=True, text=True
        )
        for words in (("status",), ("enable",), ("enable", "--persist"), ("resize", "2MiB=20"))
    }
    assert [done.returncode for done in results.values()] == [0, 2, 2, 2]
    assert all(
        done.stderr.count("\n") == 1 and "no permission" in done.stderr
        for words, done in results.items()
        if words != ("status",)
    )
