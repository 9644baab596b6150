"""Jobs: one protocol in one scenario on one machine, from the question to the verdict; many of them on any executor."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from hvo.check import cast as c
from hvo.check.explore import Exploration, Options, explore
from hvo.check.hazards import CASES, Case
from hvo.check.proposals import LETTERS
from hvo.check.rules import Rules, parse_rules
from hvo.check.scenario import Actor, build
from hvo.check.trace import Token, TraceStep, decode, replay
from hvo.errors import HvoError
from hvo.vmemmap.era import parse_variant

PROPOSED = tuple(f"proposal-{letter}" for letter in LETTERS)
"""The proposals for arm64, as protocols."""
Verdict = Literal["safe", "unsafe", "unfinished"]
_READER = Actor("G", "reader", c.read_head)


@dataclass(frozen=True)
class Finding:
    """A property that was violated, how, in how many steps and turns (a turn ends where another CPU goes on), and the run as a token."""

    property: str
    message: str
    steps: int
    turns: int
    token: str


@dataclass(frozen=True)
class Result:
    """What came out of a job; `findings` has every property violated, the most severe first, and `trace` the shortest run to that."""

    case: Case
    verdict: Verdict
    findings: tuple[Finding, ...]
    trace: tuple[TraceStep, ...]
    states: int
    transitions: int
    seconds: float
    bounds: str

    def to_json(self) -> dict[str, Any]:
        """The contract of `hvo check --json` for one result."""
        first = self.findings[0] if self.findings else None
        trace = None if first is None else {"token": first.token, "turns": first.turns, "steps": [asdict(step) for step in self.trace]}
        return {
            "protocol": self.case.protocol, "arch": self.case.rules.name, "hazard": self.case.hazard, "scenario": self.case.scenario.name,
            "verdict": self.verdict, "property": first and first.property, "trace": trace, "states": self.states,
            "transitions": self.transitions, "seconds": self.seconds, "bounds": self.bounds,
            "violations": [{"property": found.property, "message": found.message, "steps": found.steps} for found in self.findings],
        }  # fmt: skip


class Interrupted(Exception):
    """Somebody did not want to wait for all jobs; `results` are those that were done."""

    def __init__(self, results: list[Result]) -> None:
        super().__init__(f"interrupted after {len(results)} jobs")
        self.results = results


def with_cpus(case: Case, cpus: int | None) -> Case | None:
    """The case on a machine of `cpus` CPUs: those that nobody uses read the first huge page; None when there are too few."""
    scenario = case.scenario
    more = 0 if cpus is None else cpus - len(scenario.actors)
    if more < 0:
        return None
    readers = (_READER,) * (more if scenario.live and scenario.complete else 0)
    return replace(case, scenario=replace(scenario, actors=scenario.actors + readers))


def asked(protocols: Iterable[str], arch: Rules | None, hazards: Iterable[str], cpus: int | None) -> list[Case]:
    """The jobs that were asked for: the benchmark's own, or each of `protocols` in every scenario.

    `arch` (None: all) picks machines of the benchmark, and is the machine that given protocols run on. Raises HvoError for an unknown
    hazard, or when nothing is left.
    """
    hazards = tuple(hazards)
    known = dict.fromkeys(case.hazard for case in CASES)
    for hazard in hazards:
        if not any(name.startswith(hazard) for name in known):
            raise HvoError(f"unknown hazard {hazard!r}: there are {', '.join(known)}")
    chosen = [case for case in CASES if not hazards or any(case.hazard.startswith(hazard) for hazard in hazards)]
    names = [name if name in PROPOSED else parse_variant(name).variant for name in protocols]
    if names:
        chosen = list(_everywhere(names, chosen, arch))
    elif arch is not None:
        chosen = [case for case in chosen if case.rules == arch]
    found = [case for case in (with_cpus(case, cpus) for case in chosen) if case is not None]
    if not found:
        raise HvoError("nothing to check: no scenario has that hazard on that machine with so few CPUs")
    return found


def _everywhere(protocols: list[str], chosen: list[Case], arch: Rules | None) -> Iterator[Case]:
    """Each protocol in each scenario of `chosen` that is about its time, once; a proposal in the scenarios made for it."""
    seen: set[tuple[str, str, str, str]] = set()
    for protocol in protocols:
        for case in chosen:
            rules = arch or case.rules
            key = (protocol, rules.name, case.hazard, case.scenario.name)
            if key not in seen and _is_about(case, protocol) and (arch or rules.flush_all):
                seen.add(key)
                yield replace(case, protocol=protocol, rules=rules, expected=None, also=())


def _is_about(case: Case, protocol: str) -> bool:
    if protocol in PROPOSED or case.protocol in PROPOSED:
        return case.protocol == protocol
    return case.scenario.fits is None or case.scenario.fits(parse_variant(protocol))


def check(case: Case, options: Options | None = None) -> Result:
    """Search one case."""
    options = options or Options()
    forest, start = build(case.scenario, case.era, case.rules)
    found = explore(forest, start, case.scenario, options)
    findings: list[Finding] = []
    traces: list[tuple[TraceStep, ...]] = []
    for violation in found.violations:
        trace = tuple(replay(forest, case.scenario, start, violation.path, symmetry=options.symmetry))
        cpus = len(case.scenario.actors)
        token = Token(case.protocol, case.rules.name, case.hazard, case.scenario.name, cpus, options.symmetry, violation.path)
        findings.append(Finding(violation.property, violation.message, violation.steps, _turns(trace), token.encode()))
        traces.append(trace)
    verdict = "unsafe" if findings else "safe" if found.finished else "unfinished"
    shown = traces[0] if traces else ()
    return Result(case, verdict, tuple(findings), shown, found.states, found.transitions, found.seconds, _bounds(case, options, found))


def _turns(trace: tuple[TraceStep, ...]) -> int:
    return sum(i == 0 or trace[i - 1].cpu != step.cpu for i, step in enumerate(trace))


def _bounds(case: Case, options: Options, found: Exploration) -> str:
    """What the verdict is about."""
    scenario = case.scenario
    parts = [str(scenario.geometry), f"{len(scenario.actors)} CPUs", f"{scenario.failures} refused allocations"]
    parts.append("freed frames are handed out again only to the allocator actor")
    if not found.finished:
        parts.append(f"stopped at {found.states} states of at most {options.most_states}, {options.seconds:g} s")
    return ", ".join(parts)


def check_all(
    cases: list[Case], options: Options | None = None, executor: Executor | None = None, announce: Callable[[int, int], None] | None = None
) -> list[Result]:
    """Search all cases on `executor` (processes, by default) -> results in the order of the cases; `announce` hears (done, all).

    Raises Interrupted, with what is known, when the user ends it.
    """
    if executor is None:
        with ProcessPoolExecutor() as pool:
            return check_all(cases, options, pool, announce)
    futures = [executor.submit(partial(check, case, options)) for case in cases]
    try:
        for done, _ in enumerate(as_completed(futures)):
            if announce is not None:
                announce(done + 1, len(cases))
    except KeyboardInterrupt:
        for future in futures:
            future.cancel()
        known = [future for future in futures if future.done() and not future.cancelled()]
        raise Interrupted([future.result() for future in known if future.exception() is None]) from None
    return [future.result() for future in futures]


def replayed(token: str) -> tuple[Case, list[TraceStep]]:
    """The case and the steps of the run that `token` says; raises HvoError when there is none such."""
    said = decode(token)
    rules = parse_rules(said.rules)
    for case in CASES:
        if case.hazard == said.hazard and case.scenario.name == said.scenario and rules is not None:
            found = with_cpus(replace(case, protocol=said.protocol, rules=rules), said.cpus)
            if found is not None:
                forest, start = build(found.scenario, found.era, rules)
                return found, replay(forest, found.scenario, start, said.path, symmetry=said.symmetry)
    raise HvoError(f"the run is about scenario {said.scenario!r} of {said.hazard}, which this version does not have")
