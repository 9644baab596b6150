"""VMCOREINFO: the text in which a kernel tells a dump reader its constants.

One `KEY=value` a line (`kernel/vmcore_info.c`, `arch/*/kernel/vmcore_info.c`). `SYMBOL()` values
are hexadecimal without a prefix, the others decimal, or hexadecimal with `0x`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar, overload

from hvo.errors import HvoError

Value = TypeVar("Value")
Default = TypeVar("Default")


class _Required(Enum):
    """Stands for "no default": None is one."""

    REQUIRED = 0


@dataclass(frozen=True)
class Lookup(Generic[Value]):
    """One kind of key: called with a name it gives the value, or the default where one is given and
    the key is missing.

    Raises `HvoError` that names the key when it is missing without a default, or is not a number.
    """

    entries: Mapping[str, str]
    kind: str
    parse: Callable[[str], Value]

    @overload
    def __call__(self, name: str) -> Value: ...
    @overload
    def __call__(self, name: str, default: Default) -> Value | Default: ...
    def __call__(
        self, name: str, default: Default | _Required = _Required.REQUIRED
    ) -> Value | Default:
        """The value of `name`."""
        key = f"{self.kind}({name})" if self.kind else name
        if key in self.entries:
            return self._parsed(key)
        if not isinstance(default, _Required):
            return default
        raise HvoError(f"VMCOREINFO has no {key}, which is needed to read this kernel's memory")

    def _parsed(self, key: str) -> Value:
        try:
            return self.parse(self.entries[key])
        except ValueError:
            raise HvoError(f"VMCOREINFO: {key}={self.entries[key]} is not a number") from None


def _hexadecimal(text: str) -> int:
    return int(text, 16)


def _number(text: str) -> int:
    return int(text, 16 if text.lower().lstrip("-").startswith("0x") else 10)


class VmcoreInfo:
    """The constants of one kernel, each looked up by its name.

    >>> info = VmcoreInfo.parse("OSRELEASE=7.1.0\\nSIZE(page)=64\\n")
    >>> info.text("OSRELEASE"), info.size("page"), info.number("VA_BITS", None)
    ('7.1.0', 64, None)
    """

    def __init__(self, entries: Mapping[str, str]) -> None:
        self.entries = dict(entries)
        self.text = Lookup(self.entries, "", str)
        """A line as it stands, e.g. `text("OSRELEASE")`."""
        self.symbol = Lookup(self.entries, "SYMBOL", _hexadecimal)
        """A virtual address; of an array its first element, of a pointer exported as an array its
        value.
        """
        self.number = Lookup(self.entries, "NUMBER", _number)
        """A constant, which may be negative."""
        self.offset = Lookup(self.entries, "OFFSET", _number)
        """Offset of a member in bytes, e.g. `offset("page.flags")`."""
        self.size = Lookup(self.entries, "SIZE", _number)
        """Size of a type in bytes."""
        self.length = Lookup(self.entries, "LENGTH", _number)
        """Number of elements of an array."""

    @classmethod
    def parse(cls, text: str) -> VmcoreInfo:
        """The constants in `text`; lines without `=` are skipped, of a repeated key the last one
        counts.
        """
        pairs = (line.partition("=") for line in text.splitlines())
        return cls({key: value for key, equals, value in pairs if equals})

    @property
    def page_size(self) -> int:
        """Size of a base page in bytes (`PAGESIZE`); raises `HvoError` unless it is one of 4096,
        16384, 65536.
        """
        value = self.text("PAGESIZE")
        if value not in ("4096", "16384", "65536"):
            raise HvoError(f"VMCOREINFO: PAGESIZE={value}, expected 4096, 16384 or 65536")
        return int(value)

    def to_text(self) -> str:
        """The text a kernel would print, in the order of `entries`."""
        return "".join(f"{key}={value}\n" for key, value in self.entries.items())
