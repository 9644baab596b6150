"""Memory blocks that come and go: nothing is left of them, and nothing that somebody uses goes with
them.
"""

from typing import Any

import numpy as np
import pytest

from hvo.actors.hotplug import EBUSY, Block, add_memory, hosted_pages, memmap_pages, remove_memory
from hvo.kernel.buddy import AllocatorError
from hvo.machine.machine import Machine
from hvo.mmu.access import PageFault
from hvo.mmu.walk import walk
from hvo.steps.base import strided
from hvo.steps.entries import WriteEntry
from hvo.steps.frames import Counter, FreeFrame
from hvo.steps.ordering import Lock
from hvo.steps.struct_pages import InitPage, InitPages
from hvo.vmemmap.context import ENOMEM, EOPNOTSUPP
from hvo.vmemmap.era import era
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
from hvo.world.handlers import HANDLERS, perform
from hvo.world.hotplug import joined, without
from small_machines import EXECUTORS, SHAPES, Turns, dump, load, machine, section_pages

MACHINES = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}-{shape[1]}")


def built(shape=SHAPES[0], variant: Any = "7.1", executor=EXECUTORS[0]) -> Machine:
    return machine(*shape[:3], variant, executor)


def block_of(m: Machine, *, sections: int = 1, away: int = 0, hosts: bool = False) -> Block:
    """A block of so many sections, so many sections behind the machine's memory."""
    pages = section_pages(m)
    return Block(m.plan.end + away * pages, sections * pages, hosts_memmap=hosts)


def state(m: Machine) -> tuple:
    """All that a block could leave behind: free and present frames of every zone, RAM, counters,
    mappings, locks.
    """
    zones = [
        (
            zone.name,
            zone.managed_pages,
            zone.reserved_pages,
            zone.present.starts.tolist(),
            zone.present.ends.tolist(),
        )
        for zone in m.world.zones.zones
    ]
    free = [
        np.sort(np.concatenate([zone.queued_frames(), *_blocks(zone)])).tolist()
        for zone in m.world.zones.zones
    ]
    runs = dump(m)
    tables = [runs.start.tolist(), runs.level.tolist(), runs.bits.tolist()]
    counters = {counter: count for counter, count in m.world.counters.items() if count}
    return zones, free, joined(m.world.memory.ranges), counters, tables, set(m.world.locks)


def _blocks(zone) -> list[np.ndarray]:
    return [
        pfn + np.arange(1 << order)
        for pfn, order in zip(*(part.tolist() for part in zone.free_blocks()), strict=True)
    ]


def add(m: Machine, block: Block) -> int:
    return m.run(add_memory(m.world.vmemmap, m.world.root, block))


def remove(m: Machine, block: Block) -> int:
    return m.run(remove_memory(m.world.vmemmap, m.world.root, block))


def mapping(m: Machine, block: Block):
    v = m.world.vmemmap
    return walk(
        m.world.memory,
        v.format,
        m.world.root,
        strided(v.address(block.start), memmap_pages(v, block), v.page_size),
    )


# -- coming and going --


@MACHINES
def test_a_block_that_comes_and_goes_leaves_nothing(shape):
    m = built(shape)
    before, total = state(m), m.world.zones.managed_pages
    block = block_of(m, sections=2)
    assert add(m, block) == 0
    assert m.world.zones.managed_pages == total + block.pages
    assert m.world.counters[Counter.MEMMAP] == memmap_pages(m.world.vmemmap, block)
    found = mapping(m, block)
    assert found.writable.all()
    assert len(np.unique(found.address)) == memmap_pages(m.world.vmemmap, block)
    assert not m.world.zones.is_free(
        (found.address // np.uint64(m.world.vmemmap.page_size)).astype(np.int64)
    ).any()
    assert remove(m, block) == 0
    assert state(m) == before
    assert not mapping(m, block).valid.any()


@MACHINES
def test_both_executors_add_and_remove_the_same(shape, monkeypatch):
    """Same tables, frames and counters; and struct pages made all at once are as those made one by
    one.
    """
    one, other = (built(shape, executor=executor) for executor in EXECUTORS)
    init = _init(other)
    monkeypatch.setitem(HANDLERS, InitPage, lambda world, step: None)  # two of thousands will do
    before = state(other)
    assert [add(m, block_of(m)) for m in (one, other)] == [0, 0]
    assert state(one) == state(other)
    monkeypatch.undo()
    for pfn in (init.start, init.end - 1):
        perform(other.world, InitPage(pfn, init.node))
        fields = [
            [
                int(load(m, pfn, name))
                for name in ("flags", "refcount", "mapcount", "link", "private")
            ]
            for m in (one, other)
        ]
        assert (
            fields[0]
            == fields[1]
            == [int(load(one, one.plan.end - 1, "flags")), 0, 0xFFFF_FFFF, 0, 0]
        )
    assert [remove(m, block_of(m)) for m in (one, other)] == [0, 0]
    assert state(one) == state(other) == before


def test_one_struct_page_after_the_other_is_made():
    parts = list(InitPages(7, 10, 1).parts())
    assert [(part.pfn, part.node) for part in parts] == [(7, 1), (8, 1), (9, 1)]


def _init(m: Machine) -> InitPages:
    block = block_of(m)
    return InitPages(block.start, block.end, block.node)


@MACHINES
def test_added_memory_serves_huge_pages_that_are_optimised(shape):
    """The pool grows into the block, and once its pages have left again the block can go, with the
    tables that the split made.
    """
    m = built(shape)
    size, block = shape[3], block_of(m, sections=2)
    m.fill(size)
    before, full = state(m), m.pool(size).nr()
    assert add(m, block) == 0
    order = m.hstate(size).order
    m.resize(size, full + (block.pages >> order))
    inside = [head for head in m.pool(size).heads().tolist() if head >= block.start]
    assert len(inside) == block.pages >> order
    assert set(inside) <= set(m.optimized(size).tolist())
    assert remove(m, block) == EBUSY
    for head in inside:
        assert m.dissolve(size, head)
    assert remove(m, block) == 0
    assert state(m) == before  # the zone's shared tail was there before


@pytest.mark.parametrize("hosts", [False, True])
@MACHINES
def test_when_memory_runs_out_at_any_point_nothing_is_left(shape, hosts):
    m = built(shape)
    block = block_of(m, away=512 if shape[1] == 4096 else 0, hosts=hosts)
    before, failures = state(m), 0
    for allowed in range(200):
        m.world.zones.fail_after = allowed
        error = add(m, block)
        m.world.zones.fail_after = None
        if not error:
            break
        failures += 1
        assert error == ENOMEM
        assert state(m) == before
    else:
        pytest.fail("adding never succeeds")
    assert failures > 0
    assert remove(m, block) == 0
    assert state(m) == before


def test_without_a_free_block_for_a_leaf_pages_map_the_struct_pages():
    """`vmemmap_populate_hugepages` falls back to base pages; the table goes again with the
    block.
    """
    m = built()
    zone = m.world.zones.zonelist(0)[0]
    zone.drain()
    taken = np.concatenate([zone.allocate(order, 1 << 20) for order in (10, 9)])
    zone.free_frames(
        taken[:4].repeat(200) + np.tile(np.arange(0, 400, 2), 4)
    )  # every other frame: no two are neighbours
    before = state(m)
    block = block_of(m)
    assert add(m, block) == 0
    assert (mapping(m, block).level == 0).all()
    assert remove(m, block) == 0
    assert state(m) == before


def test_blocks_far_away_take_their_tables_with_them():
    """512 sections on, the block needs a PMD table of its own: it is made, and freed when the block
    goes.
    """
    for shape in (SHAPES[0], SHAPES[3]):
        m = built(shape)
        before = state(m)
        free = m.world.zones.free_pages
        block = block_of(m, away=512)
        assert add(m, block) == 0
        assert (
            m.world.zones.free_pages
            == free + block.pages - memmap_pages(m.world.vmemmap, block) - 1
        )
        assert remove(m, block) == 0
        assert state(m) == before


def test_a_block_in_use_stays():
    m = built()
    block = block_of(m)
    add(m, block)
    assert m.world.zones.zones[-1].allocate_range(block.start + 77, block.start + 78)
    before = state(m)
    assert remove(m, block) == EBUSY
    assert state(m) == before


# -- beside others --


@MACHINES
def test_removing_a_block_leaves_the_optimised_pages_beside_it(shape):
    """Their entries stay as they are, and so do their tables, which with 16K and 64K pages map the
    block as well.
    """
    m = built(shape)
    m.fill(shape[3])
    entries = [m.entries(int(head), shape[3]) for head in m.pool(shape[3]).heads()]
    block = block_of(m)
    assert add(m, block) == 0
    freed = freed_frames(m, block)
    assert [m.entries(int(head), shape[3]) for head in m.pool(shape[3]).heads()] == entries
    tables = {
        int(location) // m.world.vmemmap.page_size for location in _leaf_locations(m, shape[3])
    }
    assert not tables & freed
    assert not m.world.zones.is_free(np.array(sorted(tables))).any()
    spans = m.world.vmemmap.leaf // (
        memmap_pages(m.world.vmemmap, block) * m.world.vmemmap.page_size
    )
    assert spans == {4096: 1, 16384: 64, 65536: 1024}[shape[1]]


def freed_frames(m: Machine, block: Block) -> set[int]:
    """Remove `block` step by step -> the frames that were freed one by one."""
    freed: set[int] = set()

    def watch(name: str, step: Any) -> None:
        if isinstance(step, FreeFrame):
            freed.add(int(step.pfn))

    turns = Turns(m, {"remove": remove_memory(m.world.vmemmap, m.world.root, block)}, watch)
    turns.run("remove")
    assert turns.results == {"remove": 0}
    return freed


def _leaf_locations(m: Machine, size: str) -> list[int]:
    v = m.world.vmemmap
    pages = v.vmemmap_pages(m.hstate(size).order)
    addresses = np.concatenate(
        [strided(v.address(head), pages, v.page_size) for head in m.pool(size).heads()]
    )
    return walk(m.world.memory, v.format, m.world.root, addresses).location.tolist()


@MACHINES
def test_the_last_block_under_a_table_frees_it(shape):
    """With 16K and 64K pages: a block under a table of its own (1024 sections on), and then a
    second one beside it; the second keeps it.
    """
    m = built(shape)
    reach = {4096: 1, 16384: 64, 65536: 1024}[shape[1]]
    away = -(-m.plan.end // (section_pages(m) * reach)) * reach - m.plan.end // section_pages(m)
    first, second = block_of(m, away=away), block_of(m, away=away + 1)
    before = state(m)
    add(m, first)
    add(m, second)
    assert remove(m, first) == 0
    assert mapping(m, second).valid.all()
    assert remove(m, second) == 0
    assert state(m) == before


@MACHINES
def test_entries_change_under_the_hotplug_lock_only(shape):
    m = built(shape)
    block = block_of(m)
    held: list[bool] = []

    def watch(name: str, step: Any) -> None:
        if isinstance(step, WriteEntry | FreeFrame):
            held.append((name, Lock.HOTPLUG) in turns.held)

    m.run(add_memory(m.world.vmemmap, m.world.root, block))
    turns = Turns(m, {"remove": remove_memory(m.world.vmemmap, m.world.root, block)}, watch)
    turns.run("remove")
    assert held
    assert all(held)
    assert not turns.held


# -- blocks that hold their own struct pages --


def test_a_block_that_hosts_its_struct_pages_takes_no_other_memory():
    m = built()
    free = m.world.zones.free_pages
    block = block_of(m, sections=2, hosts=True)
    hosted = hosted_pages(m.world.vmemmap, block)
    assert hosted == memmap_pages(m.world.vmemmap, block) == 1024
    before = state(m)
    assert add(m, block) == 0
    assert m.world.zones.free_pages == free + block.pages - hosted
    assert (mapping(m, block).address // np.uint64(4096) == block.start + np.arange(hosted)).all()
    assert load(m, block.start + np.arange(hosted), "self_hosted").all()
    assert not load(m, block.start + hosted + np.arange(512), "self_hosted").any()
    assert remove(m, block) == 0
    assert state(m) == before


@pytest.mark.parametrize("shape", SHAPES[1:3], ids=lambda shape: f"{shape[0]}-{shape[1]}")
def test_struct_pages_that_fill_no_leaf_are_not_hosted(shape):
    """With 16K and 64K pages the block is an ordinary one."""
    m = built(shape)
    block = block_of(m, hosts=True)
    assert hosted_pages(m.world.vmemmap, block) == 0
    assert add(m, block) == 0
    assert m.world.counters[Counter.MEMMAP] == memmap_pages(m.world.vmemmap, block)


def test_pages_of_such_a_block_are_refused():
    """Hazard H09: without the fix, frames that belong to the block reach the page allocator."""
    for variant, fixed in ((era("7.1"), True), (era("7.1", drop=("refuse-self-hosted",)), False)):
        m = built(variant=variant)
        block = block_of(m, hosts=True)
        add(m, block)
        hosted = block.start + np.arange(hosted_pages(m.world.vmemmap, block))
        head = np.array([block.start + 1024])
        result = m.run(hugetlb_vmemmap_optimize_folios(m.world.vmemmap, 9, head))
        assert (result == EOPNOTSUPP).all() == fixed
        assert m.world.zones.is_free(hosted).any() != fixed
        if fixed:
            assert remove(m, block) == 0


# -- what the premise of hot-remove is worth --


def test_a_block_with_an_optimised_page_must_not_go():
    """The caller's job: were it removed, its shared tails would be freed once for each entry that
    maps them.
    """
    m = built(variant="6.2")
    block = block_of(m)
    add(m, block)
    m.run(hugetlb_vmemmap_optimize_folios(m.world.vmemmap, 9, np.array([block.start + 512])))
    with pytest.raises(AllocatorError, match="free already"):
        remove(m, block)


def test_restored_pages_may_go():
    m = built(variant="6.2")
    before = state(m)
    block = block_of(m)
    add(m, block)
    heads = np.array([block.start + 512, block.start + 1024])
    m.run(hugetlb_vmemmap_optimize_folios(m.world.vmemmap, 9, heads))
    m.run(hugetlb_vmemmap_restore_folios(m.world.vmemmap, 9, heads))
    assert remove(m, block) == 0
    assert state(m) == before


def test_memory_that_is_gone_faults():
    m = built()
    block = block_of(m)
    add(m, block)
    remove(m, block)
    with pytest.raises(PageFault, match="not mapped"):
        load(m, block.start, "flags")


# -- ranges --


def test_ranges_join_and_part():
    assert joined([(5, 6), (0, 2), (2, 3)]) == [(0, 3), (5, 6)]
    assert without([(0, 3), (5, 9)], (2, 6)) == [(0, 2), (6, 9)]
    assert without([(0, 3)], (0, 3)) == []
    with pytest.raises(AllocatorError, match="RAM already"):
        joined([(0, 3), (2, 4)])
