"""`hvo run --like` of every core of the reference material: restored and optimised, with all that a
run guarantees.
"""

import json
from functools import cache
from typing import Any

import pytest

from hvo import Machine
from hvo.errors import HvoError
from hvo.machine.run.results import RunResult
from hvo.machine.run.run import Request, run
from shared_files import SHARED, core, need

ROOMS = ("cores", "cores-new")
DAMAGED = {"bad-table-loop": "the struct page of frame 0x8200 is not in the core"}
"""Cores that lack struct pages, and what is said of them."""
NO_MACHINE = {"loong64-7.2": "loongarch64"}
QUICK = ["riscv64-7.2-2nodes", "x86-7.3.4-dimm", "x86-7.3.4-dimm-self", "x86-7.1.13-gigboot"]
RISCV = ["riscv64-7.2-sv57", "riscv64-6.12-sv48", "riscv64-7.2-2nodes"]
NOT_KEPT = {"MemFree", "sysctl"}
"""Counters that memory does not hold."""
GIB = 1 << 30


@cache
def truth() -> dict[str, Any]:
    """What is in each core, by its name."""
    found: dict[str, Any] = {}
    for room in ROOMS:
        path = SHARED / room / "truth.json"
        found |= json.loads(path.read_text()) if path.exists() else {}
    return found


NAMES = sorted(truth().keys() - NO_MACHINE.keys() - DAMAGED.keys())


def like(name: str, size: int | None = None) -> RunResult:
    """What `hvo run --like` gives; `size` is the pool's, in bytes."""
    request = Request("arm64", 4096, 0, 1, None, hugepage_size=size, like=core(name))
    return run(request, lambda _: None)


def assert_kept(result: RunResult, name: str) -> None:
    """All guarantees hold but that tails are read-only on riscv64, which is not promised there."""
    held = {guarantee.id: guarantee.holds for guarantee in result.guarantees}
    riscv = truth()[name]["arch"] == "riscv64"
    assert held.pop("tails-read-only") is (None if riscv else True)
    assert held
    assert set(held.values()) == {True}, list(result.guarantees)
    assert result.kept


@pytest.mark.parametrize("name", QUICK)
def test_some_cores_are_restored_and_optimised(name: str):
    """A core with nodes, one with hot-added memory, one that hosts its own struct pages, and one of
    a kernel that leaves tails writable.
    """
    assert_kept(like(name), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(QUICK)))
def test_every_core_is_restored_and_optimised(name: str):
    """Each era, architecture, page size and damage that leaves all struct pages in the core."""
    assert_kept(like(name), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x86-7.1.13-gigboot", "x86-6.12-gig"])
def test_pages_of_a_gibibyte_are_too(name: str):
    """Also those that were built optimised at boot, most of whose tails stayed writable."""
    result = like(name, GIB)
    assert_kept(result, name)
    assert result.pool.pages > 0


@pytest.mark.parametrize("name", ["x86-7.3.4-dimm-self"])
def test_blocks_that_host_their_own_struct_pages_are_left(name: str):
    """None of their pages becomes optimised, and nothing is saved."""
    result = like(name)
    assert (result.pool.pages, result.pool.optimized) == (300, 0)
    assert result.before.frames == result.after.frames


def test_a_comparison_says_what_it_leaves_out():
    """Restored tails of this core have other words than before that mean nothing: who used the page
    last stands above the flags proper.
    """
    found = {guarantee.id: guarantee for guarantee in like("x86-7.3.4-dimm").guarantees}[
        "frames-return"
    ]
    assert found.holds
    assert "0 of 32768 struct pages compared differ from before (left out" in found.evidence
    assert "last CPU" in found.evidence


def test_tails_of_riscv64_are_writable_and_said_to_be():
    """The tails of a simulated page share a frame and can be written, as the real kernel's are."""
    result = like("riscv64-7.2-2nodes")
    (found,) = [guarantee for guarantee in result.guarantees if guarantee.id == "tails-read-only"]
    assert found.holds is None
    assert "not promised on riscv64" in found.evidence
    assert "455 of 4096 vmemmap pages have no frame of their own" in found.evidence
    assert result.after.read_only == 0
    assert result.after.frames == result.after.pages - 455


@pytest.mark.parametrize("name", sorted(NAMES))
def test_counters_are_those_that_the_kernel_printed_last(name: str):
    """MemTotal to the kB, the memmap counters and the pools."""
    wanted = list(need_snapshots(name).values())[-1]
    machine = Machine.like(core(name))
    counted = {key: value for key, value in machine.counters().items() if key not in NOT_KEPT}
    assert {key: wanted.get(key, value) for key, value in counted.items()} == counted


def need_snapshots(name: str) -> dict[str, dict[str, int]]:
    """The kernel's counters, or a skip for a core whose kernel printed none."""
    found = truth()[name].get("snapshots")
    if not found:
        pytest.skip(f"{name}: its kernel printed no counters")
    return found


@pytest.mark.parametrize("name", sorted(NAMES))
def test_pages_are_on_their_nodes(name: str):
    """Heads, optimised heads, and free pages of every node."""
    machine = Machine.like(core(name))
    for pool in truth()[name]["pools"]:
        size = pool["size"]
        assert machine.pool(size).heads().tolist() == pool["heads"]
        if name not in ("bad-flag-cleared", "bad-tail-writable"):
            assert machine.optimized(size).tolist() == pool["optimized_heads"]
        for node, counts in pool.get("nodes", {}).items():
            mine = machine.pool(size)
            assert mine.nr(int(node)) == counts["pages"]
            assert mine.nr_free(int(node)) == counts["free"]


@pytest.mark.parametrize("name", ["riscv64-6.12-sv48", "x86-7.3.4-dimm", "x86-7.3.4-dimm-self"])
def test_a_machine_taken_back_to_boot_has_the_first_counters(name: str):
    """Also where memory was added later: its struct pages take frames of the page allocator."""
    wanted = next(iter(need_snapshots(name).values()))
    machine = Machine.like(core(name), boot=True)
    counted = {key: value for key, value in machine.counters().items() if key not in NOT_KEPT}
    assert {key: wanted.get(key, value) for key, value in counted.items()} == counted


@pytest.mark.parametrize(("name", "said"), DAMAGED.items())
def test_a_core_without_all_struct_pages_is_refused(name: str, said: str):
    """No machine can be made of it."""
    with pytest.raises(HvoError, match=said):
        like(name)


def test_a_flag_that_contradicts_the_mapping_is_mended():
    """One optimised page of this core says that it is not: what nobody would restore is restored
    here.
    """
    need(SHARED / "cores/bad-flag-cleared.elf.xz")
    result = like("bad-flag-cleared")
    assert all(guarantee.holds for guarantee in result.guarantees)
    assert result.pool.optimized == result.pool.pages
