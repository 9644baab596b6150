"""Arithmetic on the values of registers: numbers, and addresses with what lies behind them."""

from collections.abc import Callable

from hvo.errors import HvoError
from hvo.litmus.values import Address, Descriptor, Value, as_descriptor

_WORD = (1 << 64) - 1


_HALF = (1 << 32) - 1


def changed(operation: str, old: Value, operand: Value, text: str) -> Value:
    """What an atomic operation makes of the old value."""
    return operate(
        {"ADD": "ADD", "CLR": "BIC", "EOR": "EOR", "SET": "ORR"}[operation], (old, operand), text
    )


def stored(place: Address, value: Value) -> Value:
    """The value as a place of its kind keeps it."""
    return as_descriptor(value) if place.kind == "PTE" else value


def narrow(value: Value, narrow: bool) -> Value:
    """The low half of a number, where the access is that narrow."""
    return value & _HALF if narrow and isinstance(value, int) else value


def operate(operation: str, values: tuple[Value, ...], text: str) -> Value:
    """What an instruction computes; of addresses only what names one again, of descriptors what
    acts on their bits.
    """
    first = values[0]
    if operation == "MOV":
        return first & _WORD if isinstance(first, int) else first
    second = values[1]
    if isinstance(first, Address) or isinstance(second, Address):
        return on_addresses(operation, first, second, text)
    result = _INTEGER[operation](_bits(first), _bits(second)) & _WORD
    return (
        Descriptor(result)
        if isinstance(first, Descriptor) != isinstance(second, Descriptor) and operation in _BITWISE
        else result
    )


def on_addresses(operation: str, first: Value, second: Value, text: str) -> Value:
    """The result of an operation on addresses."""
    if operation == "LSR" and isinstance(first, Address) and first.kind == "VA" and second == 12:
        return Address("TLB", first.name)
    if operation in ("EOR", "SUB", "BIC") and first == second:
        return 0
    if operation in ("ADD", "ORR", "EOR", "SUB", "BIC", "LSL") and second == 0:
        return first
    if operation in ("ADD", "ORR", "EOR") and first == 0:
        return second
    if operation == "AND" and (first == second or 0 in (first, second)):
        return first if first == second else 0
    raise HvoError(
        f"{text}: cannot compute with the address of a page; expected LSR #12 for TLBI, or an"
        " operand that is 0"
    )


def _bits(value: Value) -> int:
    assert not isinstance(value, Address)
    return value.word if isinstance(value, Descriptor) else value


_BITWISE = ("AND", "BIC", "ORR", "EOR")


_INTEGER: dict[str, Callable[[int, int], int]] = {
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "AND": lambda a, b: a & b,
    "BIC": lambda a, b: a & ~b,
    "ORR": lambda a, b: a | b,
    "EOR": lambda a, b: a ^ b,
    "LSL": lambda a, b: a << (b & 63),
    "LSR": lambda a, b: (a & _WORD) >> (b & 63),
}
