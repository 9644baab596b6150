"""The final condition of a litmus test: read, put to a final state, and printed as herd prints
it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hvo.litmus.values import Address, Coding, Value


@dataclass(frozen=True)
class Fault:
    """A fault that an access took: thread, label of the instruction, page and kind (Translation,
    AccessFlag, Permission); None is any.
    """

    thread: int
    label: str | None
    page: str | None
    kind: str | None = None

    def matches(self, other: "Fault") -> bool:
        """Whether `other`, which did happen, is the fault asked about."""
        same_label = self.label is None or self.label in (other.label or "").split(",")
        return (
            self.thread == other.thread
            and same_label
            and self.page in (None, other.page)
            and self.kind in (None, other.kind)
        )

    def text(self, unit: str = "MMU") -> str:
        """The fault in parentheses, as herd prints it; `unit` stands before its kind."""
        where = f"P{self.thread}" + (f":{self.label}" if self.label else "")
        parts = [where, self.page, f"{unit}:{self.kind}" if self.kind else ""]
        return f"({','.join(part for part in parts if part)})"


Location = tuple[int, str] | Address
"""A register of a thread, or a place in memory."""


@dataclass(frozen=True)
class Equal:
    """A location has a value."""

    location: Location
    value: Value


@dataclass(frozen=True)
class Faulted:
    """A fault happened."""

    fault: Fault


@dataclass(frozen=True)
class Not:
    """The inner proposition does not hold."""

    inner: "Proposition"


@dataclass(frozen=True)
class Both:
    """All (`/\\`) or one (`\\/`) of the parts hold."""

    operator: str
    parts: tuple["Proposition", ...]


Proposition = Equal | Faulted | Not | Both
TRUE = Both("/\\", ())


@dataclass(frozen=True)
class Condition:
    """`exists`, `~exists` or `forall` a proposition."""

    quantifier: str
    proposition: Proposition

    def text(self, coding: Coding) -> str:
        """The condition as herd prints it."""
        return f"{self.quantifier} ({_text(self.proposition, coding)})"


def atoms(proposition: Proposition) -> Iterator[Equal | Faulted]:
    """Every comparison and fault that the proposition names, from left to right."""
    if isinstance(proposition, Not):
        yield from atoms(proposition.inner)
    elif isinstance(proposition, Both):
        for part in proposition.parts:
            yield from atoms(part)
    else:
        yield proposition


def holds(
    proposition: Proposition, value: Callable[[Location], Value], faulted: Callable[[Fault], bool]
) -> bool:
    """Whether the proposition holds in a final state."""
    match proposition:
        case Equal():
            return value(proposition.location) == proposition.value
        case Faulted():
            return faulted(proposition.fault)
        case Not():
            return not holds(proposition.inner, value, faulted)
        case Both():
            every = all if proposition.operator == "/\\" else any
            return every(holds(part, value, faulted) for part in proposition.parts)


def location_text(location: Location) -> str:
    """A location as herd prints it: `1:X0`, `[x]`, `[PTE(x)]`."""
    if isinstance(location, Address):
        return f"[{location.name}]" if location.kind == "PA" else f"[{location}]"
    return f"{location[0]}:{location[1]}"


def _text(proposition: Proposition, coding: Coding) -> str:
    match proposition:
        case Equal():
            return f"{location_text(proposition.location)}={coding.text(proposition.value)}"
        case Faulted():
            return f"fault{proposition.fault.text()}"
        case Not():
            return f"not ({_text(proposition.inner, coding)})"
        case Both():
            if not proposition.parts:
                return "true"
            parts = (
                f"({_text(part, coding)})" if isinstance(part, Both) else _text(part, coding)
                for part in proposition.parts
            )
            return f" {proposition.operator} ".join(parts)


class Unreadable(Exception):
    """A part of a condition that cannot be read; the message is the part."""


def parse_proposition(text: str, atom: Callable[[str], Proposition]) -> Proposition:
    """The proposition that `text` is; `atom` reads comparisons and faults, or raises `Unreadable`
    as this does.
    """
    reader = _Reader(text)
    proposition = _either(reader, atom)
    if reader.rest:
        raise Unreadable(reader.rest)
    return proposition


class _Reader:
    """The text that is left to read."""

    def __init__(self, text: str) -> None:
        self.rest = text.strip()

    def take(self, *words: str) -> bool:
        """Whether one of `words` is next; it is taken."""
        for word in words:
            if self.rest.startswith(word):
                self.rest = self.rest[len(word) :].lstrip()
                return True
        return False

    def atom(self) -> str:
        """All up to the next operator or parenthesis that closes outside."""
        depth = end = 0
        while end < len(self.rest) and (depth or self.rest[end : end + 2] not in ("/\\", "\\/")):
            depth += {"(": 1, ")": -1}.get(self.rest[end], 0)
            if depth < 0:
                break
            end += 1
        found, self.rest = self.rest[:end].strip(), self.rest[end:].lstrip()
        return found


def _either(reader: _Reader, atom: Callable[[str], Proposition]) -> Proposition:
    return _chain(reader, "\\/", lambda: _chain(reader, "/\\", lambda: _unary(reader, atom)))


def _chain(reader: _Reader, operator: str, part: Callable[[], Proposition]) -> Proposition:
    parts = [part()]
    while reader.take(operator):
        parts.append(part())
    return parts[0] if len(parts) == 1 else Both(operator, tuple(parts))


def _unary(reader: _Reader, atom: Callable[[str], Proposition]) -> Proposition:
    if reader.take("~") or (re.match(r"not\b", reader.rest) and reader.take("not")):
        return Not(_unary(reader, atom))
    if not reader.take("("):
        found = reader.atom()
        return TRUE if found == "true" else atom(found)
    inner = _either(reader, atom)
    if not reader.take(")"):
        raise Unreadable(reader.rest or "the end, before a parenthesis was closed")
    return inner
