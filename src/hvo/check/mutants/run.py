"""The mutation test of the checker: steps of one role are left out or swapped, and the search
should find a violation.

Each mutant runs in the mutation suite of its protocol (`hvo.check.mutants.suite`). A mutant that
survives is equivalent to the protocol or shows a gap in the model
(`hvo.check.mutants.explanations`).
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

from hvo.check.model.geometry import Geometry, SmallVmemmap
from hvo.check.mutants.catalogue import MUTANTS
from hvo.check.mutants.explanations import explanation
from hvo.check.mutants.mutations import Mutation, Trigger, watched
from hvo.check.mutants.suite import FIXED, PROTOCOLS, suite
from hvo.check.scenarios.case import Case
from hvo.check.scenarios.scenario import Act, Actor, Scenario
from hvo.check.search.explore import Options, explore
from hvo.check.search.start import build
from hvo.check.search.tree import single
from hvo.errors import HvoError
from hvo.steps.base import Step, Steps
from hvo.vmemmap.era import parse_variant

ROLES = {
    "O": "optimise",
    "P": "optimise",
    "R": "restore",
    "H": "hotplug",
    "D": "dump",
    "W": "walker",
    "M": "memory failure",
    "F": "caches",
}
"""The role of the actors with these letters; actors of one role are mutated together."""


class MutantRow(NamedTuple):
    """A mutant of one role in a protocol, and its fate.

    A killed mutant has the properties that it violates, the scenario and the number of steps; a
    survivor has an `explanation`, unless it is "unexplained".
    """

    protocol: str
    role: str
    mutant: str
    verdict: Literal["killed", "equivalent", "model gap", "unexplained"]
    killed_by: tuple[str, ...]
    scenario: str | None
    steps: int | None
    explanation: str | None

    def to_json(self) -> dict[str, Any]:
        """The contract of `hvo check --mutants --json`, with the words of 0.1.0."""
        return {
            "protocol": self.protocol,
            "role": self.role,
            "mutant": self.mutant,
            "verdict": _JSON_VERDICT[self.verdict],
            "noticed": self.killed_by,
            "scenario": self.scenario,
            "steps": self.steps,
            "believed": self.explanation,
        }


_JSON_VERDICT = {
    "killed": "noticed",
    "equivalent": "redundant",
    "model gap": "hole",
    "unexplained": "unexplained",
}


def compare_mutants(
    protocols: tuple[str, ...], options: Options, executor: Executor | None = None
) -> list[MutantRow]:
    """The fate of each mutant of `protocols` (none given: all), run on `executor` (default:
    processes).

    A mutant that changes no step is left out.
    """
    asked = [suite_protocol(protocol) for protocol in protocols or PROTOCOLS]
    if executor is None:
        with ProcessPoolExecutor() as pool:
            return compare_mutants(protocols, options, pool)
    futures = [
        executor.submit(_part, protocol, part, options)
        for protocol in asked
        for part in ("fix", *sorted(set(ROLES.values())))
    ]
    return [row for future in futures for row in future.result()]


def _part(protocol: str, part: str, options: Options) -> list[MutantRow]:
    """The rows of one role, or of the fixes."""
    return list(
        without_fixes(protocol, options)
        if part == "fix"
        else mutants_of(protocol, options, roles=(part,))
    )


def suite_protocol(protocol: str) -> str:
    """The protocol whose suite is run for `protocol`, an era or a proposal.

    Raises HvoError if there is none.
    """
    found = FIXED.get(protocol, protocol)
    if found not in PROTOCOLS:
        raise HvoError(
            f"mutants are made of {', '.join((*FIXED, *PROTOCOLS[len(FIXED) :]))}, not of"
            f" {protocol!r}"
        )
    return found


def mutants_of(
    protocol: str,
    options: Options,
    names: Iterable[str] = tuple(MUTANTS),
    roles: Iterable[str] = tuple(ROLES.values()),
) -> Iterator[MutantRow]:
    """The rows of one protocol, for the mutants `names` of those of `roles` that it has."""
    names = tuple(names)
    for role in sorted(set(roles)):
        cases = [
            case
            for case in suite(protocol)
            if any(ROLES.get(actor.letter) == role for actor in case.scenario.actors)
        ]
        steps = [_steps_of(case, role, options) for case in cases]
        for name in names:
            mutant = MUTANTS[name]
            about = [
                case
                for case, seen in zip(cases, steps, strict=True)
                if any(mutant.mutation.about(step) for step in seen)
            ]
            if about and (mutant.roles is None or role in mutant.roles):
                row = _row(
                    protocol, role, name, options, [(case, mutant.mutation) for case in about]
                )
                if row is not None:
                    yield row


def without_fixes(protocol: str, options: Options) -> Iterator[MutantRow]:
    """The rows of one era without each of its fixes."""
    if protocol.startswith("proposal-"):
        return
    for fix in sorted(parse_variant(protocol).fixes):
        cases = [(replace(case, protocol=f"{protocol}-{fix}"), None) for case in suite(protocol)]
        row = _row(protocol, "fix", f"-{fix}", options, cases)
        if row is not None:
            yield row


def _steps_of(case: Case, role: str, options: Options) -> list[Step[object]]:
    """Every step that the actors of `role` do in any run of the unchanged case."""
    seen: list[Step[object]] = []
    scenario = _mutated(case.scenario, role, watched(seen), Trigger())
    forest, start = build(scenario, case.era, case.hardware)
    explore(forest, start, scenario, options)
    return seen


def _row(
    protocol: str,
    role: str,
    name: str,
    options: Options,
    cases: Sequence[tuple[Case, Mutation | None]],
) -> MutantRow | None:
    trigger = Trigger(role == "fix")
    for case, mutation in cases:
        scenario = (
            case.scenario if mutation is None else _mutated(case.scenario, role, mutation, trigger)
        )
        forest, start = build(scenario, case.era, case.hardware)
        found = [
            bad
            for bad in explore(forest, start, scenario, options).violations
            if bad.property != case.expected
        ]
        if found:
            violated = tuple(violation.property for violation in found)
            return MutantRow(
                protocol, role, name, "killed", violated, case.scenario.name, found[0].steps, None
            )
    if not trigger.pulled:
        return None
    why = explanation(protocol, role, name)
    if why is None:
        return MutantRow(protocol, role, name, "unexplained", (), None, None, None)
    return MutantRow(protocol, role, name, why.verdict, (), None, None, why.why)


def _mutated(scenario: Scenario, role: str, mutation: Mutation, trigger: Trigger) -> Scenario:
    acts: dict[int, Act] = {}

    def changed(actor: Actor) -> Actor:
        if ROLES.get(actor.letter) != role:
            return actor
        act = acts.setdefault(
            id(actor.act), partial(_act, act=actor.act, mutation=mutation, trigger=trigger)
        )
        return replace(actor, act=act)

    return replace(scenario, actors=tuple(changed(actor) for actor in scenario.actors))


def _act(
    v: SmallVmemmap, g: Geometry, act: Act, mutation: Mutation, trigger: Trigger
) -> Steps[object]:
    return mutation.change(single(act(v, g)), trigger)
