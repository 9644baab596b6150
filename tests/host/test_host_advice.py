"""What `hvo status` advises: the exact command where one helps, nothing that another command
refuses, and nothing that was done already.
"""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from host_simulator import Kernel, Page
from host_trees import GIB, MIB, Host, NodePool

from hvo.errors import HvoError
from hvo.host.advice import Advice
from hvo.host.convert import convert
from hvo.host.journal import JOURNAL, LOCK, Journal, Promise
from hvo.host.kernel import GATE
from hvo.host.resize import resize
from hvo.host.status import read_status

SIZE = 2 * MIB
CONVERT = "hvo convert --size 2MiB"
SAVED = 28672
NOTE = "run/hvo/converted-2048kB.json"


def kernel(tmp_path, pool: NodePool, optimized: int = 0, **more: object) -> Kernel:
    """A simulated kernel with one pool, whose last `optimized` free pages are optimised."""
    given = {"memmap": (0, 16 * 512 - 7 * optimized)} | more
    return Kernel(
        Host(pools={SIZE: {0: pool}, GIB: {0: NodePool()}}, sections=16, **given),
        tmp_path,
        optimized,
    )


def advice(tree: Kernel) -> list[Advice]:
    """What status advises."""
    return list(read_status(tree).advice)


def commands(tree: Kernel) -> list[str | None]:
    """The commands of it."""
    return [each.command for each in advice(tree)]


@pytest.mark.parametrize(
    ("free", "reserved", "optimized", "text", "gain"),
    [
        (70, 0, 0, "rebuild 70 free pages", 70),  # none is optimised, so no free one is
        (70, 10, 0, "rebuild 60 free pages", 60),
        (
            100,
            0,
            20,
            "rebuild 80 free pages",
            80,
        ),  # none is in use, so all that are not optimised are free
        (
            70,
            0,
            20,
            "rebuild 50 to 70 free pages",
            70,
        ),  # 80 are not optimised, 30 in use: those, or not
        (20, 0, 30, "rebuild up to 20 free pages", 20),
    ],
)
def test_how_many_free_pages_can_be_rebuilt(free, reserved, optimized, text, gain, tmp_path):
    """100 pages: a number where the counters leave only one, else at least and at most; the gain is
    the most.
    """
    tree = kernel(
        tmp_path, NodePool(100, free), reserved=reserved, memmap=(0, 16 * 512 - 7 * optimized)
    )
    (rebuild,) = [each for each in advice(tree) if each.command == CONVERT]
    assert (rebuild.text.startswith(f"{text} of 2MiB"), rebuild.gain) == (True, gain * SAVED), (
        rebuild
    )


@pytest.mark.parametrize(("counted", "number"), [(True, "30"), (False, "up to 100")])
def test_after_a_conversion_only_later_work_is_left(counted, number, tmp_path):
    """30 pages in use could not be rebuilt: no command is advised until one of them is free, then
    converting is advised again.
    """
    tree = kernel(tmp_path, NodePool(100, 70), **({} if counted else {"memmap": None}))
    assert commands(tree)[0] == CONVERT
    assert convert(tree, SIZE, batch=16, keep_free=0, hold=tree).ok
    (left,) = advice(tree)
    assert (left.command, left.text.startswith(f"{number} pages of 2MiB are not optimised")) == (
        None,
        True,
    ), left
    tree.others_take(0, 5)  # somebody starts: no fewer pages are in use
    assert commands(tree) == [None]
    tree.others_free(0, 5)
    tree.stacks[0].insert(0, Page(0, False))  # one of the 30 ends
    tree.pool().free += 1
    tree._flush(0)
    assert commands(tree)[0] == CONVERT


def test_reserved_pages_are_later_work_too(tmp_path):
    """5 free pages are promised: they are left with the 10 in use, and not advised to be rebuilt
    over and over.
    """
    tree = kernel(tmp_path, NodePool(64, 54), reserved=5)
    assert convert(tree, SIZE, keep_free=0, hold=tree).details["optimized"] == 49
    (left,) = advice(tree)
    assert (left.command, left.gain) == (None, 15 * SAVED)


def test_the_note_of_a_conversion_is_not_trusted_blindly(tmp_path):
    """One of another boot, a damaged one, one of another size of the pool, or more pages missing
    than it says: the bound is back.
    """
    tree = kernel(tmp_path, NodePool(100, 70))
    convert(tree, SIZE, keep_free=0, hold=tree)
    whole = (tmp_path / NOTE).read_text()
    said = json.loads(whole)
    assert (said["pages"], said["busy"], said["missing"]) == (100, 30, 30)
    for text in (
        "[]",
        "{",
        '{"pages": 3}',
        json.dumps(said | {"boot_id": "b9"}),
        json.dumps(said | {"pages": 99, "missing": 30}),
        json.dumps(said | {"missing": 29}),
    ):
        (tmp_path / NOTE).write_text(text)
        assert commands(tree)[0] == CONVERT, text
    (tmp_path / NOTE).write_text(whole)
    assert commands(tree) == [None]


def test_only_a_whole_conversion_leaves_a_note(tmp_path):
    """One that stopped, one of a node among two, one during which a user ended: none."""
    tree = kernel(tmp_path / "stopped", NodePool(40, 40))
    tree.room = 0
    tree.on_write.append(
        lambda number: setattr(tree, "room", tree.room - 5) if number == 4 else None
    )
    assert not convert(tree, SIZE, batch=10, keep_free=0, hold=tree).ok
    assert not (tmp_path / "stopped" / NOTE).exists()
    two = Kernel(Host(pools={SIZE: {0: NodePool(9, 9), 1: NodePool(9, 9)}}), tmp_path / "two")
    assert convert(two, SIZE, 1, keep_free=0, hold=two).ok
    assert not (tmp_path / "two" / NOTE).exists()
    tree = kernel(tmp_path / "ended", NodePool(40, 30))

    def end(number: int) -> None:
        if number == 3:
            tree.stacks[0].append(Page(0, False))
            tree.pool().free += 1

    tree.on_write.append(end)
    convert(tree, SIZE, batch=10, keep_free=0, hold=tree)
    assert not (tmp_path / "ended" / NOTE).exists()
    tree.on_write.clear()
    convert(tree, SIZE, keep_free=0, hold=tree)
    assert (tmp_path / "ended" / NOTE).exists()


@pytest.mark.parametrize(
    ("gate", "counts", "lasts"), [(1, (50, 120), True), (0, (50,), True), (0, (50, 100), False)]
)
def test_a_resize_keeps_what_a_conversion_noted_unless_it_brings_other_pages(
    gate, counts, lasts, tmp_path
):
    """Optimised free pages come and go: the 30 in use are later work still. Pages allocated with
    the switch off make the note void.
    """
    tree = kernel(tmp_path, NodePool(100, 70))
    convert(tree, SIZE, keep_free=0, hold=tree)
    tree._put(GATE, str(gate))
    for count in counts:
        outcome = resize(tree, SIZE, count, 0)
        assert (outcome.ok, len(outcome.writes)) == (True, 1)
    tree._put(GATE, "1")
    assert (commands(tree)[0], (tmp_path / NOTE).exists()) == (None if lasts else CONVERT, lasts)


def test_stuck_surplus_pages_and_the_command_that_frees_them(tmp_path):
    """Frames were short when 6 pages were to go: first of all advice, worth the pages themselves;
    its command gives them back.
    """
    tree = kernel(tmp_path, NodePool(20, 20), optimized=20)
    tree.frames = 4 * 7
    resize(tree, SIZE, 10)
    (first,) = advice(tree)
    assert (
        first.command,
        first.gain,
        first.text.startswith("6 surplus pages of 2MiB are used by nobody"),
    ) == ("hvo resize 2MiB=10", 6 * SIZE, True)
    tree.frames = None
    assert resize(tree, SIZE, int(first.command.split("=")[1])).ok
    assert advice(tree) == []


def test_surplus_pages_in_use_need_no_command(tmp_path):
    """Somebody set the pool below what is in use: they go by themselves. Promised ones are not
    stuck either.
    """
    (only,) = advice(kernel(tmp_path / "used", NodePool(10, 0, 6), memmap=(0, 16 * 512 - 70)))
    assert (only.command, "6 pages of 2MiB are surplus and in use" in only.text) == (None, True)
    (only,) = advice(
        kernel(tmp_path / "promised", NodePool(10, 6, 6), memmap=(0, 16 * 512 - 70), reserved=6)
    )
    assert only.command is None


def test_nothing_is_advised_that_is_refused(tmp_path):
    """A kernel with a known defect: off, so that no more pages are lost; no resize for stuck ones.
    5.15: no command switches it.
    """
    tree = kernel(tmp_path / "defect", NodePool(20, 10, 6), release="6.12.117")
    assert commands(tree) == [None, "hvo disable --persist", None]
    old = Host(
        gate=None,
        release="5.15.3",
        options=("HUGETLB_PAGE", "HUGETLB_PAGE_FREE_VMEMMAP"),
        memmap=None,
        cmdline="hugepages=4",
    )
    old.pools = {SIZE: {0: NodePool()}, GIB: {0: NodePool(4, 4)}}
    assert [each.command for each in read_status(old.write(tmp_path / "old")).advice] == [None]


@pytest.mark.parametrize(
    ("cmdline", "told"),
    [
        ("hugepagesz=1G hugepages=4", True),
        ("hugepagesz=1G hugepages=0:2,1:2", True),
        ("hugepagesz=1G hugepages=4 hugetlb_free_vmemmap=on", False),
        ("quiet", False),  # they were taken since, so the boot command line has no part in it
    ],
)
def test_the_boot_command_line_is_advised_where_it_reserves_pages(cmdline, told, tmp_path):
    """Gigantic pages from boot that are not optimised: the parameter makes the next ones so."""
    host = Host(pools={SIZE: {0: NodePool()}, GIB: {0: NodePool(4, 4)}}, cmdline=cmdline)
    advice = read_status(host.write(tmp_path)).advice
    found = [each.command for each in advice if each.command]  # H15 is told, and has none
    assert found == ["hvo enable --boot"] * told + ["hvo convert --size 1GiB --gigantic"]


def test_a_running_conversion_is_not_an_interrupted_one(tmp_path):
    """While somebody holds the lock, by the kernel's `/proc/locks`, nothing is to be resumed;
    another command is told to wait.
    """
    tree = kernel(tmp_path, NodePool(20, 20))
    Journal(SIZE, (Promise(0, 20, 4),), gigantic=False, force=False, batch=4).save(tree)
    for held in (False, True, False):
        with tree.lock(LOCK) if held else nullcontext():
            (tmp_path / "proc/locks").write_text(Path("/proc/locks").read_text())
        first = read_status(tree).advice[0]
        assert (first.command, "is running" in first.text) == (
            None if held else "hvo convert --resume",
            held,
        )
        with pytest.raises(HvoError, match="wait until it has finished" if held else "--undo"):
            resize(tree, SIZE, 10)


@pytest.mark.parametrize(
    ("counted", "readable", "told"),
    [(False, True, True), (False, False, False), (True, True, False)],
)
def test_who_may_look_at_memory_is_told_how(counted, readable, told, tmp_path):
    """Bounds only, and `/proc/kcore` of the running host holds anything: the command that makes a
    number of them; last of all, for it gives nothing back.
    """
    tree = kernel(tmp_path, NodePool(20, 20), **({} if counted else {"memmap": None}))
    (tmp_path / "proc/kcore").write_text("ELF" if readable else "")
    assert "hvo status --audit live" not in commands(tree)  # the memory is not that of the tree
    tree.running = True
    assert commands(tree) == [CONVERT, *["hvo status --audit live"] * told]


def test_a_damaged_journal_hides_nothing(tmp_path):
    """The pools are shown, and the first advice is what is wrong with the journal."""
    tree = kernel(tmp_path, NodePool(20, 20))
    tree.replace(JOURNAL, "[]\n")
    status = read_status(tree)
    assert "expected the journal of hvo convert" in status.advice[0].text
    assert status.pools[0].pool.pages == 20
