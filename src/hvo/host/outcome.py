"""What a changing command did, or would do: the writes, the change of each counter, and whether it
came out as predicted.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from hvo.host import procfs
from hvo.host.kernel import Kernel
from hvo.host.procfs import Counters
from hvo.host.tree import Tree, Write


@dataclass(frozen=True)
class Change:
    """How much a counter was expected to change, in its own unit, and how much it did."""

    counter: str
    low: int
    high: int
    step: int
    """The change is a multiple of this."""
    measured: int | None
    """`None` before the command has acted."""

    @property
    def holds(self) -> bool:
        """Whether the measured change is an expected one; true while nothing was measured."""
        return self.measured is None or (
            self.low <= self.measured <= self.high and self.measured % self.step == 0
        )


@dataclass(frozen=True)
class Outcome:
    """The result of a changing command."""

    command: str
    dry_run: bool
    writes: tuple[Write, ...]
    changes: tuple[Change, ...]
    problem: str | None = None
    """Why it did not come out as asked, in one line."""
    notes: tuple[str, ...] = ()
    details: dict[str, int | None] = field(default_factory=dict[str, int | None])
    """Figures of the command's own, such as the pages that were converted."""

    @property
    def ok(self) -> bool:
        """Whether all was done and every counter changed as predicted."""
        return self.problem is None and all(change.holds for change in self.changes)

    @property
    def complaint(self) -> str | None:
        """What is wrong, in one line, or `None`."""
        wrong = [change for change in self.changes if not change.holds]
        lines = [
            f"{change.counter} changed by {change.measured}, expected {expected(change)}"
            for change in wrong
        ]
        return "; ".join([self.problem, *lines] if self.problem else lines) or None

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "command": self.command,
            "dry_run": self.dry_run,
            "ok": self.ok,
            "problem": self.complaint,
            "writes": [write._asdict() for write in self.writes],
            "changes": [asdict(change) | {"holds": change.holds} for change in self.changes],
            "notes": list(self.notes),
            **self.details,
        }


def expected(change: Change) -> str:
    """The expected change for people."""
    return (
        f"{change.low:+d}"
        if change.low == change.high
        else f"{change.low:+d} to {change.high:+d} in steps of {change.step}"
    )


MEMMAP = "nr_memmap_pages + nr_memmap_boot_pages"
"""The sum that every optimised page lowers; in pages."""


def memmap_change(
    kernel: Kernel,
    before: Counters,
    size: int,
    pages: tuple[int, int],
    after: Counters | None = None,
) -> Change:
    """The expected change when between `pages[0]` and `pages[1]` more pages of `size` bytes are
    optimised (negative: fewer).

    On kernels that do not count the memory map the sign is `MemTotal`, in bytes: it rises by the
    frames freed that came from boot, at most all of a page's, and never falls.
    """
    weight, base = kernel.freed_pages(size), kernel.page_size
    if before.memmap is None:
        measured = None if after is None else after.mem_total - before.mem_total
        return Change(
            "MemTotal", 0, max(0, pages[1]) * kernel.replaced_frames(size) * base, base, measured
        )
    measured = (
        None if after is None or after.memmap is None else (after.memmap - before.memmap) // base
    )
    return Change(MEMMAP, -pages[1] * weight, -pages[0] * weight, weight or 1, measured)


def read_counters(tree: Tree, kernel: Kernel) -> Counters:
    """The counters of the host now."""
    return procfs.counters(tree, kernel.page_size)
