"""Runs litmus tests: what herd would say of each, its outcomes where they can be told, and its flag
always.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hvo.errors import HvoError
from hvo.litmus.breaking import FLAG, lacks_break
from hvo.litmus.candidates import all_runs, candidates
from hvo.litmus.condition import (
    Condition,
    Fault,
    Faulted,
    Location,
    atoms,
    holds,
    location_text,
)
from hvo.litmus.model import Execution, Model
from hvo.litmus.ordering import reason_not_told
from hvo.litmus.parse import read_test
from hvo.litmus.program import Test
from hvo.litmus.values import Address, Value

_KINDS = {"exists": "Allowed", "~exists": "Forbidden", "forall": "Required"}


@dataclass(frozen=True)
class LitmusResult:
    """What is said of one test. The outcomes, how often and whether the condition holds are None
    where they are not told.
    """

    test: str
    file: str
    kind: str
    """Allowed, Forbidden or Required: what the condition claims."""
    condition: str
    flags: tuple[str, ...]
    outcomes: tuple[str, ...] | None
    reason: str | None
    """Why the outcomes are not told."""
    positive: int | None
    """Executions for which the proposition of the condition holds ..."""
    negative: int | None
    """... and for which it does not."""

    @property
    def valid(self) -> bool | None:
        """Whether the condition holds with its quantifier (herd's Ok)."""
        if self.positive is None or self.negative is None:
            return None
        return {
            "Allowed": self.positive > 0,
            "Forbidden": self.positive == 0,
            "Required": self.negative == 0,
        }[self.kind]

    @property
    def observation(self) -> str | None:
        """Never, Sometimes or Always: how often the proposition holds."""
        if self.positive is None:
            return None
        return ("Sometimes" if self.negative else "Always") if self.positive else "Never"

    def to_json(self) -> dict[str, object]:
        """The result as `hvo check --litmus --json` prints it."""
        return {
            "test": self.test,
            "file": self.file,
            "kind": self.kind,
            "condition": self.condition,
            "flags": list(self.flags),
            "outcomes": None if self.outcomes is None else list(self.outcomes),
            "reason": self.reason,
            "ok": self.valid,
            "observation": self.observation,
            "positive": self.positive,
            "negative": self.negative,
        }


def run_files(files: Iterable[str]) -> tuple[list[LitmusResult], list[HvoError]]:
    """The result for each file that can be read, and an error for each other."""
    results: list[LitmusResult] = []
    unread: list[HvoError] = []
    for file in files:
        try:
            results.append(run_test(read_test(Path(file))))
        except HvoError as error:
            unread.append(error)
    return results, unread


def run_test(test: Test) -> LitmusResult:
    """What herd says of the test."""
    condition = test.condition
    states: dict[tuple[object, ...], str] = {}
    flagged = False
    counts = {True: 0, False: 0}
    for execution in executions(test):
        flagged = flagged or lacks_break(test, execution)
        state = _State(test, execution)
        counts[holds(condition.proposition, state.value, state.faulted)] += 1
        states.setdefault(state.key(condition), state.text(condition))
    runs, _ = all_runs(test)
    reason = reason_not_told(test, (local for each in runs for local in each))
    outcomes = (
        None
        if reason
        else tuple(text for _, text in sorted(states.items(), key=lambda item: item[0]))
    )
    return LitmusResult(
        test.name,
        test.file,
        _KINDS[condition.quantifier],
        condition.text(test.coding),
        (FLAG,) if flagged else (),
        outcomes,
        reason,
        None if reason else counts[True],
        None if reason else counts[False],
    )


def executions(test: Test) -> Iterator[Execution]:
    """Every execution of the test that the memory model allows."""
    model: Model | None = None
    for candidate in candidates(test):
        if model is None or model.combination is not candidate.combination:
            model = Model(candidate.combination)
        yield from model.allowed(candidate)


class _State:
    """The end of an execution: registers, memory and faults."""

    def __init__(self, test: Test, execution: Execution) -> None:
        self.test, self.candidate = test, execution.candidate
        self.runs = [local.run for local in execution.candidate.combination.locals]

    def value(self, location: Location) -> Value:
        """What a register or a place holds."""
        return (
            self.candidate.final(location)
            if isinstance(location, Address)
            else self.runs[location[0]].registers.get(location[1], 0)
        )

    def faulted(self, fault: Fault) -> bool:
        """Whether the fault happened."""
        return any(fault.matches(other) for run in self.runs for other in run.faults)

    def key(self, condition: Condition) -> tuple[object, ...]:
        """What tells states apart, in the order in which herd lists them."""
        values = (_order(self.value(location)) for location in _locations(self.test, condition))
        return (*values, *(self._faults(fault) for fault in _faults(self.test, condition)))

    def text(self, condition: Condition) -> str:
        """The state as herd prints it."""
        text = self.test.coding.text
        values = " ".join(
            f"{location_text(location)}={text(self.value(location))};"
            for location in _locations(self.test, condition)
        )
        asked = _faults(self.test, condition)
        return values + "".join(
            "".join(f" Fault{each};" for each in self._faults(fault)) or f"  ~Fault{fault.text()};"
            for fault in asked
        )

    def _faults(self, fault: Fault) -> tuple[str, ...]:
        return tuple(
            other.text("D-MMU") for run in self.runs for other in run.faults if fault.matches(other)
        )


def _order(value: Value) -> tuple[int, int | str]:
    return (0, value) if isinstance(value, int) else (1, str(value))


def _locations(test: Test, condition: Condition) -> list[Location]:
    """The locations that a state shows: registers by thread and number, then memory by name."""
    shown = {at for at in test.shown if not isinstance(at, Fault)}
    asked = {
        atom.location for atom in atoms(condition.proposition) if not isinstance(atom, Faulted)
    }
    return sorted(shown | asked, key=_place_order)


def _place_order(location: Location) -> tuple[int, int, str, int]:
    if isinstance(location, Address):
        return 1, 0, f"{location.kind}{location.name}", 0
    number = location[1][1:]
    return 0, location[0], "", int(number) if number.isdigit() else 99


def _faults(test: Test, condition: Condition) -> list[Fault]:
    shown = [fault for fault in test.shown if isinstance(fault, Fault)]
    return list(
        dict.fromkeys(
            [
                *shown,
                *(atom.fault for atom in atoms(condition.proposition) if isinstance(atom, Faulted)),
            ]
        )
    )
