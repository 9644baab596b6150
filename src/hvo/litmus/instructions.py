"""The instructions that a litmus test may use, decoded from text into what they do."""

import re
from dataclasses import dataclass

from hvo.litmus.values import number as number_of

ACCEPTED = (
    "LDR, LDAR, LDAPR, STR, STLR, CAS, SWP, LDADD, LDCLR, LDEOR, LDSET (with A, L, AL) and their ST"
    " forms, MOV, ADD, SUB, AND, BIC, ORR, EOR, LSL, LSR, CBZ, CBNZ, B, NOP, DMB, DSB, ISB or TLBI"
)
"""What `decode` reads, for messages."""


@dataclass(frozen=True)
class Load:
    """Read memory into a register; `order` is A for load-acquire, Q for LDAPR."""

    text: str
    register: str
    base: str
    index: str | None
    narrow: bool
    order: str = ""


@dataclass(frozen=True)
class Store:
    """Write a register to memory; `order` is L for store-release."""

    text: str
    register: str
    base: str
    index: str | None
    narrow: bool
    order: str = ""


@dataclass(frozen=True)
class Atomic:
    """Read and write one place at once: CAS compares with `source` and writes `register`, the
    others write what they make of `source`.
    """

    text: str
    operation: str
    source: str
    register: str | None
    base: str
    narrow: bool
    order: str = ""


@dataclass(frozen=True)
class Compute:
    """`register := operation(operands)`, each a register or an integer."""

    text: str
    operation: str
    register: str
    operands: tuple[str | int, ...]
    narrow: bool


@dataclass(frozen=True)
class Branch:
    """Go to `target`: always, or when `register` is zero or is not."""

    text: str
    target: str
    register: str | None = None
    when_zero: bool = False


@dataclass(frozen=True)
class Fence:
    """A barrier; `kind` is isb, or dmb or dsb with .full, .ld or .st. Shareability makes no
    difference: all observers are in one domain.
    """

    text: str
    kind: str


@dataclass(frozen=True)
class Invalidate:
    """TLBI: by the page in `register`, or everything."""

    text: str
    operation: str
    register: str | None


@dataclass(frozen=True)
class Nothing:
    """NOP, or an empty cell that only has a label."""

    text: str


Instruction = Load | Store | Atomic | Compute | Branch | Fence | Invalidate | Nothing

_R = r"([XW](?:\d+|ZR))"
_MEMORY = r"\[\s*(X\d+)\s*(?:,\s*(?:#0|([XW]\d+)(?:\s*,\s*(?:SXTW|UXTW|LSL\s*#0))?)\s*)?\]"
_NUMBER = r"#?(-?(?:0X[0-9A-F]+|\d+))"
_LOAD = re.compile(rf"(LDR|LDAR|LDAPR)\s+{_R}\s*,\s*{_MEMORY}")
_STORE = re.compile(rf"(STR|STLR)\s+{_R}\s*,\s*{_MEMORY}")
_ATOMIC = re.compile(
    rf"(CAS|SWP|LDADD|LDCLR|LDEOR|LDSET)(A?L?)\s+{_R}\s*,\s*{_R}\s*,\s*\[\s*(X\d+)\s*\]"
)
_ATOMIC_STORE = re.compile(rf"ST(ADD|CLR|EOR|SET)(L?)\s+{_R}\s*,\s*\[\s*(X\d+)\s*\]")
_MOVE = re.compile(rf"MOV\s+{_R}\s*,\s*(?:{_R}|{_NUMBER})")
_COMPUTE = re.compile(
    rf"(ADD|SUB|AND|BIC|ORR|EOR|LSL|LSR)\s+{_R}\s*,\s*{_R}\s*,\s*(?:{_R}|{_NUMBER})"
)
_BRANCH = re.compile(rf"(CBZ|CBNZ)\s+{_R}\s*,\s*(\w+)")
_JUMP = re.compile(r"B\s+(\w+)")
_FENCE = re.compile(r"(DMB|DSB)\s+(?:(ISH|OSH|NSH|SY)?(LD|ST)?)")
_INVALIDATE = re.compile(rf"TLBI\s+(V\w+|IP\w+|ALLE\d\w*|ASIDE\w+)\s*(?:,\s*{_R})?")


def register(name: str) -> tuple[str, bool]:
    """The 64-bit register that `name` is or is half of, and whether it is half."""
    return "X" + name[1:], name.startswith("W")


def decode(text: str) -> Instruction | None:
    """What the instruction `text` does, None when it is none of `ACCEPTED`."""
    upper = re.sub(r"\s+", " ", text.strip()).upper()
    if upper in ("", "NOP"):
        return Nothing(text.strip())
    for reader in (_access, _atomic, _compute, _branch, _fence):
        found = reader(upper, text.strip())
        if found is not None:
            return found
    return None


def _access(upper: str, text: str) -> Instruction | None:
    match = _LOAD.fullmatch(upper) or _STORE.fullmatch(upper)
    if match is None:
        return None
    (name, narrow), base, index = register(match[2]), match[3], match[4]
    order = {"LDAR": "A", "LDAPR": "Q", "STLR": "L"}.get(match[1], "")
    made = Load if match[1].startswith("LD") else Store
    return made(text, name, base, register(index)[0] if index else None, narrow, order)


def _atomic(upper: str, text: str) -> Instruction | None:
    if match := _ATOMIC.fullmatch(upper):
        (source, narrow), (target, _) = register(match[3]), register(match[4])
        return Atomic(text, match[1].removeprefix("LD"), source, target, match[5], narrow, match[2])
    if match := _ATOMIC_STORE.fullmatch(upper):
        source, narrow = register(match[3])
        return Atomic(text, match[1], source, None, match[4], narrow, match[2])
    return None


def _compute(upper: str, text: str) -> Instruction | None:
    if match := _MOVE.fullmatch(upper):
        name, narrow = register(match[1])
        return Compute(text, "MOV", name, (_operand(match[2], match[3]),), narrow)
    if match := _COMPUTE.fullmatch(upper):
        name, narrow = register(match[2])
        return Compute(
            text, match[1], name, (register(match[3])[0], _operand(match[4], match[5])), narrow
        )
    return None


def _operand(name: str | None, number: str) -> str | int:
    return register(name)[0] if name else number_of(number)


def _branch(upper: str, text: str) -> Instruction | None:
    target = re.split(r"[\s,]+", text)[-1]
    if match := _BRANCH.fullmatch(upper):
        return Branch(text, target, register(match[2])[0], match[1] == "CBZ")
    return Branch(text, target) if _JUMP.fullmatch(upper) else None


def _fence(upper: str, text: str) -> Instruction | None:
    if upper in ("ISB", "ISB SY"):
        return Fence(text, "isb")
    if (match := _FENCE.fullmatch(upper)) and (match[2] or match[3]):
        return Fence(text, f"{match[1].lower()}.{(match[3] or 'full').lower()}")
    if match := _INVALIDATE.fullmatch(upper):
        return Invalidate(text, match[1], register(match[2])[0] if match[2] else None)
    return None
