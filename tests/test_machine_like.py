"""A machine loaded from a real kernel's memory has that kernel's state, and optimising it gives
what that kernel's own mechanism gave.

Every core was taken after the last snapshot that truth.json has of it; `boot` is its first.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvo import Machine
from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.kernel.vmcore import hugetlb_heads
from hvo.layout.units import format_size
from hvo.machine.cores.save import save_core
from hvo.memory.core import open_core
from hvo.mmu.walk import walk
from hvo.steps.base import strided
from shared_files import CORES, core, truth

NOT_KEPT = {"MemFree", "sysctl"}
"""Counters that memory does not hold: CPUs keep free frames at hand in lists of their own, and the
switch is a variable.
"""
ERAS = {
    "x86-6.1-on": "5.18",
    "x86-6.1-dump-on": "5.18",
    "arm64-6.1-4k-on": "5.18",
    "arm64-6.1-64k-few": "5.18",
    "arm64-6.1-4k-off": "5.18",
    "x86-6.12-off": "6.2",
    "x86-6.12-on": "6.2",
    "x86-6.12-gig": "6.2",
    "x86-7.3-on": "7.1",
    "arm64-7.3-4k-sizes": "7.1",
}
OFF_AND_ON = [
    ("arm64-6.1-4k-off", "arm64-6.1-4k-on"),
    ("x86-6.12-off", "x86-6.12-on"),
    ("arm64-7.3-stock", "arm64-7.3-4k-sizes"),
]
NO_GLOBAL = np.uint64(1 << 11)
"""arm64 nG: the stock kernel sets it in all its entries (it can unmap itself from user space), the
other was built without.
"""
LINK = 1
FLAGS_PROPER = np.uint64((1 << 32) - 1)
"""Above are node and zone, and last CPU and tag where a kernel keeps those, which a tail that it
makes anew has not.
"""


def snapshots(name: str) -> list[dict[str, int]]:
    return list(truth()[name]["snapshots"].values())


def differing(machine: Machine, wanted: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Counters that the machine and the kernel both have and that differ."""
    return {
        k: (v, wanted[k])
        for k, v in machine.counters().items()
        if k in wanted and k not in NOT_KEPT and v != wanted[k]
    }


@cache
def loaded(name: str) -> Machine:
    """The machine like core `name`; tests that change one load their own."""
    return Machine.like(core(name))


@cache
def booted(name: str) -> Machine:
    """The same, taken back to boot."""
    return Machine.like(core(name), boot=True)


def struct_pages(machine: Machine, size: str = "2MiB") -> np.ndarray[Any, np.dtype[np.uint64]]:
    """All struct pages of all pages of a pool as the kernel would read them, shape (huge pages,
    struct pages, words).
    """
    v = machine.world.vmemmap
    pages = 1 << machine.hstate(size).order
    words = strided(v.address(machine.pool(size).heads()), pages * 8, 8)
    return machine.world.memory.read_words(machine.world.translate(words)).reshape(-1, pages, 8)


# -- what is loaded --


@pytest.mark.parametrize("name", CORES)
def test_counters_equal_the_last_snapshot(name):
    """MemTotal to the kB, the memmap counters, and every pool's numbers are those the kernel
    printed last.
    """
    assert differing(loaded(name), snapshots(name)[-1]) == {}


@pytest.mark.parametrize("name", CORES)
def test_optimised_pages_are_those_the_tables_show(name):
    for pool in truth()[name]["pools"]:
        machine = loaded(name)
        assert machine.pool(pool["size"]).heads().tolist() == pool["heads"]
        assert machine.optimized(pool["size"]).tolist() == pool["optimized_heads"]


@pytest.mark.parametrize(("name", "era"), ERAS.items())
def test_era_is_told_by_members_and_mapping(name, era):
    assert loaded(name).world.vmemmap.era.name == era


@pytest.mark.parametrize("name", CORES)
def test_free_lists_keep_their_order(name):
    """The page that the kernel would have taken next is on top."""
    memory = open_core(core(name))
    image = KernelImage.of(memory)
    found = hugetlb_heads(image, Sections.of(image))
    for pool in loaded(name).pools.values():
        for front_first in found.free_list(pool.order):
            assert pool.free[0].pages()[::-1].tolist() == front_first.tolist()
        assert pool.nr() == np.count_nonzero(found.order == pool.order)
        assert (
            sorted(pool.used[0].pages().tolist())
            == found.pfn[(found.order == pool.order) & ~found.free].tolist()
        )


@pytest.mark.parametrize("name", CORES)
def test_the_machine_reads_what_the_core_has(name):
    """Frames of tables and struct pages (10000 words at random) are the core's; frames the core
    lacks read as zeros.
    """
    machine, memory = loaded(name), open_core(core(name))
    chance = np.random.default_rng(7)
    start, end = (int(edge) for edge in (memory.segments.starts[-1], memory.segments.ends[-1]))
    places = chance.integers(start // 8, end // 8, 10000).astype(np.uint64) * np.uint64(8)
    there = memory.readable(places) & machine.world.memory.readable(places)
    assert there.sum() > 1000
    same = machine.world.memory.read_words(places[there]) == memory.read_words(places[there])
    # The only words written at loading: marks of free blocks (the allocator's state is kept
    # elsewhere), links where tails are to be shared.
    word = (places[there][~same] % np.uint64(64)) // np.uint64(8)
    assert np.isin(word, [1, 5, 6]).all()
    assert same.mean() > 0.97


# -- at boot --


@pytest.mark.parametrize("name", [name for name in CORES if name != "x86-6.12-gig"])
def test_boot_state_has_the_counters_of_the_first_snapshot(name):
    """Taken back to before any pool, MemTotal and the memmap counters are those that the kernel
    printed then.
    """
    machine = booted(name)
    assert differing(machine, snapshots(name)[0]) == {}
    assert all(pool.nr() == 0 for pool in machine.pools.values())


def test_boot_state_without_a_page_that_was_reserved_at_boot():
    """The kernel of this core reserved a 1 GiB page at boot, optimised: with it, the counters are
    those it printed.
    """
    machine = Machine.like(core("x86-6.12-gig"), boot=True)
    assert machine.counters()["nr_memmap_boot_pages"] == 16384
    machine.set_gate(True)
    machine.resize("1GiB", 1)
    assert differing(machine, snapshots("x86-6.12-gig")[0]) == {}


@pytest.mark.parametrize("name", CORES)
def test_boot_state_maps_every_struct_page_from_reserved_frames(name):
    """By leaves where the architecture does, each frame once, all writable."""
    machine = booted(name)
    v, world = machine.world.vmemmap, machine.world
    ranges = [
        zip(z.present.starts.tolist(), z.present.ends.tolist(), strict=True)
        for z in world.zones.zones
    ]
    pfns = np.concatenate(
        [np.arange(a, b, v.structs_per_page) for spans in ranges for a, b in spans]
    )
    found = walk(world.memory, v.format, world.root, v.address(pfns))
    frames = (found.address // np.uint64(v.page_size)).astype(np.int64)
    assert found.writable.all()
    assert np.unique(frames).size == frames.size
    assert world.zones.is_reserved(frames).all()
    assert set(found.level.tolist()) == ({1} if machine.plan.geometry.vmemmap_leaf else {0})


@pytest.mark.parametrize(
    "name", ["arm64-6.1-4k-mixed", "x86-6.12.94-mixed", "defect-x86-6.12.117-mixed"]
)
def test_a_pool_that_grows_and_shrinks_gives_the_kernel_s_counters(name):
    """scenarios/mixed.sh from the boot state: every snapshot's pool and memmap counters and
    MemTotal.
    """
    machine = Machine.like(core(name), boot=True)
    boot, off40, on120, shrunk, used, off90, end = snapshots(name)
    steps = [
        (off40, lambda: machine.resize("2MiB", 40)),
        (on120, lambda: (machine.set_gate(True), machine.resize("2MiB", 120))),
        (shrunk, lambda: machine.resize("2MiB", 70)),
        (used, lambda: machine.use("2MiB", 10)),
        (off90, lambda: (machine.set_gate(False), machine.resize("2MiB", 90))),
        (end, lambda: None),
    ]
    assert differing(machine, boot) == {}
    for wanted, step in steps:
        step()
        skip = {"HugePages_Rsvd"}
        assert {k: v for k, v in differing(machine, wanted).items() if k not in skip} == {}


# -- off becomes on --


def pattern(machine: Machine) -> list[tuple[Any, ...]]:
    """For each page: levels, writable or not, which entries share a frame, and the attribute bits
    of its entries.
    """
    v, pool = machine.world.vmemmap, machine.pool("2MiB")
    addresses = strided(v.address(pool.heads()), v.vmemmap_pages(pool.order), v.page_size)
    found = walk(machine.world.memory, v.format, machine.world.root, addresses)
    frames = found.address // np.uint64(v.page_size)
    same = (frames[:, :, None] == frames[:, None, :]).argmax(axis=2)
    attributes = np.asarray(v.format.with_output(found.entry, np.zeros_like(found.entry), 0))
    if v.format.arch == "arm64":
        attributes = attributes & ~NO_GLOBAL
    rows = zip(
        found.level.tolist(),
        found.writable.tolist(),
        same.tolist(),
        attributes.tolist(),
        strict=True,
    )
    return [
        (tuple(levels), tuple(writable), tuple(shared), tuple(bits))
        for levels, writable, shared, bits in rows
    ]


@pytest.mark.parametrize(("off", "on"), OFF_AND_ON)
def test_optimising_gives_the_entries_of_the_kernel_s_own_mechanism(off, on):
    """Each HugeTLB page: the entry pattern of that kernel's optimised pages, page by page, and the
    attribute bits of every entry.
    """
    machine, real = Machine.like(core(off)), loaded(on)
    assert machine.optimized("2MiB").size == 0
    assert (machine.optimize("2MiB") == 0).all()
    wanted = dict(zip(real.pool("2MiB").heads().tolist(), pattern(real), strict=True))
    (every,) = set(wanted.values())
    ours = dict(zip(machine.pool("2MiB").heads().tolist(), pattern(machine), strict=True))
    common = ours.keys() & wanted.keys()
    assert common
    assert {head: ours[head] for head in common} == {head: wanted[head] for head in common}
    assert set(ours.values()) == {every}
    assert shared_frames(machine) == (1 if every[2][1] else machine.pool("2MiB").nr())
    assert shared_frames(real) == (1 if every[2][1] else real.pool("2MiB").nr())


def shared_frames(machine: Machine) -> int:
    """How many frames the last vmemmap pages of all pages of the pool map together."""
    heads = machine.pool("2MiB").heads()
    return np.unique([machine.entries(head, "2MiB")[-1].frame for head in heads.tolist()]).size


@pytest.mark.parametrize(("off", "on"), OFF_AND_ON)
def test_optimised_struct_pages_hold_what_the_kernel_s_hold(off, on):
    """Word for word, with addresses counted from each kernel's own vmemmap, for the pages that both
    kernels have.

    What may differ: the neighbours of heads on their list; above the flags proper last CPU and tag,
    which one of the 7.3 kernels was built without; and in 7.3's vmemmap page that stays its own,
    what earlier users left in words that tails do not use.
    """
    machine, real = Machine.like(core(off)), loaded(on)
    machine.optimize("2MiB")
    ours, theirs = machine.pool("2MiB").heads(), real.pool("2MiB").heads()
    common = np.intersect1d(ours, theirs)
    a = relative(machine)[np.searchsorted(ours, common)]
    b = relative(real)[np.searchsorted(theirs, common)]
    a[..., 0] &= FLAGS_PROPER
    b[..., 0] &= FLAGS_PROPER
    shared_tails = machine.world.vmemmap.era.name == "7.1"
    heads = slice(0, 1) if shared_tails else slice(0, None, 64)
    a[:, heads, 1:3] = b[:, heads, 1:3] = 0
    if shared_tails:
        a[:, 1:64, 3:5] = b[:, 1:64, 3:5] = 0
    assert np.argwhere(a != b).tolist() == []


def relative(machine: Machine) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """`struct_pages` with addresses in the vmemmap given as distances from its start."""
    words, base = struct_pages(machine), np.uint64(machine.world.vmemmap.base)
    near = words - base < np.uint64(1 << 38)
    return np.where(near, words - base, words)


def test_a_shared_tail_made_by_the_machine_equals_the_kernel_s():
    """7.1: the frame that all tails of a zone share, byte for byte, made on the machine taken back
    to boot.
    """
    real = loaded("x86-7.3-on")
    machine = Machine.like(core("x86-7.3-on"), boot=True)
    machine.set_gate(True)
    machine.resize("2MiB", 3)
    assert machine.optimized("2MiB").size == 3
    assert machine.world.zones.zone_of(machine.pool("2MiB").heads()).tolist() == [1, 1, 1]
    assert np.array_equal(struct_pages(machine)[0, 64:], struct_pages(real)[0, 64:])


@pytest.mark.parametrize("off", [off for off, _ in OFF_AND_ON])
def test_restoring_gives_back_every_struct_page(off):
    """Flags, link, reference and map counts, private: of every struct page as in the core.

    Restored tails are copies of what was shared, as in the kernel: 7.1's lack last CPU and tag
    above the flags.
    """
    machine = Machine.like(core(off))
    before = struct_pages(machine)
    assert (machine.optimize("2MiB") == 0).all()
    assert (machine.restore("2MiB") == 0).all()
    after = struct_pages(machine)
    if machine.world.vmemmap.era.name == "7.1":
        before[:, 64:, 0] &= FLAGS_PROPER
    for word in (0, LINK, 5, 6, 7):
        assert np.array_equal(before[..., word], after[..., word]), word
    head = slice(0, 64)
    assert np.array_equal(before[:, head], after[:, head])


@pytest.mark.parametrize("name", [name for name in CORES if "on" not in name or "7.3" in name])
def test_every_page_can_leave_the_pool(name):
    """Restored and freed, no block of the real kernel's pages is refused by the allocator, and all
    its memory is free again.
    """
    machine = Machine.like(core(name))
    for pool in machine.pools.values():
        free = machine.counters()["MemFree"]
        bytes_held = (pool.nr() * pool.size) >> 10
        optimised = machine.optimized(pool.size).size
        machine.release(pool.size, len(pool.used[0]))
        machine.resize(pool.size, 0)
        taken = (
            optimised
            * (machine.world.vmemmap.vmemmap_pages(pool.order) - 1)
            * machine.plan.geometry.page_size
            >> 10
        )
        assert machine.counters()["MemFree"] == free + bytes_held - taken
    assert machine.world.lost == []


# -- saved again, and bad input --


@pytest.mark.parametrize("boot", [False, True])
@pytest.mark.parametrize(
    "name", ["arm64-6.1-4k-off", "arm64-6.1-64k-few", "x86-6.12-on", "x86-7.3-on"]
)
def test_a_loaded_machine_can_be_saved_and_loaded_again(name, boot, tmp_path):
    machine = Machine.like(core(name), boot=boot)
    machine.set_gate(True)
    machine.resize(machine.default_size, machine.pool(machine.default_size).nr() + 1)
    save_core(machine, tmp_path / "again.elf")
    again = Machine.like(tmp_path / "again.elf")
    assert differing(again, machine.counters()) == {}
    for size in machine.pools:
        assert again.pool(size).heads().tolist() == machine.pool(size).heads().tolist(), (
            format_size(size)
        )
        assert again.optimized(size).tolist() == machine.optimized(size).tolist()


def test_an_era_can_be_asked_for():
    assert Machine.like(core("x86-6.12-off"), era="5.18").world.vmemmap.era.name == "5.18"


def test_what_is_no_kernel_s_memory_is_refused(tmp_path):
    text = tmp_path / "text"
    text.write_text("not a core")
    for path in (text, tmp_path / "absent", Path("/")):
        with pytest.raises(HvoError, match=str(path)):
            Machine.like(path)


def test_struct_pages_that_are_not_mapped_are_refused():
    with pytest.raises(HvoError, match="struct page of frame 0x8200"):
        Machine.like(core("bad-table-loop"))
