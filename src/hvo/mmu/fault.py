"""Why a walk ends without a translation, and how far the hole goes."""

from dataclasses import dataclass
from enum import IntEnum


class FaultCode(IntEnum):
    """What is wrong with the entry where a walk ended."""

    NONE = 0
    NOT_PRESENT = 1
    """The entry is not valid."""
    OUTSIDE_MEMORY = 2
    """The entry lies in memory that is not there: the table's address is wrong, or the core file
    lacks the frame.
    """
    MALFORMED = 3
    """The entry is valid, but the architecture reserves what it says."""
    NON_CANONICAL = 4
    """The address has bits that no table translates; no entry was looked at."""


@dataclass(frozen=True)
class Fault:
    """One address that has no translation; addresses and sizes in bytes."""

    address: int
    code: FaultCode
    level: int
    location: int
    entry: int
    skip: int
    """Bytes from `address` to the end of the hole, none of which is translated either."""

    def __str__(self) -> str:
        """One line that says all of it."""
        what = self.code.name.lower().replace("_", " ")
        where = f"entry {self.entry:#x} of level {self.level} at {self.location:#x}"
        return f"{self.address:#x}: {what}: {where}; nothing is mapped for {self.skip:#x} bytes"
