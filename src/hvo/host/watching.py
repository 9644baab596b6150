"""What `hvo watch` looks at again and again: the status of a host, what is saved over time, and the
map of its vmemmap.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from hvo.errors import HvoError
from hvo.host.status import Status, read_status
from hvo.host.tree import Tree

if TYPE_CHECKING:
    from hvo.audit.result import Audit

POINTS = 3600
"""Looks that are remembered: two hours at one every two seconds."""


class Point(NamedTuple):
    """What one look adds to the history; sizes in bytes, `at` in seconds since the epoch."""

    at: float
    saved: tuple[int, int]
    """At least and at most, of all sizes together."""
    memmap: int | None
    """The memory map, where the kernel counts it."""


class Watcher:
    """Looks at the host in `tree` and remembers the last `POINTS` looks."""

    def __init__(self, tree: Tree, clock: Callable[[], float] = time.time) -> None:
        self.tree = tree
        self.history: deque[Point] = deque(maxlen=POINTS)
        self._clock = clock

    def look(self) -> Status:
        """The status now; raises `HvoError` when the host cannot be read, which adds nothing to the
        history.
        """
        try:
            status = read_status(self.tree)
        except OSError as error:  # a file that went away between two looks at it
            raise HvoError(f"cannot read {error.filename}: {error.strerror}") from error
        self.history.append(Point(self._clock(), saved(status), status.memmap.memmap))
        return status


def saved(status: Status) -> tuple[int, int]:
    """Bytes that all pools together save, at least and at most."""
    low, high = zip(
        (0, 0), *(row.saved for row in status.pools if row.pool.node is None), strict=True
    )
    return sum(low), sum(high)


@dataclass(frozen=True)
class Mapped:
    """The vmemmap as an audit found it, or why there is none to show."""

    audit: Audit | None
    reason: str | None
    seconds: float
    """How long it took."""

    def to_json(self) -> dict[str, Any]:
        """The object of `hvo watch --json`."""
        return {"audit": self.audit.to_json() if self.audit else None, "reason": self.reason}


def read_map(target: str | None) -> Mapped:
    """Audit `target` (`live`, or a core of the host); without one, or when its memory cannot be
    read, the reason.
    """
    if target is None:
        return Mapped(
            None,
            "a recorded tree has no memory to look at: name a core of the host with --audit",
            0,
        )
    from hvo.audit.audit import audit  # late: it needs numpy, and drgn for cores
    from hvo.memory.target import open_target

    begun = time.perf_counter()
    try:
        found, reason = audit(open_target(target, lambda _: None)), None
    except HvoError as error:
        found, reason = None, str(error)
    return Mapped(found, reason, time.perf_counter() - begun)
