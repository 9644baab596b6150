"""The argument that hot-remove cannot race with optimised HugeTLB pages, checked for every
geometry.

Memory goes away section by section. What a remap touches is one last-level table (a leaf, before it
is split), so the question is who else is mapped by the same table.
"""

from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.layout.geometry import GEOMETRIES, Geometry
from hvo.layout.units import format_size
from hvo.machine.boot.build import VMEMMAP_BASE
from hvo.mmu.formats import format_for

WHOLE, SECTION, EMPTY = (
    "whole tables",
    "neighbours of the same section",
    "a table is freed only when it is empty",
)


@dataclass(frozen=True)
class Argument:
    """One HugeTLB size of one geometry: how much memory one last-level table covers (bytes), and
    which argument carries it.
    """

    geometry: Geometry
    size: int
    covers: int
    carried_by: str

    @property
    def premise_holds(self) -> bool:
        """Whether the argument made for 4 KiB base pages applies."""
        return self.carried_by != EMPTY

    def __str__(self) -> str:
        shape = self.geometry
        return f"{shape.arch} {format_size(shape.page_size)}/{format_size(self.size)}"


def arguments() -> list[Argument]:
    """Every row of the geometry table that can be optimised, with the argument that carries it."""
    return [
        Argument(shape, huge.size, covers, _carrier(shape, huge.size, covers))
        for shape in GEOMETRIES.values()
        for covers in [covered_by_table(shape)]
        for huge in shape.hugepages
        if shape.vmemmap_pages(huge.size)
    ]


def covered_by_table(shape: Geometry) -> int:
    """Bytes of memory whose struct pages one last-level table maps."""
    entries = shape.page_size // 8
    span = entries * shape.page_size
    try:
        bits, _ = VMEMMAP_BASE[shape.arch, shape.page_size]
        span = format_for(shape.arch, shape.page_size, bits).span(1)
    except (KeyError, HvoError):
        pass  # no format of ours (loongarch64): there as everywhere a table fills a page
    return span // shape.struct_page_size * shape.page_size


def _carrier(shape: Geometry, size: int, covers: int) -> str:
    """Naturally aligned powers of two share no table when they fill whole ones; smaller ones share
    it, in one section or beyond.
    """
    if size % covers == 0 and size >= shape.section_size:
        return WHOLE
    if covers <= shape.section_size:
        return SECTION
    return EMPTY
