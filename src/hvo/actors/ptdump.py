"""The kernel's dump of its own page tables, `/sys/kernel/debug/kernel_page_tables` (mm/ptdump.c).

What it walks, which entries it takes for the same, and where the region of the vmemmap begins and
ends. The text is `hvo.report`'s.
"""

from typing import Literal, NamedTuple, TypeAlias

from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.mmu.format import Format
from hvo.mmu.runs import Grouping, Runs
from hvo.mmu.shape import WORD
from hvo.steps.base import Steps
from hvo.steps.entries import ReadRuns
from hvo.steps.ordering import Acquire, Lock, Release
from hvo.vmemmap.context import Vmemmap

DumpLock: TypeAlias = Literal["none", "read", "write"]
"""What a dump takes of init_mm's mmap_lock: it read-locked it for years; 6.1.192 and 7.3 write-lock
it.
"""
_MMAP_LOCK: dict[DumpLock, tuple[Lock, ...]] = {
    "none": (),
    "read": (Lock.MMAP_READ,),
    "write": (Lock.MMAP_WRITE,),
}


def ptdump(v: Vmemmap, root: int, start: int, end: int, lock: DumpLock = "read") -> Steps[Runs]:
    """Read every entry that maps [`start`, `end`) in the tables at the physical address `root`
    (`ptdump_walk_pgd`) -> `hvo.mmu.runs.Runs`.

    With `dump-hotplug-lock` the hotplug lock keeps the tables from being freed meanwhile (H16).
    """
    hotplug = (Lock.HOTPLUG_READ,) if v.era.has("dump-hotplug-lock") else ()
    locks = hotplug + _MMAP_LOCK[lock]
    for taken in locks:
        yield from Acquire(taken)
    runs = yield from ReadRuns(v.format, root, start, end, grouping(v.format))
    for taken in reversed(locks):
        yield from Release(taken)
    return runs


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


_ARM64 = Grouping(own=_bits(0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 50, 52, 53, 54))
"""The masks of `pte_bits[]` (arch/arm64/mm/ptdump.c): what the text shows of an entry."""
_RISCV = Grouping(own=_bits(*range(10), 61, 62, 63))
"""The masks of `pte_bits[]` (arch/riscv/mm/ptdump.c since 6.7)."""
_X86_ADDRESS = (1 << 52) - (1 << 12)
_X86_NX, _X86_RW, _X86_USER, _X86_ACCESSED, _X86_DIRTY = (
    _bits(63),
    _bits(1),
    _bits(2),
    _bits(5),
    _bits(6),
)


def grouping(format: Format) -> Grouping:
    """What the dump of the architecture of `format` takes for the same; elsewhere everything but
    the address counts.

    x86 compares all flags (PTE_FLAGS_MASK, which has the encryption bit), and what is left of RW,
    user and NX through the tables above (`effective_prot`, arch/x86/mm/dump_pagetables.c); an empty
    entry may be accessed or dirty there (_PAGE_KNL_ERRATUM_MASK).
    """
    if format.arch == "arm64":
        return _ARM64
    if format.arch == "riscv64":
        return _RISCV
    if format.arch == "x86_64":
        flags = WORD ^ _X86_ADDRESS | format.sme_mask
        return Grouping(flags, _X86_RW | _X86_USER, _X86_NX, _X86_ACCESSED | _X86_DIRTY)
    return Grouping(WORD ^ format.encode(WORD))


class Region(NamedTuple):
    """A part of the kernel's address space, and what the dump prints where it begins and where the
    next one does.
    """

    start: int
    end: int
    heading: str
    ending: str


_CPU_ENTRY_AREA = -4 << 39 & WORD
"""The region behind the vmemmap on x86-64, with 4 levels and with 5 (CPU_ENTRY_AREA_PGD; KASAN's
would come before).
"""
_ARM64_END = -1 << 30 & WORD
"""VMEMMAP_END since 6.9; before, the region ended where its struct pages would."""


def vmemmap_region(image: KernelImage) -> Region:
    """Where the dump of the kernel in `image` has the vmemmap; raises `HvoError` where that is not
    known.
    """
    if image.arch == "arm64":
        return _arm64_region(image)
    if image.arch == "riscv64":
        start, end = (image.info.number(f"VMEMMAP_{edge}") for edge in ("START", "END"))
        return Region(start & WORD, end & WORD, *_VMEMMAP)
    base = Sections.of(image).vmemmap_base
    if base is None:
        raise HvoError(
            "the sections' struct pages are not in one array: this kernel has no vmemmap to dump"
        )
    return region_at(image.format, base)


def region_at(format: Format, base: int) -> Region:
    """The region of a vmemmap that begins at `base`, as kernels before 6.9 lay it out on arm64, and
    riscv64's do.
    """
    if format.arch == "x86_64":
        return Region(base, _CPU_ENTRY_AREA, "Vmemmap", "CPU entry Area")
    size = (1 << format.va_bits - 1 >> format.page_shift) * _STRUCT_PAGE_MAX
    return Region(base, base + size, *_VMEMMAP)


_VMEMMAP = ("vmemmap start", "vmemmap end")
_STRUCT_PAGE_MAX = 64
"""`1 << STRUCT_PAGE_MAX_SHIFT` (arch/arm64/include/asm/memory.h)."""


def _arm64_region(image: KernelImage) -> Region:
    """VMEMMAP_START to VMEMMAP_END.

    From 6.9 on the dump begins at the struct page of the linear map's first page (`ptdump_init`).
    In a kernel built for 52-bit addresses that runs with fewer, the linear map begins that much
    later, but VMEMMAP_START is still that of 52 bits.
    """
    info = image.info
    start, end = info.number("VMEMMAP_START", None), info.number("VMEMMAP_END", None)
    if start is None or end is None:  # exported since 6.0
        return region_at(
            image.format, -(_STRUCT_PAGE_MAX << image.va_bits - image.format.page_shift) & WORD
        )
    if end == _ARM64_END:
        pages = (1 << info.number("VA_BITS")) - (1 << image.va_bits) >> image.format.page_shift
        start += pages * info.size("page")
    return Region(start, end, *_VMEMMAP)
