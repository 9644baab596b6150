"""The text of `/sys/kernel/debug/kernel_page_tables`, byte for byte as kernels of arm64, x86-64
and riscv64 (since 6.7) print it.
"""

from collections.abc import Callable
from functools import cache

from hvo.actors.ptdump import Region, grouping
from hvo.errors import HvoError
from hvo.memory.interface import Memory, Words
from hvo.mmu.format import Format
from hvo.mmu.runs import Runs, read_runs
from hvo.mmu.shape import WORD
from hvo.mmu.walk import walk

_RISCV = "riscv64"
_LEVELS = ("PTE", "PMD", "PUD", "P4D", "PGD")


def dump_text(memory: Memory, format: Format, root: int, region: Region) -> str:
    """The dump of `region` of the tables at the physical address `root` in `memory` (a core, or a
    machine's), newline at the end.

    Raises `HvoError` for an architecture whose text is not known, `MemoryFault` for a table that
    the memory does not have.
    """
    runs = read_runs(memory, format, root, region.start, region.end, grouping(format))
    physical = walk(memory, format, root, runs.start).address if format.arch == _RISCV else None
    return runs_text(runs, format, region, physical)


def runs_text(runs: Runs, format: Format, region: Region, physical: Words | None = None) -> str:
    """The dump of `region` as `runs` of it (from `hvo.actors.ptdump.ptdump`) say, from its heading
    to that of the next region; riscv64's has the `physical` address where each run begins.
    """
    if format.arch == _RISCV:
        lines = _riscv_lines(runs, physical)
    elif format.arch in _LINES:
        lines = _lines(runs, format)
    else:
        raise HvoError(
            f"the text of a page-table dump is known for {', '.join(_LINES)} and {_RISCV}, not for"
            f" {format.arch}"
        )
    headings = (f"---[ {heading} ]---" for heading in (region.heading, region.ending))
    return "".join(f"{text}\n" for text in (next(headings), *lines, next(headings)))


def _lines(runs: Runs, format: Format) -> list[str]:
    line = _LINES[
        format.arch
    ]  # of the last line in the address space the end is 0, as the kernel prints it
    rows = zip(
        runs.start.tolist(),
        runs.ends.tolist(),
        runs.level.tolist(),
        runs.bits.tolist(),
        strict=True,
    )
    # The highest level there is is the PGD: those between it and the ones there are, are folded
    # into it.
    return [
        line(start, end, _LEVELS[-1 if level == format.top else level], bits)
        for start, end, level, bits in rows
    ]


def _size(size: int, units: str) -> str:
    """`size`, counted in the first of `units`, in the largest unit that divides it."""
    unit = 0
    while not size & 1023 and unit < len(units) - 1:
        size, unit = size >> 10, unit + 1
    return f"{size:9d}{units[unit]}"


def _arm64_line(start: int, end: int, level: str, bits: int) -> str:
    """arch/arm64/mm/ptdump.c, `note_page`."""
    return (
        f"0x{start:016x}-0x{end:016x}   {_size((end - start & WORD) >> 10, 'KMGTPE')}"
        f" {level}{_arm64_attributes(bits)}"
    )


_ARM64_BITS = (
    (1 << 0, " ", "F"),
    (1 << 6, "USR", "   "),
    (1 << 7, "ro", "RW"),
    (1 << 53, "NX", "x "),
    (3 << 8, "SHD", "   "),
    (1 << 10, "AF", "  "),
    (1 << 11, "NG", "  "),
    (1 << 52, "CON", "   "),
    (1 << 1, "   ", "BLK"),
    (1 << 54, "UXN", "   "),
    (1 << 50, "GP", "  "),
)
"""Of `pte_bits[]`: mask, the text where all of it is set, the text elsewhere."""
_ARM64_MEMORY = {
    0: "MEM/NORMAL",
    1: "MEM/NORMAL-TAGGED",
    2: "MEM/NORMAL-NC",
    3: "DEVICE/nGnRnE",
    4: "DEVICE/nGnRE",
}
"""Bits 4:2, the index into MAIR_EL1 (MT_NORMAL and the others, arch/arm64/include/asm/memory.h
since 5.13).
"""


@cache
def _arm64_attributes(bits: int) -> str:
    if not bits:
        return ""
    words = [set_ if bits & mask == mask else clear for mask, set_, clear in _ARM64_BITS]
    memory = _ARM64_MEMORY.get(bits >> 2 & 7)
    return "".join(f" {word}" for word in words + [memory] * (memory is not None))


def _x86_line(start: int, end: int, level: str, bits: int) -> str:
    """arch/x86/mm/dump_pagetables.c, `note_page`."""
    return (
        f"0x{start:016x}-0x{end:016x}   {_size(end - start & WORD, 'BKMGTPE')}"
        f" {_x86_attributes(bits, level)}{level.lower()}"
    )


@cache
def _x86_attributes(bits: int, level: str) -> str:
    """`printk_prot`: bit 7 is the page size above the last level, and PAT there; a large page's PAT
    bit is not among the flags.
    """
    if not bits & 1:
        return " " * 30
    last, bit_7 = level == "PTE", bits >> 7 & 1
    columns = (
        ("USR ", bits >> 2 & 1),
        ("RW ", bits >> 1 & 1),
        ("PWT ", bits >> 3 & 1),
        ("PCD ", bits >> 4 & 1),
        ("PSE ", bit_7 and not last),
        ("PAT ", bit_7 and last),
        ("GLB ", bits >> 8 & 1),
        ("NX ", bits >> 63 & 1),
    )
    clear = {"RW ": "ro ", "NX ": "x  "}
    return "".join(name if on else clear.get(name, " " * len(name)) for name, on in columns)


def _riscv_lines(runs: Runs, physical: Words | None) -> list[str]:
    """arch/riscv/mm/ptdump.c, `dump_addr` and `dump_prot`: holes have no line, and levels the names
    that they have in a kernel that can use all five.
    """
    if physical is None:
        raise HvoError("the dump of riscv64 shows physical addresses, which runs alone do not tell")
    rows = zip(
        runs.start.tolist(),
        runs.ends.tolist(),
        physical.tolist(),
        runs.level.tolist(),
        runs.bits.tolist(),
        strict=True,
    )
    return [
        f"0x{start:016x}-0x{end:016x}    0x{first:016x}"
        f" {_size((end - start & WORD) >> 10, 'KMGTPE')} {_LEVELS[level]}{_riscv_attributes(bits)}"
        for start, end, first, level, bits in rows
        if bits
    ]


_RISCV_MEMORY = {0: "  ..  ", 1: "MT(NC)", 2: "MT(IO)", 3: "MT(??)"}
"""Bits 62:61, Svpbmt."""


@cache
def _riscv_attributes(bits: int) -> str:
    soft = bits >> 8 & 3
    words = [
        "N" if bits >> 63 & 1 else ".",
        _RISCV_MEMORY[bits >> 61 & 3],
        f"RSW({soft})" if soft else "  ..  ",
        *(
            name if bits >> bit & 1 else "."
            for bit, name in zip(range(7, -1, -1), "DAGUXWRV", strict=True)
        ),
    ]
    return "".join(f" {word}" for word in words)


_LINES: dict[str, Callable[[int, int, str, int], str]] = {"arm64": _arm64_line, "x86_64": _x86_line}
