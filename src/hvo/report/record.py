"""Results read back from JSON: every value is asked for by its key and kind, and what is not so is
said with file and place.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Never, TypeGuard, cast

from hvo.errors import HvoError

_MOST = 1 << 100
"""No count or size is as large; arithmetic on what is would not end well."""


@dataclass(frozen=True)
class Record:
    """One JSON object: its `values`, and `where` it stands, as `run.json: pools[0]`."""

    where: str
    values: dict[str, Any]

    def __contains__(self, key: str) -> bool:
        """Whether there is a value for `key` other than null."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        """The text at `key`."""
        value = self.values.get(key)
        return value if isinstance(value, str) else self._refuse(key, "text")

    def integer(self, key: str) -> int:
        """The whole number at `key`."""
        value = self.values.get(key)
        return (
            value
            if _is_integer(value) and abs(value) < _MOST
            else self._refuse(key, "a whole number")
        )

    def number(self, key: str) -> float:
        """The number at `key`, which is finite."""
        value = self.values.get(key)
        return float(value) if _is_number(value) else self._refuse(key, "a number")

    def flag(self, key: str) -> bool:
        """True or false at `key`."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else self._refuse(key, "true or false")

    def flag_or_none(self, key: str) -> bool | None:
        """True, false or null at `key`."""
        return None if self.values.get(key, key) is None else self.flag(key)

    def record(self, key: str) -> "Record":
        """The object at `key`."""
        value = self.values.get(key)
        return (
            self._inner(key, cast("dict[str, Any]", value))
            if isinstance(value, dict)
            else self._refuse(key, "an object")
        )

    def records(self, key: str) -> list["Record"]:
        """The list of objects at `key`."""
        rows = self._list(key)
        if not all(isinstance(row, dict) for row in rows):
            self._refuse(key, "a list of objects")
        return [self._inner(f"{key}[{number}]", row) for number, row in enumerate(rows)]

    def texts(self, key: str) -> list[str]:
        """The list of texts at `key`."""
        rows = self._list(key)
        return (
            rows
            if all(isinstance(row, str) for row in rows)
            else self._refuse(key, "a list of texts")
        )

    def numbers(self, key: str) -> list[float]:
        """The list of finite numbers at `key`."""
        rows = self._list(key)
        return rows if all(map(_is_number, rows)) else self._refuse(key, "a list of numbers")

    def integers(self, key: str) -> list[int]:
        """The list of whole numbers at `key`, each of which 64 bits hold."""
        rows = self._list(key)
        return (
            rows
            if all(_is_integer(row) and abs(row) < 1 << 63 for row in rows)
            else self._refuse(key, "a list of whole numbers")
        )

    def rows(self, key: str) -> list[list[bool]]:
        """The list of lists of true and false at `key`."""
        rows = self._list(key)
        well = all(
            isinstance(row, list)
            and all(isinstance(flag, bool) for flag in cast("list[object]", row))
            for row in rows
        )
        return rows if well else self._refuse(key, "lists of true and false")

    def _list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        return cast("list[Any]", value) if isinstance(value, list) else self._refuse(key, "a list")

    def _inner(self, key: str, values: dict[str, Any]) -> "Record":
        return Record(f"{self.where}{': ' if ': ' not in self.where else '.'}{key}", values)

    def _refuse(self, key: str, expected: str) -> Never:
        found = json.dumps(self.values[key])[:40] if key in self.values else "nothing"
        raise HvoError(
            f"{self._inner(key, {}).where}: expected {expected}, found {found}; give what `hvo ..."
            " --json` printed"
        )


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < _MOST
        and math.isfinite(value)
    )
