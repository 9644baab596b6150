"""A kernel's own address space: where its page tables are, how they are laid out, and reading
through them.

Known from VMCOREINFO alone, as crash, makedumpfile and drgn do it; nothing depends on a version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.memory.interface import Memory, Words
from hvo.memory.strided import read_strided
from hvo.memory.vmcoreinfo import VmcoreInfo
from hvo.mmu.formats import Format, format_for
from hvo.mmu.walk import walk

_WORD = 1 << 64
_X86_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
_LOONG_WINDOW, _LOONG_WINDOW_MASK = np.uint64(0x9000 << 48), np.uint64(0xFFFF << 48)
_LOONG_PHYSICAL = np.uint64((1 << 48) - 1)
"""The cached direct mapping window (CSR_DMW1): no table translates it, and the kernel's image and
linear mapping lie in it (`arch/loongarch/include/asm/addrspace.h`).
"""
_LOONG_VA_BITS = {16384: 47}
"""Not exported: 16K pages and three levels are what kernels are built with (`16KB_3LEVEL`)."""


class KernelMemory(Memory, Protocol):
    """Physical memory with a kernel in it that tells its constants."""

    @property
    def arch(self) -> str:
        """Architecture: "x86_64", "arm64", "riscv64" or "loongarch64"."""
        ...

    @property
    def vmcoreinfo(self) -> VmcoreInfo:
        """The kernel's constants."""
        ...


class Translated(NamedTuple):
    """Physical `addresses` (uint64) of virtual ones, and which of them are mapped (`valid`, bool);
    in their shape.
    """

    addresses: Words
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class KernelImage:
    """The kernel in `memory`: its page-table `format`, and `root`, the physical address of its
    top-level table.
    """

    memory: KernelMemory
    format: Format
    root: int
    va_bits: int

    @classmethod
    def of(cls, memory: KernelMemory) -> KernelImage:
        """Find the kernel's page tables; raises `HvoError` that names the constant which is
        missing.
        """
        info = memory.vmcoreinfo
        va_bits = _va_bits(memory.arch, info)
        form = format_for(memory.arch, memory.page_size, va_bits)
        if memory.arch == "x86_64":
            form = replace(form, sme_mask=info.number("sme_mask", 0))
        return cls(memory, form, _root(memory, va_bits), va_bits)

    @property
    def arch(self) -> str:
        """Architecture: "x86_64", "arm64", "riscv64" or "loongarch64"."""
        return self.memory.arch

    @property
    def page_size(self) -> int:
        """Size of a base page in bytes."""
        return self.memory.page_size

    @property
    def info(self) -> VmcoreInfo:
        """The kernel's constants."""
        return self.memory.vmcoreinfo

    def translate(self, addresses: Words) -> Translated:
        """Where the virtual `addresses` (any shape) lie; runs of addresses in one page are walked
        once.
        """
        flat = addresses.reshape(-1)
        inside = np.uint64(self.page_size - 1)
        pages = flat & ~inside
        first = np.flatnonzero(
            np.concatenate((np.ones(min(1, len(pages)), np.bool_), pages[1:] != pages[:-1]))
        )
        found = self._walked(pages[first])
        times = np.diff(first, append=len(pages))
        physical = np.repeat(found.addresses, times) + (flat & inside)
        return Translated(
            physical.reshape(addresses.shape),
            np.repeat(found.valid, times).reshape(addresses.shape),
        )

    def _walked(self, pages: Words) -> Translated:
        found = walk(self.memory, self.format, self.root, pages)
        if self.arch != "loongarch64":
            return Translated(found.address, found.valid)
        direct = pages & _LOONG_WINDOW_MASK == _LOONG_WINDOW
        physical = np.where(direct, pages & _LOONG_PHYSICAL, found.address)
        return Translated(physical, found.valid | direct)

    def physical(self, addresses: Words) -> Words:
        """Physical addresses of the virtual `addresses` (any shape); raises `HvoError` for one that
        is not mapped.
        """
        found = self.translate(addresses)
        if not found.valid.all():
            missing = int(addresses[~found.valid].flat[0])
            raise HvoError(
                f"virtual address {missing:#x} is not mapped by the tables at {self.root:#x}"
            )
        return found.addresses

    def words(self, addresses: Words) -> Words:
        """The 8-byte words at the virtual `addresses` (multiples of 8, any shape).

        Raises `HvoError` for an address that is not mapped, `MemoryFault` for one whose frame is
        not there.
        """
        return self.memory.read_words(self.physical(addresses))

    def array(self, address: int, count: int) -> Words:
        """The `count` words from the virtual `address` (a multiple of 8) on, a page at a time;
        raises as `words` does.
        """
        size = self.page_size
        first = address // size * size
        pages = np.arange(first, address + 8 * count, size, dtype=np.uint64)
        rows = read_strided(self.memory, self.physical(pages), size // 8, 8).reshape(-1)
        return rows[(address - first) // 8 :][:count]

    def readable(self, addresses: Words) -> NDArray[np.bool_]:
        """Which of the virtual `addresses` (any shape) are mapped to frames that are there."""
        found = self.translate(addresses)
        return found.valid & self.memory.readable(found.addresses)


def _va_bits(arch: str, info: VmcoreInfo) -> int:
    if arch == "x86_64":
        return 57 if info.number("pgtable_l5_enabled", 0) else 48
    if arch == "loongarch64":
        return info.number("VA_BITS", _LOONG_VA_BITS.get(info.page_size, 48))
    # arm64: a kernel built for 52 bits runs with fewer where the CPU has no more; the register
    # tells (5.9).
    t1sz = info.number("TCR_EL1_T1SZ", None) if arch == "arm64" else None
    return info.number("VA_BITS") if t1sz is None else 64 - t1sz


def _root(memory: KernelMemory, va_bits: int) -> int:
    """Physical address of swapper_pg_dir, which is an address in the kernel's image."""
    info = memory.vmcoreinfo
    virtual = info.symbol("swapper_pg_dir")
    if memory.arch == "x86_64":
        return (virtual - _X86_START_KERNEL_MAP + info.number("phys_base")) % _WORD
    if memory.arch == "loongarch64":
        return virtual & int(_LOONG_PHYSICAL)
    if memory.arch == "riscv64":
        return (virtual - info.number("va_kernel_pa_offset")) % _WORD
    return (virtual - info.number("kimage_voffset")) % _WORD + _arm64_offset(memory, va_bits)


def _arm64_offset(memory: KernelMemory, va_bits: int) -> int:
    """Where TTBR1 points into the table: a 64K kernel built for 52 bits that runs with 48 uses its
    last 64 entries.

    TTBR1_BADDR_4852_OFFSET in `arch/arm64/include/asm/pgtable-hwdef.h`. Kernels with 4K and 16K
    pages leave a level out.
    """
    if memory.page_size != 65536 or memory.vmcoreinfo.number("VA_BITS") != 52 or va_bits != 48:
        return 0
    return ((1 << (52 - 42)) - (1 << (48 - 42))) * 8
