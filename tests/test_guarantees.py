"""The guarantees hold on machines of every kind, and each can fail: breaking what it is about makes
it say so.
"""

from dataclasses import replace

import numpy as np
import pytest

from hvo.layout.geometry import GEOMETRIES
from hvo.machine.run import alignment, guarantees
from hvo.machine.run.shape import Shape
from hvo.steps.entries import TableIsEmpty
from hvo.steps.frames import AllocateFrames
from hvo.vmemmap import split
from hvo.vmemmap.era import era
from hvo.world.handlers import HANDLERS

MIB = 1 << 20


def shape(
    arch: str = "arm64", page_size: int = 4096, size: int = 2 * MIB, name: str = "7.1"
) -> Shape:
    return Shape(arch, page_size, size, GEOMETRIES[arch, page_size].section_size, era(name))


CHECKS = [
    guarantees.dcache_head,
    guarantees.hot_remove,
    guarantees.ptdump,
    guarantees.restore_fails_safe,
    guarantees.gate,
]
SHAPES = [
    shape(),
    shape(name="5.14"),
    shape(name="5.18"),
    shape("x86_64", name="6.2"),
    shape("riscv64"),
    shape("arm64", 16384, 32 * MIB),
    pytest.param(shape("arm64", 65536, 512 * MIB, "5.18"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("of", SHAPES, ids=lambda of: f"{of.arch}-{of.page_size}-{of.era.name}")
def test_the_guarantee_holds(check, of: Shape) -> None:
    guarantee = check(of)
    assert guarantee.holds, guarantee.evidence


def test_dcache_head_fails_without_the_fix(monkeypatch) -> None:
    """A flush that uses the page's own flags: with the gate off it leaves the head's alone, which
    the guarantee notices.
    """

    def own_flags(v, pfn):
        return (
            yield from guarantees_flush(
                replace(v, era=replace(v.era, fixes=v.era.fixes - {"dcache-head"})), pfn
            )
        )

    guarantees_flush = guarantees.flush_dcache_page
    monkeypatch.setattr(guarantees, "flush_dcache_page", own_flags)
    of = shape()
    assert guarantees._touched_by_flushes(of.machine(1, gate=False), of.size)[0] > 0


def test_hot_remove_fails_when_tables_are_freed_unseen(monkeypatch) -> None:
    """With 16 KiB pages one table maps 64 sections: a removal that takes it for empty breaks the
    neighbours.
    """
    monkeypatch.setitem(HANDLERS, TableIsEmpty, lambda world, step: True)
    assert not guarantees.hot_remove(shape("arm64", 16384, 32 * MIB)).holds


def test_ptdump_fails_when_a_split_maps_something_else(monkeypatch) -> None:
    """A table that is filled one page off shows entries that are neither old nor new."""
    right = split.table_of_leaf
    monkeypatch.setattr(split, "table_of_leaf", lambda v, leaf: np.roll(right(v, leaf), 1, axis=-1))
    assert not guarantees.ptdump(shape()).holds


def test_restore_fails_safe_notices_a_lost_frame(monkeypatch) -> None:
    """An allocator that keeps what it took before it was refused loses frames."""

    def keeps(world, step):
        node, only = int(step.node), step.this_node_only
        allowed = world.zones.allowed(step.count, node, this_node_only=only)
        frames = world.zones.allocate_upto(allowed, node, this_node_only=only)
        return frames if allowed == step.count else None

    monkeypatch.setitem(HANDLERS, AllocateFrames, keeps)
    assert not guarantees.restore_fails_safe(shape()).holds


def test_gate_notices_a_switch_that_is_ignored(monkeypatch) -> None:
    from hvo.kernel.hugetlb import Gate

    monkeypatch.setattr(Gate, "on", property(lambda self: self.built_in))
    assert not guarantees.gate(shape()).holds


def test_alignment_argument_row_by_row() -> None:
    """With 4 KiB base pages alignment carries every size; where a table spans many sections only
    freeing empty tables does.
    """
    carried = {str(argument): argument for argument in alignment.arguments()}
    assert len(carried) == sum(
        bool(shape.vmemmap_pages(huge.size))
        for shape in GEOMETRIES.values()
        for huge in shape.hugepages
    )
    for name, argument in carried.items():
        assert argument.premise_holds is (" 4KiB/" in name), name
    assert carried["arm64 4KiB/2MiB"].carried_by == alignment.SECTION
    assert carried["arm64 4KiB/1GiB"].carried_by == alignment.WHOLE
    sections = {
        name: argument.covers // argument.geometry.section_size
        for name, argument in carried.items()
    }
    assert (
        sections["arm64 16KiB/32MiB"],
        sections["arm64 64KiB/512MiB"],
        sections["loongarch64 16KiB/32MiB"],
    ) == (64, 1024, 16)
