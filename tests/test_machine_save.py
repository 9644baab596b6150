"""A saved machine opens like a kernel's core: drgn and our own reader find the same memory,
sections, pages and free blocks.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import drgn
import numpy as np
import pytest

from hvo import Machine
from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.kernel.memory_map import memory_map
from hvo.kernel.sections import Sections
from hvo.kernel.vmcore import hugetlb_heads
from hvo.machine.cores.save import save_core
from hvo.memory.core import CoreMemory, open_core
from hvo.mmu.walk import walk
from hvo.steps.base import strided
from shared_files import core

SHAPES = {
    "arm64-4k": ("arm64", 4096, "256MiB"),
    "arm64-16k": ("arm64", 16384, "1GiB"),
    "arm64-64k": ("arm64", 65536, "4GiB"),
    "x86": ("x86_64", 4096, "256MiB"),
    "riscv": ("riscv64", 4096, "256MiB"),
}
ERAS = ("5.14", "5.18", "6.2", "7.1")
EVERY = [(shape, era) for shape in SHAPES for era in ERAS]


class Saved(NamedTuple):
    """A machine with a mixed pool, some of it in use, and its core as our reader opens it."""

    machine: Machine
    memory: CoreMemory
    image: KernelImage
    sections: Sections


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory):
    """Saves the machine of a shape and an era (once)."""
    folder = tmp_path_factory.mktemp("saved")

    @cache
    def make(shape: str, era: str) -> Saved:
        machine = Machine.build(*SHAPES[shape], era=era, gate=False)
        size = machine.default_size
        most = machine.fill(size)
        machine.resize(size, most // 4)
        machine.set_gate(True)
        machine.resize(size, most // 2)
        machine.use(size, 1 + most // 10)
        small = min(machine.pools)
        machine.resize(small, machine.pool(small).nr() + 3)
        path = folder / f"{shape}-{era}.elf"
        save_core(machine, path)
        memory = open_core(path)
        image = KernelImage.of(memory)
        return Saved(machine, memory, image, Sections.of(image))

    return make


@pytest.mark.parametrize(("shape", "era"), EVERY)
def test_sections_are_the_machine_s(saved, shape, era):
    machine, _, _, sections = saved(shape, era)
    zones = machine.world.zones.zones
    assert sections.vmemmap_base == machine.world.vmemmap.base
    assert len(sections.numbers) * sections.pages == sum(zone.present_pages for zone in zones)
    assert sections.online.all()
    edges = sections.start_pfn, sections.start_pfn + sections.pages - 1
    assert all((machine.world.zones.zone_of(edge) >= 0).all() for edge in edges)


@pytest.mark.parametrize(("shape", "era"), EVERY)
def test_heads_flags_and_free_lists_are_the_machine_s(saved, shape, era):
    """Every pool's pages, which are flagged, which are optimised by the mapping, and the order of
    the free list.
    """
    machine, memory, image, sections = saved(shape, era)
    found = hugetlb_heads(image, sections)
    assert found.flagged.any() or machine.world.vmemmap.era.name == "5.14"
    for size, pool in machine.pools.items():
        mine = found.order == pool.order
        assert found.pfn[mine].tolist() == pool.heads().tolist()
        assert found.pfn[mine & found.flagged].tolist() == machine.optimized(size).tolist()
        last = sections.struct_page_address(found.pfn[mine] + (1 << pool.order) - 1)
        page = np.uint64(image.page_size)
        end = walk(memory, image.format, image.root, last)
        before = walk(memory, image.format, image.root, last - page)
        shared = end.address // page == before.address // page
        assert found.pfn[mine][shared].tolist() == machine.optimized(size).tolist()
        assert (end.writable != (shared & image.format.protects)).all()
        listed = [part.tolist() for part in found.free_list(pool.order)]
        assert listed == [
            stack.pages()[::-1].tolist() for stack in pool.free.values() if len(stack)
        ]
        in_use = found.pfn[mine & ~found.free]
        assert in_use.tolist() == sorted(pool.used[0].pages().tolist())
        assert (found.refcount[mine & ~found.free] == 1).all()
        assert (found.refcount[mine & found.free] == 0).all()


@pytest.mark.parametrize(("shape", "era"), EVERY)
def test_struct_pages_say_what_the_allocator_says(saved, shape, era):
    """MemTotal, reserved frames and every free block; frames at hand for single allocations are in
    neither.
    """
    machine, _, image, sections = saved(shape, era)
    found, zones = memory_map(image, sections), machine.world.zones
    assert found.managed_pages == zones.managed_pages
    blocks = [zone.free_blocks() for zone in zones.zones]
    assert found.free_pfn.tolist() == np.concatenate([pfns for pfns, _ in blocks]).tolist()
    assert found.free_order.tolist() == np.concatenate([orders for _, orders in blocks]).tolist()
    assert found.free_pages == zones.free_pages - sum(zone.queued for zone in zones.zones)
    assert zones.is_reserved(found.reserved_start).all()
    assert zones.is_reserved(found.reserved_end - 1).all()


@pytest.mark.parametrize(("shape", "era"), EVERY)
def test_drgn_reads_the_same_bytes(saved, shape, era):
    """2000 physical samples: drgn, our reader and the machine (but for struct pages, into which the
    allocator's state goes).
    """
    machine, memory, _, _ = saved(shape, era)
    program = drgn.Program()
    program.set_core_dump(memory.path)
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    size = machine.plan.geometry.page_size
    chance = np.random.default_rng(11)
    frames = chance.choice(machine.world.memory.written(), 2000)
    places = frames.astype(np.uint64) * np.uint64(size) + chance.integers(
        0, size // 8, 2000
    ).astype(np.uint64) * np.uint64(8)
    ours = memory.read_words(places)
    assert [program.read(place, 8, physical=True) for place in places.tolist()] == [
        word.tobytes() for word in ours
    ]
    word = places // np.uint64(8) % np.uint64(8)
    same = ours == machine.world.memory.read_words(places)
    assert np.isin(
        word[~same], [0, 1, 2, 5, 6]
    ).all()  # flags, the links of lists, order and counts
    untouched = np.isin(word, [3, 4, 7])
    assert same[untouched].all()
    assert untouched.any()


@pytest.mark.parametrize(
    ("shape", "era"), [(shape, era) for shape, era in EVERY if shape != "riscv"]
)
def test_drgn_reads_through_the_tables(saved, shape, era):
    """The kernel's own data and the struct pages of an optimised page, by virtual address (drgn
    walks no riscv tables).
    """
    machine, memory, image, _ = saved(shape, era)
    program = drgn.Program()
    program.set_core_dump(memory.path)
    head = int(machine.optimized(machine.default_size)[-1])
    struct_pages = int(machine.world.vmemmap.address(head))
    last = struct_pages + (64 << machine.hstate(machine.default_size).order) - 128
    for address in (
        memory.vmcoreinfo.symbol("mem_section"),
        memory.vmcoreinfo.symbol("swapper_pg_dir"),
        struct_pages,
        last,
    ):
        wanted = image.words(strided(np.uint64(address), 16, 8)).tobytes()
        assert program.read(address, 128) == wanted


@pytest.mark.parametrize(("shape", "era"), EVERY)
def test_the_core_makes_a_like_machine(saved, shape, era):
    """Loaded again: era, layout, pools, optimised pages and all counters that memory holds."""
    machine, memory, _, _ = saved(shape, era)
    again = Machine.like(memory.path)
    ours, theirs = machine.counters(), again.counters()
    differing = {key for key in theirs if theirs[key] != ours[key]}
    assert differing <= {"MemFree", "sysctl"}
    assert again.world.vmemmap.era.name == era
    assert again.world.layout.fields == machine.world.layout.fields
    assert again.world.layout.link == machine.world.layout.link
    assert again.world.vmemmap.format == machine.world.vmemmap.format
    for size in machine.pools:
        assert again.optimized(size).tolist() == machine.optimized(size).tolist()
    again.release(again.default_size, len(again.pool(again.default_size).used[0]))
    again.resize(again.default_size, 0)
    assert again.world.lost == []


@pytest.mark.parametrize(("shape", "era"), EVERY)
def test_frames_that_do_not_matter_are_absent(saved, shape, era):
    machine, memory, _, _ = saved(shape, era)
    head = machine.pool(machine.default_size).heads()[:1].astype(np.uint64)
    assert not memory.readable(head * np.uint64(machine.plan.geometry.page_size)).any()


MODELS = [
    ("arm64-4k", "5.18", "arm64-6.1-4k-off"),
    ("x86", "6.2", "x86-6.12-off"),
    ("arm64-4k", "7.1", "arm64-7.3-stock"),
]


@pytest.mark.parametrize(("shape", "era", "name"), MODELS)
def test_constants_are_those_of_the_era_s_kernels(saved, shape, era, name):
    """Every offset, flag and mark that both export, and no fewer than what the real kernel exports
    of struct page.
    """
    ours, theirs = (
        saved(shape, era).memory.vmcoreinfo.entries,
        open_core(core(name)).vmcoreinfo.entries,
    )
    kinds = (
        "OFFSET(page.",
        "OFFSET(list_head.",
        "OFFSET(mem_section.",
        "SIZE(page)",
        "NUMBER(PG_hw",
        "NUMBER(PG_head",
        "NUMBER(PG_priv",
    )
    marks = (
        "NUMBER(PAGE_BUDDY",
        "NUMBER(PAGE_HUGETLB",
        "NUMBER(HUGETLB",
        "LENGTH(zone.free_area)",
        "NUMBER(SECTION_SIZE_BITS)",
    )
    wanted = {key: value for key, value in theirs.items() if key.startswith((*kinds, *marks))}
    assert len(wanted) > 12
    assert {key: ours.get(key) for key in wanted} == wanted


def test_memory_that_was_added_and_gone_is_told(tmp_path):
    """Sections follow the zones at the time of saving."""
    machine = Machine.build("arm64", 4096, "256MiB", era="7.1")
    start = machine.plan.end - (128 << 20) // 4096
    machine.world.zones.remove(start, machine.plan.end)
    save_core(machine, tmp_path / "less.elf")
    sections = Sections.of(KernelImage.of(open_core(tmp_path / "less.elf")))
    assert start // sections.pages - 1 == sections.numbers[-1]


def test_a_file_that_cannot_be_written_is_refused():
    machine = Machine.build("arm64", 4096, "128MiB")
    with pytest.raises(HvoError, match="/absent/core: cannot write"):
        save_core(machine, Path("/absent/core"))


def test_nodes_are_kept(tmp_path):
    """Two nodes: all heads and free blocks of both, each node's free list by itself."""
    machine = Machine.build("x86_64", 4096, "1GiB", era="6.2", nodes=2)
    machine.resize("2MiB", 40)
    save_core(machine, tmp_path / "two.elf")
    image = KernelImage.of(open_core(tmp_path / "two.elf"))
    sections = Sections.of(image)
    found = hugetlb_heads(image, sections)
    assert found.pfn.tolist() == machine.pool("2MiB").heads().tolist()
    stacks = machine.pool("2MiB").free
    assert sorted(part.tolist() for part in found.free_list(9)) == sorted(
        stacks[node].pages()[::-1].tolist() for node in (0, 1)
    )
    assert memory_map(image, sections).managed_pages == machine.world.zones.managed_pages
