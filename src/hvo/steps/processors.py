"""Steps on other CPUs, and on entries that hardware or another CPU may change meanwhile."""

from dataclasses import dataclass

from hvo.steps.vocabulary import Step, Value


@dataclass(frozen=True, slots=True, eq=False)
class StopCpus(Step):
    """Stop all other CPUs -> None, once they have stopped.

    With `preemptible` only where they hold no spin lock and are in no read-side section, as
    `stop_machine` does; else wherever an interrupt finds them: not where they have masked
    interrupts. `interrupts`: the stopping CPU itself still takes them.
    """

    preemptible: bool
    interrupts: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ResumeCpus(Step):
    """Let the other CPUs go on -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class CompareExchangeEntry(Step):
    """Atomically write `value` as the entry at `location` (of `level`, translating `address`) if it
    is `expected` -> whether it was.
    """

    location: Value
    expected: Value
    value: Value
    level: int
    address: Value


@dataclass(frozen=True, slots=True, eq=False)
class AllowFaults(Step):
    """From now on (`allowed`) a kernel access that meets an invalid entry waits until it is valid,
    or (not) is an error again -> None.
    """

    allowed: bool
