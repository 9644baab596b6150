"""Which HugeTLB sizes an architecture has with which base page, and what their struct pages cost.

A HugeTLB page of n base pages owns n struct pages, hence `n * sizeof(struct page) / page_size`
pages of vmemmap. It can be optimised when that is more than the era keeps, and when the size of
`struct page` is a power of two: otherwise a struct page straddles two vmemmap pages, and sharing
one of them corrupts it (`hugetlb_vmemmap_optimizable_size()`).
"""

from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.layout.eras import era_layout
from hvo.layout.units import format_size

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class HugepageSize:
    """One HugeTLB size in bytes, and the entry that maps such a page: a PMD or PUD leaf, or a
    contiguous group.
    """

    size: int
    kind: str


@dataclass(frozen=True)
class Geometry:
    """One architecture with one base page size; every size is in bytes."""

    arch: str
    page_size: int
    section_size: int
    """Memory that one section of the memory map describes."""
    vmemmap_leaf: int | None
    """Size of the leaf that maps the vmemmap, `None` where base pages do."""
    hugepages: tuple[HugepageSize, ...]
    struct_page_size: int = 64

    def vmemmap_pages(self, size: int) -> int:
        """Whole vmemmap pages that the struct pages of a HugeTLB page of `size` fill: 0 when less
        than one.
        """
        return self._known(size) // self.page_size * self.struct_page_size // self.page_size

    def optimizable(self, size: int, era: str) -> bool:
        """Whether the kernels of `era` can optimise HugeTLB pages of `size`."""
        power_of_two = self.struct_page_size.bit_count() == 1
        return power_of_two and self.vmemmap_pages(size) > era_layout(era).kept_pages

    def freed_pages(self, size: int, era: str) -> int:
        """Vmemmap pages that optimising a HugeTLB page of `size` gives back, net of a new head; 0
        if it cannot be.
        """
        return (
            self.vmemmap_pages(size) - era_layout(era).kept_pages
            if self.optimizable(size, era)
            else 0
        )

    def saved_bytes(self, size: int, era: str) -> int:
        """Bytes that optimising one HugeTLB page of `size` gives back, before the cost of split
        leaves.
        """
        return self.freed_pages(size, era) * self.page_size

    def cost_bytes(self, memory: int) -> int:
        """Bytes of struct pages that describe `memory` bytes; raises `HvoError` unless it is whole
        base pages.
        """
        if memory % self.page_size:
            raise HvoError(
                f"memory of {memory} bytes: expected a multiple of the"
                f" {format_size(self.page_size)} base page"
            )
        return memory // self.page_size * self.struct_page_size

    def leaf_tables(self, memory: int) -> int:
        """Page-table frames that splitting every vmemmap leaf of `memory` bytes costs: 0 where base
        pages map it.
        """
        return -(-self.cost_bytes(memory) // self.vmemmap_leaf) if self.vmemmap_leaf else 0

    def _known(self, size: int) -> int:
        if size not in (huge.size for huge in self.hugepages):
            accepted = ", ".join(format_size(huge.size) for huge in self.hugepages)
            raise HvoError(
                f"HugeTLB size {format_size(size)}: {self.arch} with {format_size(self.page_size)}"
                f" pages has {accepted}"
            )
        return size


def _row(
    arch: str,
    page_size: int,
    section: int,
    leaf: int | None,
    hugepages: tuple[tuple[int, str], ...],
) -> tuple[tuple[str, int], Geometry]:
    return (arch, page_size), Geometry(
        arch, page_size, section, leaf, tuple(HugepageSize(*huge) for huge in hugepages)
    )


_4K, _16K, _64K = 4 * _KIB, 16 * _KIB, 64 * _KIB

GEOMETRIES: dict[tuple[str, int], Geometry] = dict(
    (
        _row("x86_64", _4K, 128 * _MIB, 2 * _MIB, ((2 * _MIB, "pmd"), (_GIB, "pud"))),
        _row(
            "arm64",
            _4K,
            128 * _MIB,
            2 * _MIB,
            ((64 * _KIB, "cont-pte"), (2 * _MIB, "pmd"), (32 * _MIB, "cont-pmd"), (_GIB, "pud")),
        ),
        _row(
            "arm64",
            _16K,
            128 * _MIB,
            None,
            ((2 * _MIB, "cont-pte"), (32 * _MIB, "pmd"), (_GIB, "cont-pmd")),
        ),
        _row(
            "arm64",
            _64K,
            512 * _MIB,
            None,
            ((2 * _MIB, "cont-pte"), (512 * _MIB, "pmd"), (16 * _GIB, "cont-pmd")),
        ),
        _row(
            "riscv64",
            _4K,
            128 * _MIB,
            2 * _MIB,
            ((64 * _KIB, "svnapot"), (2 * _MIB, "pmd"), (_GIB, "pud")),
        ),
        _row("loongarch64", _16K, 512 * _MIB, 32 * _MIB, ((32 * _MIB, "pmd"),)),
    )
)
"""Every supported combination by architecture and base page size in bytes."""


def geometry(arch: str, page_size: int) -> Geometry:
    """The geometry of `arch` with base pages of `page_size` bytes; raises `HvoError` that lists
    what there is.

    Another size of `struct page` is `dataclasses.replace(geometry(...), struct_page_size=...)`.
    """
    if (arch, page_size) in GEOMETRIES:
        return GEOMETRIES[arch, page_size]
    sizes = [format_size(known) for name, known in GEOMETRIES if name == arch]
    if not sizes:
        arches = ", ".join(dict.fromkeys(name for name, _ in GEOMETRIES))
        raise HvoError(f"unknown architecture {arch!r}: expected one of {arches}")
    raise HvoError(f"base page of {format_size(page_size)}: {arch} has {', '.join(sizes)}")
