"""What registers and places of a litmus test hold: integers, addresses, and descriptors, which are
arm64 leaves as `hvo.mmu` has them.

herd writes a descriptor as fields, `(oa:PA(y), af:0, attrs:(Device-GRE))`; here it is the 64-bit
word those fields make, so that instructions may compute with it, and one predicate says what needs
break-before-make. Defaults and names of the fields are herd's (herdtools7, `lib/AArch64PteVal.ml`
and `herd/libdir/aarch64memattrs.cat`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hvo.errors import HvoError
from hvo.mmu.formats import format_for

FORMAT = format_for("arm64", 4096, 48)
_USER = 1 << 6
"""AP[1]: EL0 may access the page."""
_SHAREABILITY = {"NSH": 0, "OSH": 2, "ISH": 3}
_SHORT = {
    "Non-shareable": "NSH",
    "Outer-shareable": "OSH",
    "Inner-shareable": "ISH",
    "Inner-write-back": "iWB",
    "Inner-write-through": "iWT",
    "Inner-non-cacheable": "iNC",
    "Outer-write-back": "oWB",
    "Outer-write-through": "oWT",
    "Outer-non-cacheable": "oNC",
}
_INNER, _OUTER = ("iWB", "iWT", "iNC"), ("oWB", "oWT", "oNC")
_DEVICE = ("Device-GRE", "Device-nGRE", "Device-nGnRE", "Device-nGnRnE")
FLAGS = {"af": 1, "db": 1, "dbm": 0, "valid": 1, "el0": 1}
"""The fields that are 0 or 1, in the order in which they are written, with their defaults."""
ATTRIBUTES = ("Normal", *_DEVICE, *_INNER, *_OUTER, *_SHAREABILITY)
"""The memory attributes that can be read."""


class Address(NamedTuple):
    """A place by name: `VA` a page's virtual address, `PA` its physical one, `PTE` its
    descriptor's, `TLB` what invalidates it.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "VA" else f"{self.kind}({self.name})"


class Descriptor(NamedTuple):
    """A translation table descriptor: one 64-bit word in the format of arm64 with 4 KiB pages."""

    word: int


Value = int | Address | Descriptor


@dataclass
class Coding:
    """How the descriptors of one test are made into words: which frame each page has, and what each
    attribute index means (MAIR).
    """

    pages: list[str] = field(default_factory=list[str])
    memory: list[tuple[str, ...]] = field(default_factory=lambda: [("Normal", "iWB", "oWB")])

    def frame(self, page: str) -> int:
        """Physical address of the frame that the page has at first; frame 0 is nobody's."""
        if page not in self.pages:
            self.pages.append(page)
        return (self.pages.index(page) + 1) * FORMAT.page_size

    def descriptor(
        self, page: str | None, flags: Mapping[str, int], attributes: Collection[str] = ()
    ) -> Descriptor:
        """The word for a descriptor that leads to the frame of `page`; what `flags` leaves out has
        herd's defaults.
        """
        bits = {**FLAGS, **flags}
        word = FORMAT.encode(self.frame(page)) if page else 0
        word |= FORMAT.page_bits | bits["valid"] * FORMAT.valid | bits["af"] * FORMAT.accessed
        word |= (
            (not bits["db"]) * FORMAT.write_bit
            | bits["dbm"] * FORMAT.dirty_modifier
            | bits["el0"] * _USER
        )
        memory, shareability = _memory(attributes)
        return Descriptor(word | self._index(memory) << 2 | shareability << 8)

    def _index(self, memory: tuple[str, ...]) -> int:
        if memory not in self.memory:
            if len(self.memory) == 8:
                raise HvoError(
                    "more than 8 kinds of memory in one test: an attribute index has 3 bits; use"
                    " fewer attrs"
                )
            self.memory.append(memory)
        return self.memory.index(memory)

    def output(self, word: int) -> str | None:
        """Name of the page whose frame the descriptor leads to, None when it is nobody's."""
        frame = FORMAT.decode(word) // FORMAT.page_size
        return self.pages[frame - 1] if 0 < frame <= len(self.pages) else None

    def text(self, value: Value) -> str:
        """The value as herd prints it; of a descriptor only the fields that differ from the
        default.
        """
        if not isinstance(value, Descriptor):
            return str(value)
        bits = flags_of(value.word)
        parts = [f"oa:PA({self.output(value.word)})"] if self.output(value.word) else []
        parts += [f"{name}:{bit}" for name, bit in bits.items() if bit != FLAGS[name]]
        memory = self.memory[value.word >> 2 & 7] if value.word >> 2 & 7 < len(self.memory) else ()
        shareability = value.word >> 8 & 3
        if memory != self.memory[0] or shareability != _SHAREABILITY["ISH"]:
            names = [
                *memory,
                *(
                    name
                    for name, code in _SHAREABILITY.items()
                    if code == shareability and memory[:1] == ("Normal",)
                ),
            ]
            parts.append(f"attrs:({', '.join(names)})")
        return f"({', '.join(parts)})"


def flags_of(word: int) -> dict[str, int]:
    """The fields of a descriptor that are 0 or 1, by herd's names."""
    return {
        "af": int(FORMAT.is_accessed(word)),
        "db": int(FORMAT.is_writable(word)),
        "dbm": int(word & FORMAT.dirty_modifier != 0),
        "valid": int(FORMAT.is_valid(word)),
        "el0": int(word & _USER != 0),
    }


def number(text: str) -> int:
    """The integer that `text` is: decimal, or hexadecimal with 0x."""
    return int(text, 16 if "0x" in text.lower() else 10)


def as_descriptor(value: Value) -> Value:
    """What a descriptor's place holds when `value` is written to it: a number is the word
    itself.
    """
    return Descriptor(value) if isinstance(value, int) else value


def with_hardware_update(word: int, *, dirty: bool) -> int:
    """The descriptor after the hardware has set its access flag, and its dirty bit when `dirty`."""
    word |= FORMAT.accessed
    return word & ~FORMAT.write_bit if dirty else word


def _memory(attributes: Collection[str]) -> tuple[tuple[str, ...], int]:
    """Memory type with its cacheability, and the code of its shareability (Device memory has none
    of its own).
    """
    names = {_SHORT.get(name, name) for name in attributes}
    device = names & set(_DEVICE)
    if device:
        return (min(device),), _SHAREABILITY["OSH"]
    inner, outer = (
        next((name for name in every if name in names), every[0]) for every in (_INNER, _OUTER)
    )
    return ("Normal", inner, outer), next(
        (code for name, code in _SHAREABILITY.items() if name in names), _SHAREABILITY["ISH"]
    )


def is_attribute(name: str) -> bool:
    """Whether `name` is a memory attribute that can be read, in herd's long or short form."""
    return _SHORT.get(name, name) in ATTRIBUTES
