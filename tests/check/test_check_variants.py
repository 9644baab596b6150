"""Variants of protocols that are in no benchmark: a defect each, whose verdict follows from the
rules of the machine, and what is legal.
"""

from pathlib import Path

import pytest

from hvo.check.batch import check_all
from hvo.check.check import Result
from hvo.check.model.hardware import parse_hardware
from hvo.check.select import asked

HEAD = """
from hvo.steps.struct_pages import (CopyFrame, FillTails)
from hvo.steps.ordering import (Flush)
from hvo.steps.frames import (AllocateFrames)
from hvo.steps.entries import (FillTable)
from hvo.steps.ordering import (ResumeCpus, StopCpus)
from hvo.protocol import *
from hvo.vmemmap.shared_tail import shared_tail as _shared_tail
from hvo.vmemmap.remap import pte_of as _pte_of
from hvo.vmemmap.split import table_of_leaf as _table_of_leaf


def _entries(v, order, head):
    table = int((yield from _pte_of(v, v.address(head))))
    found = []
    for page in range(1, v.vmemmap_pages(order)):
        entry = yield ReadEntry(table + 8 * page, 0)
        address = int(v.address(head)) + page * v.page_size
        found.append((table + 8 * page, address, int(entry.value)))
    return found


def _write(entries, value):
    for location, address, old in entries:
        yield WriteEntry(location, value(old), 0, address)


def _split(v, head, flush, stopped):
    pmd = int((yield Locate(v.address(head), 1)))
    entry = yield ReadEntry(pmd, 1)
    if entry.kind is not EntryKind.LEAF:
        return True
    table = yield AllocateFrame(v.node_of(head))
    if table is None:
        return False
    yield FillTable(table, _table_of_leaf(v, entry.value))
    yield WriteBarrier()
    base = int(v.address(head)) & -v.leaf
    if stopped:
        yield StopCpus(preemptible=True)
        yield WriteEntry(pmd, 0, 1, base)
        yield Flush(base, base + v.leaf)
    yield WriteEntry(pmd, int(v.format.make_table(table * v.page_size)), 1, base)
    if stopped:
        yield ResumeCpus()
    elif flush:
        yield Flush(base, base + v.leaf)
    return True


def optimize(v, order, head):
    yield Acquire(Lock.MMAP_WRITE)
    shared = yield from _shared_tail(v, order, head)
    if shared is not None and (yield from _split(v, head, FLUSH, STOPPED)):
        entries = yield from _entries(v, order, head)
        yield from _remap(v, order, head, entries, int(v.leaf_entry(shared, writable=False)))
        for _, _, old in entries:
            yield FreeFrame(int(v.pfn(old)), memmap=True)
        if FLAG:
            yield StorePage(head, "vmemmap_optimized", 1)
        yield Count(Counter.OPTIMIZED_KEY, 1)
    yield Release(Lock.MMAP_WRITE)


def _range(v, order, head):
    start = int(v.address(head))
    return start, start + v.vmemmap_pages(order) * v.page_size
"""
REMAP = "\n\ndef _remap(v, order, head, entries, new):\n    start, end = _range(v, order, head)\n"
BREAK, NEW = "_write(entries, lambda old: 0)", "_write(entries, lambda old: new)"
READ_ONLY = "_write(entries, lambda old: int(v.format.read_only(old)))"
CLEAR = "_write(entries, lambda old: int(v.format.access_flag_cleared(old)))"
GROUP, UNGROUP = (
    "_write(entries, lambda old: old | v.format.contiguous)",
    "_write(entries, lambda old: old)",
)
ASK, WAIT, FLUSH = (
    "[Invalidate(start, end)]",
    "[AwaitInvalidation()]",
    "[Invalidate(start, end), AwaitInvalidation()]",
)
OWN_CPU = "[Invalidate(start, end, this_cpu=True), AwaitInvalidation()]"
SHORT = "[Invalidate(start, end - v.page_size), AwaitInvalidation()]"
STOP, GO, ORDER = "[StopCpus(preemptible=True)]", "[ResumeCpus()]", "[WriteBarrier()]"
COPY = "(FillTails(int(v.pfn(old)), head, order, v.structs_per_page) for _, _, old in entries)"


def findings(
    tmp_path: Path, parts: list[str], machine: str, *hazards: str, more: str = "", **settings: bool
) -> dict[str, set[str]]:
    """What each scenario finds in an optimiser that does `parts` to the entries of the tails."""
    said = {"FLUSH": True, "STOPPED": False, "FLAG": True} | settings
    body = "".join(f"    yield from {part}\n" for part in parts)
    path = tmp_path / "protocol.py"
    path.write_text(
        HEAD + "".join(f"{name} = {value}\n" for name, value in said.items()) + REMAP + body + more
    )
    results: list[Result] = check_all(asked([str(path)], parse_hardware(machine), hazards, None))
    assert {result.verdict for result in results} <= {"safe", "unsafe"}
    return {
        result.case.scenario.name: {found.property for found in result.findings}
        for result in results
    }


LIVE = "arm64+bbm2+noabort"
BROKEN = {
    "invalidated before the break": [STOP, FLUSH, BREAK, NEW, GO],
    "not waited for": [STOP, BREAK, ASK, NEW, WAIT, GO],
    "not invalidated": [STOP, BREAK, WAIT, NEW, GO],
    "invalidated on the own CPU": [STOP, BREAK, OWN_CPU, NEW, GO],
    "invalidated in part": [STOP, BREAK, SHORT, NEW, GO],
}


@pytest.mark.parametrize("what", BROKEN)
def test_break_before_make_that_is_none(what: str, tmp_path: Path):
    """Each element of the sequence counts, also where nobody else runs: the walker of any CPU may
    have cached the old entry.
    """
    found = findings(tmp_path, [*BROKEN[what], FLUSH], "arm64+bbm3", "H01", STOPPED=True)
    assert all(properties == {"break-before-make"} for properties in found.values()), found


@pytest.mark.parametrize("breaking", [BREAK, CLEAR])
def test_break_before_make(breaking: str, tmp_path: Path):
    """The legal sequence, with an invalid entry or one with the access flag clear, while nobody
    else runs.
    """
    found = findings(tmp_path, [STOP, breaking, FLUSH, NEW, GO], "arm64", STOPPED=True)
    assert not set().union(*found.values()), found


def test_equal_contents(tmp_path: Path):
    """Read-only, flush, copy, retarget is legal; copied only after that, the tails of a page may
    differ from the shared ones.
    """
    legal = findings(tmp_path, [READ_ONLY, FLUSH, COPY, ORDER, NEW, FLUSH], LIVE)
    assert not set().union(*legal.values()), legal
    late = findings(tmp_path, [READ_ONLY, FLUSH, NEW, FLUSH, COPY], LIVE, "H01")
    assert late["a page with differing tails"] == {"break-before-make"}
    writable = findings(tmp_path, [READ_ONLY, COPY, ORDER, NEW, FLUSH], LIVE, "H01")
    assert all("break-before-make" in properties for properties in writable.values())


def test_an_access_flag_that_the_walker_sets_by_itself(tmp_path: Path):
    """Between the flush and a plain write the hardware may set the flag again, with no access: no
    reader is needed for it.
    """
    found = findings(tmp_path, [CLEAR, FLUSH, NEW, FLUSH], LIVE + "+haf", "H01")
    assert all("break-before-make" in properties for properties in found.values()), found
    without = findings(tmp_path, [CLEAR, FLUSH, NEW, FLUSH], LIVE, "H01")
    assert (without["alone"], without["against a reader"]) == (set(), {"access-invalid"})


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("arm64", {"break-before-make"}),
        ("arm64+bbm1", set()),
        ("arm64+bbm2+noabort", set()),
        ("arm64+bbm3", set()),
    ],
)
def test_the_contiguous_bit(machine: str, expected: set[str], tmp_path: Path):
    """It is a change of size, which FEAT_BBM level 1 allows; a table for a block it does not."""
    steps = [GROUP, FLUSH, UNGROUP, FLUSH, STOP, BREAK, FLUSH, NEW, GO]
    found = findings(tmp_path, steps, machine, "H01", STOPPED=True)
    assert all(properties == expected for properties in found.values()), found
    if machine == "arm64+bbm1":
        live = findings(tmp_path, steps, machine, "H01")
        assert live["alone"] == {"break-before-make"}


def test_the_contiguous_bit_may_abort(tmp_path: Path):
    """Level 2 may abort on a conflict of the two sizes, as for blocks; without an access there is
    none.
    """
    found = findings(
        tmp_path,
        [GROUP, FLUSH, UNGROUP, FLUSH, STOP, BREAK, FLUSH, NEW, GO],
        "arm64+bbm2",
        "H01",
        STOPPED=True,
    )
    assert (found["alone"], found["against a reader"]) == (set(), {"access-invalid"})


UNSHARED = "_write(entries, lambda old: old & ~(3 << 8))"


@pytest.mark.parametrize(
    ("changed", "shown", "said"),
    [
        (GROUP, "contiguous", "the contiguous bit of the live entry of vmemmap page 1 changes"),
        (UNSHARED, "other attributes", "the attributes in the entry of vmemmap page 1 change"),
    ],
    ids=["contiguous", "shareability"],
)
def test_what_changes_is_shown(changed: str, shown: str, said: str, tmp_path: Path):
    """Of an entry that keeps its frame the trace says what else is new."""
    findings(tmp_path, [changed, FLUSH, STOP, BREAK, FLUSH, NEW, GO], "arm64", "H01", STOPPED=True)
    result = next(
        iter(
            check_all(
                asked([str(tmp_path / "protocol.py")], parse_hardware("arm64"), ("H01",), None)
            )
        )
    )
    assert result.findings[0].message.startswith(said)
    assert result.trace[-1].violated[0][0] == "break-before-make"
    assert any(f"frame 17 rw -> frame 17 rw, {shown}" in line for line in result.trace[-1].changes)


def test_large_and_small_entries_on_x86(tmp_path: Path):
    """They may both be in a TLB where they agree; an entry that is exchanged before the split is
    flushed does not agree any more.
    """
    flushed = findings(tmp_path, [NEW, FLUSH], "x86_64")
    assert not set().union(*flushed.values()), flushed
    late = findings(tmp_path, [FLUSH, NEW, FLUSH], "x86_64", FLUSH=False)
    assert not set().union(*late.values()), late
    mixed = findings(tmp_path, [NEW, FLUSH], "x86_64", "H01", FLUSH=False)
    assert (mixed["alone"], mixed["alone, leaf already split"]) == ({"mixed-sizes"}, set())
    other = findings(tmp_path, [NEW, FLUSH], "riscv64", "H01", FLUSH=False)
    assert not set().union(*other.values()), other


MERGE = """

def merge(v, order, head):
    base = int(v.address(head)) & -v.leaf
    pmd = int((yield Locate(base, 1)))
    block = yield ReadEntry(pmd, 1)
    table = yield AllocateFrame(v.node_of(head))
    pages = [int(entry) for entry in _table_of_leaf(v, block.value)]
    yield FillTable(table, _table_of_leaf(v, block.value))
    yield WriteBarrier()
    {broken}
    yield WriteEntry(pmd, int(v.format.make_table(table * v.page_size)), 1, base)
    yield Flush(base, base + v.leaf)
    yield WriteEntry(table * v.page_size, int(v.format.read_only(pages[0])), 0, base)
    {flush}
    yield WriteEntry(table * v.page_size, pages[0], 0, base)
    yield Flush({start}, base + v.leaf)
    {broken_again}
    yield WriteEntry(pmd, int(block.value), 1, base)
    yield Flush(base, base + v.leaf, tables=True)
    yield FreeFrame(table)


def optimize(v, order, head):
    yield from merge(v, order, head)
"""


@pytest.mark.parametrize(
    ("machine", "flush", "start", "expected"),
    [
        ("x86_64", "yield Flush(base, base + v.leaf)", "base", set()),
        ("x86_64", "pass", "base", set()),
        ("x86_64", "pass", "base + v.page_size", {"mixed-sizes"}),
        ("arm64+bbm3", "pass", "base + v.page_size", set()),
        ("arm64", "pass", "base", {"break-before-make"}),
    ],
)
def test_a_table_that_becomes_a_block_again(
    machine: str, flush: str, start: str, expected: set[str], tmp_path: Path
):
    """Small entries that TLBs hold must agree with the large one, also those that are not in the
    table any more.
    """
    more = MERGE.format(broken="pass", flush=flush, start=start, broken_again="pass")
    found = findings(tmp_path, [NEW], machine, "H01", more=more)["alone"]
    assert found == expected


@pytest.mark.parametrize("end", ["base + v.leaf", "base + v.page_size"])
def test_a_block_over_pages_that_were_flushed_in_part(end: str, tmp_path: Path):
    """arm64: the table is broken first, but what it led to must be invalidated as well, for all its
    pages.
    """
    broken = [
        f"yield WriteEntry(pmd, 0, 1, base); yield Flush(base, {to}, tables=True)"
        for to in ("base + v.leaf", end)
    ]
    more = MERGE.format(broken=broken[0], flush="pass", start="base", broken_again=broken[1])
    found = findings(tmp_path, [NEW], "arm64", "H01", more=more)["alone"]
    assert found == (set() if "leaf" in end else {"break-before-make"})


def test_a_page_that_does_not_say_so(tmp_path: Path):
    """A page that is optimised without the flag would never be restored."""
    found = findings(tmp_path, [NEW, FLUSH], "x86_64", "H01", FLAG=False)
    assert all(properties == {"counters"} for properties in found.values()), found


BACK = """

def restore(v, order, head):
    start, end = _range(v, order, head)
    if not (yield TestPage(head, "vmemmap_optimized")):
        return 0
    {before}
    shared = yield from _shared_tail(v, order, head)
    frames = yield AllocateFrames(v.vmemmap_pages(order) - 1, v.node_of(head), memmap=True)
    if frames is None:
        {refused}
        return -12
    entries = yield from _entries(v, order, head)
    for (location, address, _), frame in zip(entries, frames.tolist()):
        yield CopyFrame(address, frame, v.structs_per_page)
        yield WriteBarrier()
        yield WriteEntry(location, v.leaf_entry(frame, writable=True), 0, address)
    {behind}
    yield StorePage(head, "vmemmap_optimized", 0)
    yield Count(Counter.OPTIMIZED_KEY, -1)
    return 0


def poison(v, order, head):
    yield StorePage(head + (v.vmemmap_pages(order) - 1) * v.structs_per_page + 1, "hwpoison", 1)
"""
_FLUSHES = "yield Flush(start, end)"


def way_back(
    tmp_path: Path, *hazards: str, before: str = "", refused: str = "pass", behind: str = _FLUSHES
) -> dict[str, set[str]]:
    text = BACK.format(before=before, refused=refused, behind=behind)
    return findings(tmp_path, [NEW, FLUSH], "x86_64", *hazards, more=text)


def test_a_way_back(tmp_path: Path):
    """Frames, copy, barrier, entry, flush, flag: nothing is wrong with that, but for an actor that
    writes tails behind everybody's back.
    """
    found = way_back(tmp_path)
    assert {name: properties for name, properties in found.items() if properties} == {
        "optimize against poison": {"write-read-only"},
        "restore against poison": {"write-read-only"},
    }


def test_a_flag_that_goes_too_early(tmp_path: Path):
    """Cleared before memory is refused, the page looks restored, and is freed with tails that are
    shared.
    """
    found = way_back(tmp_path, "H12", before='yield StorePage(head, "vmemmap_optimized", 0)')
    assert found["restore, allocations fail"] == {"counters"}
    assert "write-read-only" in found["restore retried once memory is free"]


def test_the_shared_frame_is_not_the_page_s_to_free(tmp_path: Path):
    """Whoever is optimised next, or still is, would use a frame that was freed; the page itself
    does not.
    """
    found = way_back(
        tmp_path, "H04", "H14", "H19", behind=f"{_FLUSHES}; yield FreeFrame(int(shared))"
    )
    assert not found["optimize, restore, free"]
    assert "access-freed" in found["optimize, restore, optimize"] & found["two restores, one leaf"]


def test_a_way_back_without_a_flush(tmp_path: Path):
    """Who frees the page writes its tails, by a translation that is still read-only."""
    assert "write-read-only" in way_back(tmp_path, "H19", behind="pass")["optimize, restore, free"]


def test_a_node_without_memory(tmp_path: Path):
    """Frames of any node will do; who insists on the page's own never gives it back."""
    assert not way_back(tmp_path, "H12")["restore, own node empty"]
    path = tmp_path / "protocol.py"
    path.write_text(
        path.read_text().replace("v.node_of(head), memmap=True)", "v.node_of(head), True, True)")
    )
    results = check_all(asked([str(path)], None, ("H12",), None))
    assert {found.property for result in results for found in result.findings} == {"no-progress"}


def test_a_page_that_never_leaves(tmp_path: Path):
    """Once refused, it is refused for ever, although there is memory."""
    stuck = 'yield StorePage(head, "dcache_clean", 1)'
    ever = 'if (yield TestPage(head, "dcache_clean")): return -12'
    found = way_back(tmp_path, "H12", before=ever, refused=stuck)
    assert found["restore retried once memory is free"] == {"no-progress"}
    assert not found["restore, allocations fail"]


AS_E = """
from dataclasses import replace
from hvo.vmemmap.proposals import (optimize as _optimize, restore as _restore)
from hvo.vmemmap.exchange import (PROPOSALS)

_E = replace(PROPOSALS["E"], tries=2)

def optimize(v, order, head):
    return _optimize(v, _E, order, head)

def restore(v, order, head):
    return _restore(v, _E, order, head)
"""


def test_a_protocol_that_may_give_up(tmp_path: Path):
    """Proposal E gives up half-way where walkers spoil its tries: what it leaves is sound, and
    nobody has to try for ever.
    """
    path = tmp_path / "protocol.py"
    path.write_text(AS_E)
    results = check_all(asked([str(path)], parse_hardware(LIVE + "+haf"), (), None))
    assert {result.verdict for result in results} == {"safe"}
    assert "restore retried once memory is free" in {
        result.case.scenario.name for result in results
    }
