"""The actors that write to struct pages: cache flags, memory failure, and page-frame walkers that
take references.
"""

from functools import partial

import numpy as np
import pytest

from hvo.actors.dcache import flush_dcache_page, sync_icache_dcache
from hvo.actors.hugetlb import set_max_huge_pages
from hvo.actors.memory_failure import memory_failure
from hvo.actors.walker import (
    SPECULATIONS,
    compound_head,
    folio_try_get,
    page_huge,
    page_ref_add_unless,
)
from hvo.machine.machine import Machine
from hvo.mmu.access import PageFault
from hvo.steps.base import ForEach
from hvo.steps.entries import WriteEntry
from hvo.steps.ordering import Release, SynchronizeReaders
from hvo.steps.struct_pages import IncrementUnlessZero, PrepareCompound, StorePage, TestPage
from hvo.vmemmap.era import era
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.world.handlers import perform
from small_machines import EXECUTORS, SHAPES, Turns, load, machine, store, variants

ERAS = pytest.mark.parametrize("variant", variants(), ids=lambda each: each.name)


def with_pages(
    variant, pages=4, executor=EXECUTORS[0], shape=SHAPES[0]
) -> tuple[Machine, np.ndarray, int]:
    """A machine with a pool of optimised pages, their heads, and their order."""
    arch, page_size, memory, size = shape
    m = machine(arch, page_size, memory, variant, executor)
    m.resize(size, pages)
    heads = m.pool(size).heads()
    assert len(heads) == pages
    assert len(m.optimized(size)) == pages
    return m, heads, m.hstate(size).order


def subpages(head: int, order: int) -> np.ndarray:
    return int(head) + np.arange(1 << order)


def for_each(m: Machine, actor, pfns) -> None:
    """Run `actor` for each of `pfns`, as one step that the executor may do at once."""

    def block():
        yield from ForEach(partial(actor, m.world.vmemmap), np.asarray(pfns, np.int64))

    m.run(block())


# -- compound_head --


@ERAS
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}-{shape[1]}")
def test_every_subpage_of_an_optimised_page_knows_its_head(variant, shape):
    """Also those whose struct page shows the head's own (fake heads); before and after restore."""
    m, heads, order = with_pages(variant, pages=1, shape=shape)
    head, per_page = int(heads[0]), m.world.vmemmap.structs_per_page
    end = head + (1 << order)
    pfns = {head, end - 1, *range(head, end, per_page), *range(head, end, per_page // 2 + 1)}
    assert {int(m.run(compound_head(m.world.vmemmap, pfn))) for pfn in pfns} == {head}
    m.restore(shape[3])
    assert {int(m.run(compound_head(m.world.vmemmap, pfn))) for pfn in pfns} == {head}


def test_fake_heads_are_there_to_be_found():
    """In 5.18 struct page 64 has the head flag and no link: without the test it would be taken for
    a head.
    """
    m, heads, _ = with_pages(era("5.18"))
    fake = int(heads[0]) + 64
    assert int(load(m, fake, "head")) == 1
    assert int(load(m, fake, "link")) & 1 == 0
    assert int(m.run(compound_head(m.world.vmemmap, fake))) == heads[0]


@ERAS
def test_a_page_by_itself_is_no_huge_page(variant):
    m, heads, order = with_pages(variant)
    v = m.world.vmemmap
    alone = int(m.plan.nodes[0].memory[1]) - 1
    assert int(m.run(compound_head(v, alone))) == alone
    assert m.run(page_huge(v, alone)) is False
    assert all(m.run(page_huge(v, int(pfn))) for pfn in subpages(heads[0], order)[::37])


# -- the cache flag --


@ERAS
@pytest.mark.parametrize("executor", EXECUTORS)
def test_flushing_any_subpage_touches_only_the_heads_flag(variant, executor):
    """With the fix: no fault, the head's flag goes and comes, and no tail gets one."""
    fixed = era(variant.name, add=("dcache-head",))
    m, heads, order = with_pages(fixed, executor=executor)
    head, pfns = int(heads[0]), subpages(heads[0], order)
    if executor is EXECUTORS[1]:
        pfns = np.unique(np.concatenate([pfns[::64], pfns[::29]]))
    tails = pfns[(pfns - head) % 64 != 0]  # the others may show the head itself
    for_each(m, sync_icache_dcache, pfns[::-1])
    assert int(load(m, head, "dcache_clean")) == 1
    assert not load(m, tails, "dcache_clean").any()
    for_each(m, flush_dcache_page, pfns)
    assert int(load(m, head, "dcache_clean")) == 0
    assert not load(m, heads, "dcache_clean").any()


@ERAS
def test_before_the_fix_the_flag_of_a_tail_is_written_and_faults(variant):
    """Hazard H02, on every subpage whose struct page is read-only, and on no other."""
    m, heads, order = with_pages(
        era(variant.name, drop=("dcache-head",)) if variant.has("dcache-head") else variant
    )
    kept = 64 * variant.layout.kept_pages
    for pfn in subpages(heads[0], order)[::13].tolist():
        if pfn - heads[0] < kept:
            m.run(sync_icache_dcache(m.world.vmemmap, pfn))
            continue
        with pytest.raises(PageFault, match="write to a read-only page"):
            m.run(sync_icache_dcache(m.world.vmemmap, pfn))


def test_before_the_fix_a_flush_faults_where_the_flag_is_seen():
    """5.18: struct page 64 shows the head's flags; clearing the flag there is a write to a
    read-only page.
    """
    m, heads, _ = with_pages(era("5.18", drop=("dcache-head",)))
    store(m, int(heads[0]), "dcache_clean", 1)
    with pytest.raises(PageFault, match="read-only"):
        m.run(flush_dcache_page(m.world.vmemmap, int(heads[0]) + 64))


@pytest.mark.parametrize("fixed", [True, False])
def test_with_the_gate_off_both_are_right(fixed):
    """Nothing is read-only then: the fix goes by the head, the older code by the tail itself."""
    variant = era("5.18") if fixed else era("5.18", drop=("dcache-head",))
    m = machine(variant=variant)
    m.set_gate(False)
    m.resize("2MiB", 2)
    head = int(m.pool("2MiB").heads()[0])
    m.run(sync_icache_dcache(m.world.vmemmap, head + 300))
    assert [int(load(m, pfn, "dcache_clean")) for pfn in (head, head + 300)] == (
        [1, 0] if fixed else [0, 1]
    )
    m.run(flush_dcache_page(m.world.vmemmap, head + 300))
    assert not load(m, subpages(head, 9), "dcache_clean").any()


# -- memory failure --


@ERAS
def test_memory_failure_marks_the_head_of_a_huge_page(variant):
    m, heads, _ = with_pages(variant)
    assert m.run(memory_failure(m.world.vmemmap, int(heads[1]) + 400)) == heads[1]
    assert load(m, heads, "hwpoison").tolist() == [0, 1, 0, 0]
    assert not m.world.locks


@ERAS
def test_errors_move_to_the_broken_pages_when_the_page_is_given_back(variant):
    """The head's mark goes, and the pages that were recorded are marked themselves, on a vmemmap
    that is whole again.
    """
    m, heads, _ = with_pages(variant)
    broken = np.append(heads + 9, heads[1] + 400)
    for pfn in broken.tolist():
        m.run(memory_failure(m.world.vmemmap, pfn))
    m.resize("2MiB", 0)
    assert load(m, broken, "hwpoison").all()
    assert not load(m, heads, "hwpoison").any()


def test_memory_failure_marks_an_ordinary_page_itself():
    m = machine()
    pfn = int(m.plan.nodes[0].memory[0]) + 5
    assert m.run(memory_failure(m.world.vmemmap, pfn)) == pfn
    assert int(load(m, pfn, "hwpoison")) == 1


@pytest.mark.parametrize(("name", "fix"), [("5.18", "mark-first"), ("5.18", "mark-until-restored")])
def test_a_late_or_early_mark_makes_memory_failure_write_a_tail(name, fix):
    """H07 (growing) and H06 (shrinking): somewhere on the way the page is optimised and has no
    mark; with the fix nowhere.
    """
    for fixed in (False, True):
        m = machine(variant=era(name, add=(fix,)) if fixed else era(name))
        if fix == "mark-until-restored":
            m.resize("2MiB", 2)
        assert (
            any(_poison_faults_on_the_way(m, 0 if fix == "mark-until-restored" else 2)) is not fixed
        )


def _poison_faults_on_the_way(m: Machine, target: int):
    """At each step of resizing the pool, whether memory failure on a tail of the page that comes or
    goes first would fault.
    """
    turns = Turns(m, {"pool": set_max_huge_pages(m.world.vmemmap, m.hstate("2MiB"), target)})
    heads = m.pool("2MiB").heads()
    tail = int(heads[-1] if heads.size else m.plan.nodes[0].memory[0]) + 400
    while (step := turns.next.get("pool")) and turns.step("pool"):
        if isinstance(step, WriteEntry | StorePage | Release):
            yield _poison_faults(m, tail)


def _poison_faults(m: Machine, pfn: int) -> bool:
    try:
        marked = m.run(memory_failure(m.world.vmemmap, pfn))
    except PageFault:
        return True
    store(m, marked, "hwpoison", 0)
    return False


# -- page-frame walkers --


def stale_walk(variant, how: str, pages: int = 1):
    """A walker that looked at struct page 64 of a page before it was optimised, and goes on after
    it is in use.

    The walker begins when optimise has waited for readers, and is stopped before it looks at the
    second thing.
    """
    m = machine(variant=variant)
    m.set_gate(False)
    m.resize("2MiB", pages)
    head = int(m.pool("2MiB").heads()[0])
    v = m.world.vmemmap
    optimise = hugetlb_vmemmap_optimize_folios(v, 9, np.array([head]))
    turns = Turns(
        m, {"optimise": optimise, "walker": page_ref_add_unless(v, head + 64, SPECULATIONS[how])}
    )
    assert turns.until("optimise", SynchronizeReaders)
    assert turns.until("walker", TestPage)
    turns.run("optimise")
    perform(m.world, StorePage(head, "refcount", 1))
    turns.run("walker")
    return turns.results["walker"], int(load(m, head, "refcount"))


def test_a_walker_that_looks_for_fake_heads_first_writes_a_tail():
    """Hazard H03b, in kernels from 6.10 on."""
    with pytest.raises(PageFault, match="read-only"):
        stale_walk("6.2", "6.10")


def test_a_walker_that_looks_at_the_count_first_does_not():
    """The count of a tail is 0 before, and after that it would find the fake head (6.13)."""
    assert stale_walk("6.2", "6.13") == (False, 1)


@pytest.mark.parametrize(("how", "faults"), [("5.14", True), ("6.10", False), ("6.13", False)])
def test_a_fake_head_in_use_looks_as_if_it_could_be_taken(how, faults):
    """Without looking, an increment through struct page 64 of a page in use meets the read-only
    mapping (H03a's last step).
    """
    m, heads, _ = with_pages(era("5.18"))
    m.use("2MiB", 4)
    walker = page_ref_add_unless(m.world.vmemmap, int(heads[0]) + 64, SPECULATIONS[how])
    if faults:
        with pytest.raises(PageFault):
            m.run(walker)
    else:
        assert m.run(walker) is False


def test_a_walker_stays_in_its_read_side_section_until_it_is_done():
    m, heads, _ = with_pages(era("6.2"))
    m.use("2MiB", 4)
    steps = []
    walker = page_ref_add_unless(m.world.vmemmap, int(heads[0]), SPECULATIONS["6.13"])
    turns = Turns(m, {"walker": walker}, lambda _, step: steps.append(step))
    turns.run("walker")
    assert turns.results["walker"] is True
    names = [type(step).__name__ for step in steps]
    assert names[0] == "EnterReadSection"
    assert names[-1] == "LeaveReadSection"
    assert isinstance(steps[-2], IncrementUnlessZero)


@ERAS
def test_a_reference_on_any_subpage_goes_to_the_head(variant):
    m, heads, order = with_pages(variant)
    m.use("2MiB", 4)
    v, head = m.world.vmemmap, int(heads[2])
    how = SPECULATIONS["7.1" if variant.name == "7.1" else "6.13"]
    for pfn in subpages(head, order)[::100].tolist():
        assert m.run(folio_try_get(v, pfn, how)) == head
    assert load(m, heads, "refcount").tolist() == [1, 1, 7, 1]


def test_a_page_that_nobody_uses_is_not_taken():
    m, heads, _ = with_pages(era("7.1"))
    assert m.run(folio_try_get(m.world.vmemmap, int(heads[0]) + 3, SPECULATIONS["7.1"])) is None
    assert int(load(m, int(heads[0]), "refcount")) == 0


def test_a_reference_is_dropped_when_the_page_changed_its_head_meanwhile():
    """The page is made compound between the first look and the second: the walker lets go of what
    it took.
    """
    m = machine()
    first = int(m.plan.nodes[0].memory[0])
    store(m, first + 3, "refcount", 2)
    turns = Turns(m, {"walker": folio_try_get(m.world.vmemmap, first + 3, SPECULATIONS["7.1"])})
    assert turns.until("walker", IncrementUnlessZero)
    assert int(load(m, first + 3, "refcount")) == 3
    m.run(_compound(first))
    turns.run("walker")
    assert turns.results["walker"] is None
    assert int(load(m, first + 3, "refcount")) == 2


def _compound(first: int):
    yield from PrepareCompound(first, 9)
