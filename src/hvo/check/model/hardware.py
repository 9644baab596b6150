"""What the hardware allows: the architecture, FEAT_BBM, and arm64's break-before-make rule (Arm ARM
D8.16; Linux' reading of it).

riscv64 stands for an architecture that may exchange live entries, as x86-64 may, and orders neither
stores nor loads, as arm64 does not.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """The machine: architecture, and what it can do.

    `bbm_level`: FEAT_BBM of arm64, 0 to 3. `noabort`: a core of level 2 known not to raise a TLB
    conflict abort. `hardware_access_flag`: the walker sets access flags (FEAT_HAFDBS). `flush_all`:
    whether dropping every translation does anything (it did not on s390, H11). `sequential`: memory
    accesses are done in the program's order, which no such machine promises.
    """

    arch: str
    bbm_level: int = 0
    noabort: bool = False
    hardware_access_flag: bool = False
    flush_all: bool = True
    sequential: bool = False

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
        return self.arch != "x86_64" and not self.sequential

    @property
    def buffers_stores(self) -> bool:
        """Whether a CPU goes on while its stores are not visible to others yet."""
        return not self.sequential

    @property
    def handles_spurious_faults(self) -> bool:
        """Whether a write that met a read-only translation is tried again where the tables allow
        it by now (x86-64: `spurious_kernel_fault`).
        """
        return self.arch == "x86_64"

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
            ("sc", self.sequential),
        )
        return self.arch + level + "".join(f"+{name}" for name, on in extras if on)


ARCHITECTURES = ("arm64", "x86_64", "riscv64")
EXPECTED = (
    "expected x86_64, riscv64 or arm64, the last with one of +bbm1, +bbm2, +bbm3, and +noabort,"
    " +haf; all with +dead-flush-all, +sc"
)
"""What `parse_hardware` understands, for messages."""
_LEVELS = ("bbm1", "bbm2", "bbm3")


def parse_hardware(text: str) -> Hardware | None:
    """The machine that `Hardware.name` calls `text`, None when it is none: `x86_64`,
    `arm64+bbm2+noabort`.
    """
    arch, *extras = text.split("+")
    levels = [int(extra[3]) for extra in extras if extra in _LEVELS]
    known = {"dead-flush-all", "sc"}
    known |= {"noabort", "haf", *_LEVELS} if arch == "arm64" else set[str]()
    if arch not in ARCHITECTURES or not set(extras) <= known or len(levels) > 1:
        return None
    return Hardware(
        arch,
        levels[0] if levels else 0,
        "noabort" in extras,
        "haf" in extras,
        "dead-flush-all" not in extras,
        "sc" in extras,
    )


def size_change_allowed(hardware: Hardware, *, contiguous_only: bool) -> bool:
    """Whether a live block may become a table, or a table a block, without breaking it."""
    return hardware.bbm_level >= (1 if contiguous_only else 2)
