"""What a run gave, and its JSON form: the keys are a contract, sizes are bytes, times are
seconds.
"""

from dataclasses import asdict, dataclass
from typing import Any

from hvo.machine.run.memmap import Memmap
from hvo.machine.scenario.scenario import Snapshot
from hvo.world.costs import CostCounts


@dataclass(frozen=True)
class Guarantee:
    """One guarantee of the mechanism: its id, what it says, whether it held on this machine (None:
    it is not promised there), and what was measured.
    """

    id: str
    statement: str
    holds: bool | None
    evidence: str


@dataclass(frozen=True)
class MachineShape:
    """Architecture and sizes of the machine, in bytes."""

    arch: str
    page_size: int
    memory: int
    struct_page_size: int


@dataclass(frozen=True)
class PoolResult:
    """The pool that the run was about: size of its pages in bytes, how many, and how many the
    tables show optimised.
    """

    size: int
    pages: int
    optimized: int


@dataclass(frozen=True)
class Seconds:
    """How long the parts of a run took; `audit` is the walks that count, `optimize` a scenario's
    whole time where there is one.
    """

    build: float
    optimize: float
    restore: float
    audit: float


@dataclass(frozen=True)
class RunResult:
    """A run: the memory map as built, optimised and restored, and which guarantees held.

    `sample` shows the first pages of the pool when optimised: for each which of its vmemmap pages
    (64 at most) has a frame of its own. `snapshots` is None where there was no scenario; `costs`
    are those of optimising and of restoring, where the era is a proposal.
    """

    machine: MachineShape
    era: str
    pool: PoolResult
    before: Memmap
    after: Memmap
    restored: Memmap
    sample: tuple[tuple[bool, ...], ...]
    guarantees: tuple[Guarantee, ...]
    seconds: Seconds
    snapshots: tuple[Snapshot, ...] | None
    costs: tuple[CostCounts, CostCounts] | None = None

    @property
    def saved(self) -> int:
        """Bytes of memory map that optimising gave back, before the cost of tables."""
        return self.before.bytes - self.after.bytes

    @property
    def table_cost(self) -> int:
        """Bytes of the page tables that splitting leaves took."""
        return (self.after.tables - self.before.tables) * self.machine.page_size

    @property
    def kept(self) -> bool:
        """Whether every guarantee held."""
        return all(guarantee.holds is not False for guarantee in self.guarantees)

    def to_json(self) -> dict[str, Any]:
        """The object that `hvo run --json` prints; `snapshots` only after a scenario, `costs` only
        of a proposal.
        """
        out = {
            "machine": asdict(self.machine),
            "era": self.era,
            "pool": asdict(self.pool),
            "memmap_before": self.before.bytes,
            "memmap_after": self.after.bytes,
            "saved": self.saved,
            "table_cost": self.table_cost,
            "vmemmap": {
                "before": asdict(self.before),
                "after": asdict(self.after),
                "restored": asdict(self.restored),
            },
            "sample": self.sample,
            "promises": [asdict(guarantee) for guarantee in self.guarantees],
            "seconds": asdict(self.seconds),
        }
        if self.costs is not None:
            out["costs"] = dict(zip(("optimize", "restore"), map(asdict, self.costs), strict=True))
        if self.snapshots is not None:
            out["snapshots"] = [
                {"name": name, "counters": counters} for name, counters in self.snapshots
            ]
        return out
