"""Allocations that fail on purpose: after how many, so that every point of failure can be tried."""

from dataclasses import dataclass


@dataclass
class FailureInjection:
    """How many more allocations (each of one frame or one block) succeed; None is no limit."""

    remaining: int | None = None

    def allow(self, count: int) -> int:
        """How many of `count` allocations may succeed."""
        return count if self.remaining is None else min(count, self.remaining)

    def spend(self, count: int) -> None:
        """Count `count` allocations that succeeded."""
        if self.remaining is not None:
            self.remaining -= count
