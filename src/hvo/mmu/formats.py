"""The page-table formats of arm64, x86-64, riscv64 and loongarch64, one row of data each.

Sources: Arm ARM D8.3 (VMSAv8-64 descriptors, 52-bit output addresses with 64K pages and with LPA2);
Intel SDM vol. 3 4.5 (4- and 5-level paging); RISC-V privileged specification, Sv39/Sv48/Sv57 and
Svnapot; LoongArch reference manual vol. 1 5.4 and `arch/loongarch/include/asm/pgtable-bits.h`. The
attributes are what kernels write for their own data: compared with the memory of arm64 6.1, 6.12
and 7.3, x86-64 6.1, 6.12 and 7.3, riscv64 6.12 and 7.2, and loongarch64 7.2.
"""

from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.layout.units import format_size
from hvo.mmu.format import AddressField, Format


def _bits(high: int, low: int) -> int:
    return (1 << high + 1) - (1 << low)


def _bit(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


@dataclass(frozen=True)
class _Arm64Granule:
    """What an arm64 granule decides: bits indexed by a whole table, and neighbours in a contiguous
    group per level.
    """

    page_shift: int
    contiguous: tuple[int, ...]


_ARM64_GRANULES = (
    _Arm64Granule(12, (16, 16, 16)),
    _Arm64Granule(14, (128, 32)),
    _Arm64Granule(16, (32, 32)),
)
_ARM64_VA_BITS = {12: (39, 48, 52), 14: (36, 47, 48, 52), 16: (42, 48, 52)}

_ARM64_AF, _ARM64_RDONLY, _ARM64_DBM, _ARM64_DIRTY = _bit(10), _bit(7), _bit(51), _bit(55)
_ARM64_INNER_SHAREABLE = _bit(9, 8)
_ARM64_PAGE_KERNEL = _bit(55, 54, 53, 51, 10, 1, 0)
"""PTE_DIRTY, UXN, PXN, DBM (PTE_WRITE), AF, page, valid; attribute index 0 is normal memory."""


def _index_bits(page_shift: int, va_bits: int) -> tuple[int, ...]:
    whole, rest = divmod(va_bits - page_shift, page_shift - 3)
    return (page_shift - 3,) * whole + ((rest,) if rest else ())


def _padded(groups: tuple[int, ...], levels: int) -> tuple[int, ...]:
    return (groups + (1,) * levels)[:levels]


def _arm64_address(page_shift: int, lpa2: bool) -> tuple[AddressField, ...]:
    if page_shift == 16:
        return AddressField(_bits(47, 16), 0), AddressField(_bits(15, 12), 36)
    if lpa2:
        return AddressField(_bits(49, page_shift), 0), AddressField(_bits(9, 8), 42)
    return (AddressField(_bits(47, page_shift), 0),)


def _arm64(granule: _Arm64Granule, va_bits: int) -> Format:
    shift = granule.page_shift
    lpa2 = va_bits == 52 and shift < 16
    index_bits = _index_bits(shift, va_bits)
    # LPA2 puts address bits where the shareability was: TCR_EL1.SH1 says it for the whole table.
    shareable = 0 if lpa2 else _ARM64_INNER_SHAREABLE
    return Format(
        name=f"arm64-{1 << shift - 10}k-{va_bits}",
        arch="arm64",
        page_shift=shift,
        va_bits=va_bits,
        index_bits=index_bits,
        sign_extended=False,
        address_fields=_arm64_address(shift, lpa2),
        valid=_bit(0),
        page_bits=_bit(1),
        block_bits=_bit(1),
        block_when_clear=True,
        # One level higher than without: 512G blocks of 4K, 64G of 16K with LPA2, 4T of 64K with
        # LPA.
        max_leaf_level={12: 2, 14: 1, 16: 1}[shift] + (va_bits == 52),
        write_bit=_ARM64_RDONLY,
        read_only_when_set=True,
        table_write_bit=_bit(62),
        accessed=_ARM64_AF,
        access_flag_faults=True,
        dirty=_ARM64_DIRTY,
        dirty_modifier=_ARM64_DBM,
        contiguous=_bit(52),
        contiguous_entries=_padded(granule.contiguous, len(index_bits)),
        page_attributes=_ARM64_PAGE_KERNEL | shareable,
        block_toggle=_bit(1),
        # UXNTable. Kernels since 6.13 set the access flag (bit 10) as well, for FEAT_HAFT; nothing
        # else reads it.
        table_attributes=_bit(60, 1, 0),
        read_only_set=_ARM64_RDONLY,
        read_only_clear=_ARM64_DBM,
        writable_set=_ARM64_DBM | _ARM64_DIRTY,
        writable_clear=_ARM64_RDONLY,
    )


_X86_P, _X86_RW, _X86_US, _X86_A, _X86_D, _X86_PSE, _X86_G, _X86_NX = (
    _bit(n) for n in (0, 1, 2, 5, 6, 7, 8, 63)
)


def _x86_64(va_bits: int) -> Format:
    index_bits = _index_bits(12, va_bits)
    return Format(
        name=f"x86_64-{len(index_bits)}level",
        arch="x86_64",
        page_shift=12,
        va_bits=va_bits,
        index_bits=index_bits,
        sign_extended=True,
        address_fields=(AddressField(_bits(51, 12), 0),),
        valid=_X86_P,
        page_bits=_X86_P,
        block_bits=_X86_PSE,
        block_when_clear=False,
        max_leaf_level=2,
        write_bit=_X86_RW,
        read_only_when_set=False,
        table_write_bit=_X86_RW,
        accessed=_X86_A,
        access_flag_faults=False,
        dirty=_X86_D,
        dirty_modifier=0,
        contiguous=0,
        contiguous_entries=(1,) * len(index_bits),
        page_attributes=_X86_NX | _X86_G | _X86_D | _X86_A | _X86_RW | _X86_P,
        block_toggle=_X86_PSE,
        table_attributes=_X86_D | _X86_A | _X86_US | _X86_RW | _X86_P,
        read_only_set=0,
        # Since shadow stacks (6.6) a read-only entry must not be dirty; before, PAGE_KERNEL_RO kept
        # the dirty bit.
        read_only_clear=_X86_RW | _X86_D,
        writable_set=_X86_RW | _X86_D,
        writable_clear=0,
        large_attribute_shift=5,
        strict=True,
    )


_RISCV_V, _RISCV_R, _RISCV_W, _RISCV_X, _RISCV_G, _RISCV_A, _RISCV_D = (
    _bit(n) for n in (0, 1, 2, 3, 5, 6, 7)
)


def _riscv64(va_bits: int) -> Format:
    index_bits = _index_bits(12, va_bits)
    return Format(
        name=f"riscv64-sv{va_bits}",
        arch="riscv64",
        page_shift=12,
        va_bits=va_bits,
        index_bits=index_bits,
        sign_extended=True,
        address_fields=(AddressField(_bits(53, 10), 2),),
        valid=_RISCV_V,
        page_bits=_RISCV_R | _RISCV_W | _RISCV_X,
        block_bits=_RISCV_R | _RISCV_W | _RISCV_X,
        block_when_clear=False,
        max_leaf_level=len(index_bits) - 1,
        write_bit=_RISCV_W,
        read_only_when_set=False,
        table_write_bit=0,
        accessed=_RISCV_A,
        access_flag_faults=True,
        dirty=_RISCV_D,
        dirty_modifier=0,
        contiguous=_bit(63),
        contiguous_entries=_padded((16,), len(index_bits)),
        page_attributes=_RISCV_D | _RISCV_A | _RISCV_G | _RISCV_W | _RISCV_R | _RISCV_V,
        block_toggle=0,
        table_attributes=_RISCV_V,
        # riscv defines no PAGE_KERNEL_RO, and the fallback in include/linux/pgtable.h is
        # PAGE_KERNEL: what the kernel maps read-only stays writable (6.12, 7.2).
        read_only_set=0,
        read_only_clear=0,
        writable_set=_RISCV_W | _RISCV_D,
        writable_clear=0,
        strict=True,
        write_needs=_RISCV_R,
        napot=True,
    )


_LOONG_V, _LOONG_D, _LOONG_HUGE, _LOONG_P, _LOONG_W = (_bit(n) for n in (0, 1, 6, 7, 8))
_LOONG_GLOBAL, _LOONG_HGLOBAL = _bit(6), _bit(12)
_LOONG_CACHED = _bit(4)
"""Coherent cached memory (MAT 1)."""
_LOONG_WINDOW = _bit(63, 60)
"""0x9000...: the cached direct mapping window, in which the kernel has its tables."""


def _loongarch64(page_shift: int, va_bits: int) -> Format:
    """Table entries are virtual addresses in the direct mapping window (`set_pmd()`), and an empty
    one leads to a table of empty entries (`invalid_pte_table`).
    """
    index_bits = _index_bits(page_shift, va_bits)
    return Format(
        name=f"loongarch64-{1 << page_shift - 10}k-{va_bits}",
        arch="loongarch64",
        page_shift=page_shift,
        va_bits=va_bits,
        index_bits=index_bits,
        sign_extended=False,
        address_fields=(AddressField(_bits(47, page_shift), 0),),
        # Bit 60 is no leaf's, but an address in the window has it.
        valid=_LOONG_P | _bit(60),
        page_bits=_LOONG_P,
        block_bits=_LOONG_HUGE,
        block_when_clear=False,
        max_leaf_level=1,
        write_bit=_LOONG_W,
        read_only_when_set=False,
        table_write_bit=0,
        # The kernel uses V, which the hardware asks for, as the access flag.
        accessed=_LOONG_V,
        access_flag_faults=True,
        dirty=_LOONG_D,
        dirty_modifier=0,
        contiguous=0,
        contiguous_entries=(1,) * len(index_bits),
        page_attributes=_LOONG_P | _LOONG_W | _LOONG_D | _LOONG_V | _LOONG_GLOBAL | _LOONG_CACHED,
        block_toggle=_LOONG_HGLOBAL,
        table_attributes=_LOONG_WINDOW,
        # As on riscv: there is no PAGE_KERNEL_RO.
        read_only_set=0,
        read_only_clear=0,
        writable_set=_LOONG_W | _LOONG_D,
        writable_clear=0,
    )


FORMATS: dict[tuple[str, int, int], Format] = {
    (made.arch, made.page_size, made.va_bits): made
    for made in (
        *(
            _arm64(granule, bits)
            for granule in _ARM64_GRANULES
            for bits in _ARM64_VA_BITS[granule.page_shift]
        ),
        *(_x86_64(bits) for bits in (48, 57)),
        *(_riscv64(bits) for bits in (39, 48, 57)),
        _loongarch64(14, 47),
    )
}
"""Every format by architecture, base page size in bytes and bits of a virtual address."""


def format_for(arch: str, page_size: int, va_bits: int) -> Format:
    """The format of `arch` with base pages of `page_size` bytes and `va_bits`; raises `HvoError`
    listing what there is.

    With memory encryption it is `dataclasses.replace(format_for(...), sme_mask=...)`.
    """
    if (arch, page_size, va_bits) in FORMATS:
        return FORMATS[arch, page_size, va_bits]
    known = [
        f"{name} {format_size(size)} {bits}-bit" for name, size, bits in FORMATS if name == arch
    ]
    arches = dict.fromkeys(name for name, _, _ in FORMATS)
    raise HvoError(
        f"no page-table format for {arch} with {format_size(page_size)} pages and {va_bits}-bit"
        f" addresses: expected one of {', '.join(known or arches)}"
    )
