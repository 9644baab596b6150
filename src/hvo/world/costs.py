"""What steps ask of the hardware and of other CPUs, counted while they are done."""

from dataclasses import asdict, dataclass, field

from hvo.mmu.format import Format
from hvo.steps.base import Step
from hvo.steps.entries import WriteEntry
from hvo.steps.ordering import Flush, FlushAll, Invalidate, InvalidateAll, StopCpus


@dataclass(frozen=True)
class CostCounts:
    """`interrupts`: times that all other CPUs were stopped; `invalidations` that were asked for;
    `broken` entries: valid, invalid, and valid again, for `broken_steps` together and `longest` at
    most, in primitive steps of the actor that broke them.
    """

    interrupts: int = 0
    invalidations: int = 0
    broken: int = 0
    broken_steps: int = 0
    longest: int = 0

    def plus(self, more: "CostCounts") -> "CostCounts":
        """Both together."""
        sums = {name: value + asdict(more)[name] for name, value in asdict(self).items()}
        return CostCounts(**sums | {"longest": max(self.longest, more.longest)})


_COUNTED: dict[type, CostCounts] = {
    StopCpus: CostCounts(interrupts=1),
    **dict.fromkeys((Invalidate, InvalidateAll, Flush, FlushAll), CostCounts(invalidations=1)),
}


@dataclass
class Costs:
    """The counts of one machine; entries are watched where `format` says what is valid."""

    format: Format | None
    counts: CostCounts = CostCounts()
    _clock: int = 0
    _since: dict[int, int] = field(default_factory=dict[int, int])

    def count(self, step: Step[object]) -> None:
        """`step` was done, by itself."""
        self._clock += 1
        counted = _COUNTED.get(type(step))
        if counted is not None:
            self.counts = self.counts.plus(counted)
        elif self.format is not None and isinstance(step, WriteEntry):
            self._written(int(step.location), bool(self.format.is_valid(int(step.value))))

    def _written(self, location: int, valid: bool) -> None:
        if not valid:
            self._since.setdefault(location, self._clock)
        elif location in self._since:
            steps = self._clock - self._since.pop(location)
            self.counts = self.counts.plus(CostCounts(0, 0, 1, steps, steps))

    @property
    def is_broken(self) -> bool:
        """Whether an entry is broken now, so that steps must be counted one by one."""
        return bool(self._since)

    def taken(self) -> CostCounts:
        """What was counted; the count begins anew."""
        counts, self.counts = self.counts, CostCounts()
        return counts

    def end(self) -> None:
        """The actor is done: what is invalid now stays so."""
        self._since.clear()
