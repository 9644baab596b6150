"""The kernel's own data in a machine that was built: what a dump reader looks for, in frames mapped
where a kernel's image is.

The frames hold the list heads of the HugeTLB pools and `mem_section[]` in its SPARSEMEM_EXTREME
form (mm/sparse.c): an array of pointers to page-sized arrays of `struct mem_section`. They are
written when the machine is saved (`hvo.machine.cores.save`).
"""

from dataclasses import dataclass

PHYSICAL_BITS = {
    ("x86_64", 48): 46,
    ("x86_64", 57): 52,
    ("arm64", 47): 48,
    ("arm64", 48): 48,
    ("riscv64", 48): 56,
}
"""MAX_PHYSMEM_BITS by architecture and bits of a virtual address (arch/*/include/asm/sparsemem.h).
"""

_X86_IMAGE = 0xFFFF_FFFF_8000_0000
_RISCV_IMAGE = 0xFFFF_FFFF_8000_0000
MEM_SECTION_SIZE = 16
"""Bytes of a `struct mem_section`."""


@dataclass(frozen=True)
class KernelData:
    """Where the kernel's own data lies: `frame` is its first frame, `image` what a virtual address
    is more than the physical one.

    `sections` is how many sections its arrays describe, `section_bits` log2 of a section's bytes.
    """

    page_size: int
    frame: int
    image: int
    sections: int
    section_bits: int
    physical_bits: int

    @property
    def root_count(self) -> int:
        """Pointers in `mem_section[]`: for every section that physical addresses could reach
        (LENGTH(mem_section)).
        """
        return (1 << (self.physical_bits - self.section_bits)) // self.sections_per_root

    @property
    def sections_per_root(self) -> int:
        """Sections that one of the arrays behind a pointer describes."""
        return self.page_size // MEM_SECTION_SIZE

    @property
    def roots(self) -> int:
        """Physical address of `mem_section[]`, behind the page of list heads."""
        return (self.frame + 1) * self.page_size

    @property
    def arrays(self) -> int:
        """Physical address of the first array of `struct mem_section`."""
        return self.roots + _pages(self.root_count * 8, self.page_size) * self.page_size

    @property
    def pages(self) -> int:
        """Frames that all of it takes."""
        return (
            self.arrays // self.page_size
            - self.frame
            + _pages(self.sections, self.sections_per_root)
        )

    def virtual(self, physical: int) -> int:
        """The virtual address of the kernel's own data at `physical`."""
        return (physical + self.image) % (1 << 64)


def kernel_data(
    arch: str, va_bits: int, page_size: int, frame: int, sections: int, section_size: int
) -> KernelData:
    """Lay out the kernel's own data from `frame` on, for up to `sections` sections."""
    bits = section_size.bit_length() - 1
    return KernelData(
        page_size, frame, _image(arch, va_bits), sections, bits, PHYSICAL_BITS[arch, va_bits]
    )


def _image(arch: str, va_bits: int) -> int:
    """Where kernels map physical address 0 for their image, when nothing randomises it; arm64's
    lies behind 2 GiB for modules.
    """
    if arch == "arm64":
        return (1 << 64) - (1 << (va_bits - 1)) + (1 << 31)
    return _X86_IMAGE if arch == "x86_64" else _RISCV_IMAGE


def _pages(count: int, each: int) -> int:
    return -(-count // each)
