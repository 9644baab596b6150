"""What the hardware allows: the architecture, FEAT_BBM, and arm64's break-before-make rule (Arm ARM
D8.16; Linux' reading of it).

riscv64 stands for an architecture that may exchange live entries, as x86-64 may, and orders neither
stores nor loads, as arm64 does not.
"""

from dataclasses import dataclass

from hvo.mmu.format import Format


@dataclass(frozen=True)
class Rules:
    """The machine: architecture, and what it can do.

    `bbm_level`: FEAT_BBM of arm64, 0 to 3. `noabort`: a core of level 2 known not to raise a TLB
    conflict abort. `hardware_access_flag`: the walker sets access flags (FEAT_HAFDBS). `flush_all`:
    whether dropping every translation does anything (it did not on s390, H11).
    """

    arch: str
    bbm_level: int = 0
    noabort: bool = False
    hardware_access_flag: bool = False
    flush_all: bool = True

    @property
    def breaks_before_make(self) -> bool:
        """Whether live entries must be broken before they are exchanged."""
        return self.arch == "arm64"

    @property
    def sizes_must_agree(self) -> bool:
        """Whether a large entry in a TLB and the small ones in the tables must say the same of an
        address (x86-64).
        """
        return self.arch == "x86_64"

    @property
    def reorders(self) -> bool:
        """Whether others may see stores, and a CPU may do loads, in another order than the
        program's (x86-64 allows neither).
        """
        return self.arch != "x86_64"

    @property
    def flush_drops_tables(self) -> bool:
        """Whether a plain flush drops copies of pointers to tables: INVLPG does, arm64's VAALE1IS
        and SFENCE.VMA of an address do not.
        """
        return self.arch == "x86_64"

    @property
    def flush_interrupts(self) -> bool:
        """Whether CPUs drop translations in an interrupt, and so not while they mask it; arm64's
        DSB and riscv64's firmware ask nobody.
        """
        return self.arch == "x86_64"

    @property
    def name(self) -> str:
        """The architecture with what differs from its plainest form."""
        level = f"+bbm{self.bbm_level}" if self.bbm_level else ""
        extras = (
            ("noabort", self.noabort),
            ("haf", self.hardware_access_flag),
            ("dead-flush-all", not self.flush_all),
        )
        return self.arch + level + "".join(f"+{name}" for name, on in extras if on)


ARCHITECTURES = ("arm64", "x86_64", "riscv64")
EXPECTED = (
    "expected x86_64, riscv64 or arm64, the last with one of +bbm1, +bbm2, +bbm3, and +noabort,"
    " +haf; all with +dead-flush-all"
)
"""What `parse_rules` understands, for messages."""
_LEVELS = ("bbm1", "bbm2", "bbm3")


def parse_rules(text: str) -> Rules | None:
    """The machine that `Rules.name` calls `text`, None when it is none: `x86_64`,
    `arm64+bbm2+noabort`.
    """
    arch, *extras = text.split("+")
    levels = [int(extra[3]) for extra in extras if extra in _LEVELS]
    known = {"dead-flush-all"} | ({"noabort", "haf", *_LEVELS} if arch == "arm64" else set[str]())
    if arch not in ARCHITECTURES or not set(extras) <= known or len(levels) > 1:
        return None
    return Rules(
        arch,
        levels[0] if levels else 0,
        "noabort" in extras,
        "haf" in extras,
        "dead-flush-all" not in extras,
    )


def is_cacheable(format: Format, entry: int) -> bool:
    """Whether a TLB may hold the entry: it is valid, and its access flag is set where the walker
    does not set it on the way.
    """
    return bool(format.is_valid(entry)) and (
        bool(format.is_accessed(entry)) or not format.access_flag_faults
    )


_ATTRIBUTES = 0b111 << 2 | 0b11 << 8


def attributes_differ(old: int, new: int) -> bool:
    """Whether memory type, shareability or cacheability differ between two arm64 leaves (AttrIndx,
    bits 2 to 4, and SH, bits 8 and 9).
    """
    return (old ^ new) & _ATTRIBUTES != 0


def may_write(format: Format, entry: int, *, hardware_dirty: bool) -> bool:
    """Whether a CPU may write through the leaf: it is writable, or becomes so where the hardware
    manages the dirty state (arm64's DBM).
    """
    return bool(format.is_writable(entry)) or (
        hardware_dirty and entry & format.dirty_modifier != 0
    )


def needs_break(
    format: Format,
    old: int,
    new: int,
    *,
    same_output: bool,
    same_contents: bool,
    hardware_dirty: bool = False,
) -> bool:
    """Whether exchanging the cacheable leaf `old` for the cacheable leaf `new` of the same size
    needs break-before-make.

    It does when the attributes differ, or when they lead to different places and one of them is
    writable or the places differ in contents.
    """
    if attributes_differ(old, new):
        return True
    writable = any(may_write(format, entry, hardware_dirty=hardware_dirty) for entry in (old, new))
    return not same_output and (writable or not same_contents)


def size_change_allowed(rules: Rules, *, contiguous_only: bool) -> bool:
    """Whether a live block may become a table, or a table a block, without breaking it."""
    return rules.bbm_level >= (1 if contiguous_only else 2)
