"""The text of `/sys/kernel/debug/kernel_page_tables`, byte for byte as arm64 and x86-64 kernels
print it.
"""

from collections.abc import Callable
from functools import cache

from hvo.actors.ptdump import Region, grouping
from hvo.errors import HvoError
from hvo.memory.interface import Memory
from hvo.mmu.format import Format
from hvo.mmu.runs import Runs, read_runs
from hvo.mmu.shape import WORD

_LEVELS = ("PTE", "PMD", "PUD", "P4D", "PGD")


def dump_text(memory: Memory, format: Format, root: int, region: Region) -> str:
    """The dump of `region` of the tables at the physical address `root` in `memory` (a core, or a
    machine's), newline at the end.

    Raises `HvoError` for an architecture whose text is not known, `MemoryFault` for a table that
    the memory does not have.
    """
    return runs_text(
        read_runs(memory, format, root, region.start, region.end, grouping(format)), format, region
    )


def runs_text(runs: Runs, format: Format, region: Region) -> str:
    """The dump of `region` as `runs` of it (from `hvo.actors.ptdump.ptdump`) say, from its heading
    to that of the next region.
    """
    if format.arch not in _LINES:
        raise HvoError(
            f"the text of a page-table dump is known for {' and '.join(_LINES)}, not for"
            f" {format.arch}"
        )
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
    lines = [
        line(start, end, _LEVELS[-1 if level == format.top else level], bits)
        for start, end, level, bits in rows
    ]
    return "".join(
        f"{text}\n"
        for text in (f"---[ {region.heading} ]---", *lines, f"---[ {region.ending} ]---")
    )


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


_LINES: dict[str, Callable[[int, int, str, int], str]] = {"arm64": _arm64_line, "x86_64": _x86_line}
