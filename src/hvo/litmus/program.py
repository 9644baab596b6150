"""A litmus test as it is read from a file."""

from dataclasses import dataclass, field

from hvo.litmus.condition import TRUE, Condition, Fault, Location
from hvo.litmus.instructions import Instruction
from hvo.litmus.values import Address, Coding, Value


@dataclass(frozen=True)
class Step:
    """An instruction of a thread with its labels."""

    instruction: Instruction
    labels: tuple[str, ...]


_ANY = Condition("forall", TRUE)


@dataclass
class Test:
    """A litmus test: what memory and registers hold at first, what each thread does, and what is
    asked of the end.
    """

    __test__ = False

    name: str
    file: str
    coding: Coding = field(default_factory=Coding)
    variants: frozenset[str] = frozenset()
    hardware: dict[int | None, frozenset[str]] = field(
        default_factory=dict[int | None, frozenset[str]]
    )
    """TTHM: HA and HD of each thread; None is every thread."""
    user: frozenset[int] = frozenset()
    """Threads that run at EL0."""
    memory: dict[Address, Value] = field(default_factory=dict[Address, Value])
    registers: dict[tuple[int, str], Value] = field(default_factory=dict[tuple[int, str], Value])
    threads: list[list[Step]] = field(default_factory=list[list[Step]])
    shown: tuple[Location | Fault, ...] = ()
    """What `locations [...]` asks to see besides what the condition names."""
    condition: Condition = _ANY

    def manages(self, thread: int, what: str) -> bool:
        """Whether the hardware updates descriptors for `thread`: `what` is HA (access flag) or HD
        (dirty state, which needs HA).
        """
        named = self.hardware.get(thread, frozenset[str]()) | self.hardware.get(
            None, frozenset[str]()
        )
        return what in named or (what == "HA" and "HD" in named)
