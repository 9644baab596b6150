"""The audit of saved machines: every era and shape, the defects that the mechanism can leave, and
blocks that host their own vmemmap.
"""

import numpy as np
import pytest

from hvo.actors.hotplug import Block, add_memory
from hvo.audit.audit import audit
from hvo.machine.cores.save import save_core
from hvo.memory.core import open_core
from hvo.vmemmap.era import parse_variant
from small_machines import SHAPES, machine

LAYOUTS = {"5.14": "two-kept", "5.18": "head-shared", "6.2": "head-shared", "7.1": "tail-shared"}
KEPT = {"5.14": 2, "5.18": 1, "6.2": 1, "7.1": 1}


def audited(m, tmp_path):
    """What the audit finds in the machine, saved."""
    save_core(m, tmp_path / "machine.elf")
    return audit(open_core(tmp_path / "machine.elf"))


@pytest.mark.parametrize("era", LAYOUTS)
@pytest.mark.parametrize(("arch", "page_size", "memory", "size"), SHAPES)
def test_a_mixed_pool_of_every_era(tmp_path, arch, page_size, memory, size, era):
    """Some pages optimised, then more that are not: layout, pages, frames and savings as the
    machine has them, and no finding.
    """
    m = machine(arch, page_size, memory, parse_variant(era))
    if page_size == 4096:
        m.resize(size, 5)
        m.set_gate(False)
        m.resize(size, 9)
    else:
        m.resize(size, 1)
    found = audited(m, tmp_path)
    (pool,) = found.pools
    optimised = m.optimized(size)
    assert len(optimised)
    assert found.findings == ()
    assert found.layout == LAYOUTS[era]
    assert pool.pfn.tolist() == m.pool(size).heads().tolist()
    assert pool.pfn[pool.state == 1].tolist() == sorted(optimised.tolist())
    each = pool.vmemmap_pages - KEPT[era]
    assert pool.counts.saved == len(optimised) * each * page_size
    assert (
        pool.counts.possible
        == (len(pool.pfn) - len(optimised)) * (each if found.layout != "none" else 7) * page_size
    )
    assert pool.backing_frames == len(pool.pfn) * pool.vmemmap_pages - len(optimised) * each + (
        era == "7.1"
    )


@pytest.mark.parametrize("era", LAYOUTS)
def test_gigantic_pages(tmp_path, era):
    """A page across many leaves."""
    m = machine("x86_64", 4096, "2GiB", parse_variant(era))
    m.resize("1GiB", 1)
    found = audited(m, tmp_path)
    assert (found.layout, found.findings) == (LAYOUTS[era], ())
    assert found.pools[0].counts.saved == (4096 - KEPT[era]) * 4096


def test_two_nodes(tmp_path):
    """Each with its own counts; a frame of tails belongs to one node's zone."""
    from hvo.machine.machine import Machine

    m = Machine.build("x86_64", 4096, "256MiB", era="7.1", nodes=2)
    m.resize("2MiB", 6, node=0)
    m.resize("2MiB", 3, node=1)
    found = audited(m, tmp_path)
    assert found.findings == ()
    assert {node: counts.pages for node, counts in found.pools[0].nodes.items()} == {0: 6, 1: 3}


def test_pages_restored_without_reset(tmp_path):
    """H19: every page that was optimised and given back is lost, with seven frames each."""
    m = machine("x86_64", 4096, "256MiB", parse_variant("6.2-reset-tails"))
    m.resize("2MiB", 8)
    heads = m.pool("2MiB").heads()
    m.resize("2MiB", 3)
    lost = sorted(set(heads.tolist()) - set(m.pool("2MiB").heads().tolist()))
    found = audited(m, tmp_path)
    assert [(finding.id, finding.pfn) for finding in found.findings] == [
        ("lost-page", pfn) for pfn in lost
    ]
    assert [(page.pfn, page.frames, page.size) for page in found.lost] == [
        (pfn, 7, 2 << 20) for pfn in lost
    ]


@pytest.mark.parametrize("era", ["5.18", "6.2-refuse-self-hosted", "7.1-refuse-self-hosted"])
def test_an_optimised_block_that_hosts_its_own_vmemmap(tmp_path, era):
    """H09: found in each page of the block, and in no other."""
    m = machine("x86_64", 4096, "256MiB", parse_variant(era))
    v = m.world.vmemmap
    start = -(-m.plan.end // v_section(m)) * v_section(m)
    m.run(add_memory(v, m.world.root, Block(start, v_section(m), 0, hosts_memmap=True)))
    m.resize("2MiB", (m.world.zones.free_pages >> 9) - 8)
    inside = [pfn for pfn in m.optimized("2MiB").tolist() if pfn >= start]
    assert inside
    found = audited(m, tmp_path)
    assert [(finding.id, finding.pfn) for finding in found.findings] == [
        ("self-hosted", pfn) for pfn in sorted(inside)
    ]


def v_section(m):
    """Frames of a section."""
    return m.plan.geometry.section_size // m.plan.geometry.page_size


def test_a_self_hosted_block_that_was_refused(tmp_path):
    """Its pages are plain, and there is nothing to find."""
    m = machine("x86_64", 4096, "256MiB", parse_variant("7.1"))
    start = -(-m.plan.end // v_section(m)) * v_section(m)
    m.run(
        add_memory(m.world.vmemmap, m.world.root, Block(start, v_section(m), 0, hosts_memmap=True))
    )
    m.resize("2MiB", (m.world.zones.free_pages >> 9) - 8)
    assert (m.pool("2MiB").heads() >= start).any()
    assert not (m.optimized("2MiB") >= start).any()
    assert audited(m, tmp_path).findings == ()


def test_what_is_found_is_what_the_tables_say(tmp_path):
    """Optimise and restore in turns: after each the audit agrees with the machine."""
    m = machine("arm64", 4096, "256MiB", parse_variant("6.2"))
    for pages in (10, 4, 12, 0):
        m.resize("2MiB", pages)
        found = audited(m, tmp_path)
        assert found.findings == ()
        assert sum(pool.counts.optimized for pool in found.pools) == len(m.optimized("2MiB"))
        assert (
            np.array_equal(found.pools[0].pfn, m.pool("2MiB").heads()) if pages else not found.pools
        )
