"""Jobs: one protocol in one scenario on one machine, from the question to the verdict; many of them
on any executor.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hvo.check.model.pending import MOST_PENDING
from hvo.check.scenarios.hazards import Case
from hvo.check.scenarios.user_protocol import Own, missteps
from hvo.check.search.explore import Exploration, Options, explore
from hvo.check.search.replay import replay
from hvo.check.search.start import build
from hvo.check.select import case_of, token_name
from hvo.check.trace.rerun import Rerun
from hvo.check.trace.token import Token, TraceStep, decode, told

Verdict = Literal["safe", "unsafe", "unfinished"]


@dataclass(frozen=True)
class Finding:
    """A property that was violated, how, in how many steps and turns (a turn ends where another CPU
    goes on), and the run as a token.
    """

    property: str
    message: str
    steps: int
    turns: int
    token: str


@dataclass(frozen=True)
class Result:
    """What came out of a job; `findings` has every property violated, the most severe first, and
    `trace` the shortest run to that.

    `interrupted`: the user ended it before it was done.
    """

    case: Case
    verdict: Verdict
    findings: tuple[Finding, ...]
    trace: tuple[TraceStep, ...]
    states: int
    transitions: int
    seconds: float
    bounds: str
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """The contract of `hvo check --json` for one result."""
        first = self.findings[0] if self.findings else None
        trace = (
            None
            if first is None
            else {
                "token": first.token,
                "turns": first.turns,
                "steps": [asdict(step) for step in self.trace],
            }
        )
        return {
            "protocol": self.case.protocol,
            "arch": self.case.hardware.name,
            "hazard": self.case.hazard,
            "scenario": self.case.scenario.name,
            "verdict": self.verdict,
            "property": first and first.property,
            "trace": trace,
            "states": self.states,
            "transitions": self.transitions,
            "seconds": self.seconds,
            "bounds": self.bounds,
            "violations": [
                {"property": found.property, "message": found.message, "steps": found.steps}
                for found in self.findings
            ],
        }


def check(
    case: Case, options: Options | None = None, announce: Callable[[int], None] | None = None
) -> Result:
    """Search one case; `announce` hears how many states were looked at, now and then.

    Raises HvoError for what goes wrong in a protocol of the user's own.
    """
    own: Own | None = getattr(case, "own", None)
    if own is None:
        return _check(case, options or Options(), announce)
    with missteps(own):
        return _check(case, options or Options(), announce)


def _check(case: Case, options: Options, announce: Callable[[int], None] | None) -> Result:
    forest, start = build(case.scenario, case.era, case.hardware)
    found = explore(forest, start, case.scenario, options, announce)
    findings: list[Finding] = []
    traces: list[tuple[TraceStep, ...]] = []
    for violation in found.violations:
        trace = told(
            forest, replay(forest, case.scenario, start, violation.path, symmetry=options.symmetry)
        )
        cpus = len(case.scenario.actors)
        token = Token(
            token_name(case),
            case.hardware.name,
            case.hazard,
            case.scenario.name,
            cpus,
            options.symmetry,
            violation.path,
        )
        findings.append(
            Finding(
                violation.property,
                violation.message,
                violation.steps,
                _turns(trace),
                token.encode(),
            )
        )
        traces.append(trace)
    verdict = "unsafe" if findings else "safe" if found.finished else "unfinished"
    shown = traces[0] if traces else ()
    counts = (found.states, found.transitions, found.seconds)
    return Result(
        case,
        verdict,
        tuple(findings),
        shown,
        *counts,
        _bounds(case, options, found),
        found.interrupted,
    )


def _turns(trace: tuple[TraceStep, ...]) -> int:
    return sum(i == 0 or trace[i - 1].cpu != step.cpu for i, step in enumerate(trace))


def _bounds(case: Case, options: Options, found: Exploration) -> str:
    """What the verdict is about."""
    scenario = case.scenario
    parts = [
        str(scenario.geometry),
        f"{len(scenario.actors)} CPUs",
        f"{scenario.failures} refused allocations",
    ]
    if case.hardware.buffers_stores:
        parts.append(f"{MOST_PENDING} stores on their way a CPU")
    parts.append("freed frames are handed out again only to the allocator actor")
    if found.interrupted:
        parts.append(f"interrupted at {found.states} states")
    elif not found.finished:
        parts.append(
            f"stopped at {found.states} states of at most {options.most_states},"
            f" {options.seconds:g} s"
        )
    return ", ".join(parts)


def rerun(token: str) -> Rerun:
    """The run that `token` says, done again; raises HvoError when there is none such."""
    said = decode(token)
    case = case_of(said)
    forest, start = build(case.scenario, case.era, case.hardware)
    return Rerun(
        case,
        forest,
        start,
        tuple(replay(forest, case.scenario, start, said.path, symmetry=said.symmetry)),
    )


def replayed(token: str) -> tuple[Case, tuple[TraceStep, ...]]:
    """The case and the steps of the run that `token` says; raises HvoError when there is none
    such.
    """
    again = rerun(token)
    return again.case, again.trace
