"""Mutants of protocols: something left out or swapped, for one kind of actor. Does the checker
notice?

Each is tried in every exercise of its protocol (`hvo.check.scenarios.exercises`). One that nobody
notices is either redundant or a hole in the model; `hvo.check.mutants.explanations` says which is
believed, and why.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

from hvo.check.model.geometry import Geometry, SmallVmemmap
from hvo.check.mutants.catalogue import MUTANTS
from hvo.check.mutants.explanations import belief
from hvo.check.mutants.mutations import Mutation, Trigger, watched
from hvo.check.scenarios.case import Case
from hvo.check.scenarios.exercises import FIXED, PROTOCOLS, exercises
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
"""What the actors with these letters do, and are mutated together for."""


class MutantRow(NamedTuple):
    """A mutant of the actors of one role in a protocol, and what came of it.

    `verdict`: "noticed" (then by which properties, in which scenario, and after how many steps),
    else what is `believed`: "redundant" or "hole", and why; "unexplained" when nothing is.
    """

    protocol: str
    role: str
    mutant: str
    verdict: Literal["noticed", "redundant", "hole", "unexplained"]
    noticed: tuple[str, ...]
    scenario: str | None
    steps: int | None
    believed: str | None


def compare_mutants(
    protocols: tuple[str, ...], options: Options, executor: Executor | None = None
) -> list[MutantRow]:
    """Whether each mutant of `protocols` (none given: all) is noticed, tried on `executor`
    (processes, by default).

    A mutant that changes nothing is left out.
    """
    asked = [exercised(protocol) for protocol in protocols or PROTOCOLS]
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


def exercised(protocol: str) -> str:
    """The protocol that is exercised under the name `protocol`, an era's or a proposal's; raises
    HvoError when there is none.
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
            for case in exercises(protocol)
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
        cases = [
            (replace(case, protocol=f"{protocol}-{fix}"), None) for case in exercises(protocol)
        ]
        row = _row(protocol, "fix", f"-{fix}", options, cases)
        if row is not None:
            yield row


def _steps_of(case: Case, role: str, options: Options) -> list[Step]:
    """Every step that the actors of `role` do in any run of the unchanged case."""
    seen: list[Step] = []
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
            noticed = tuple(violation.property for violation in found)
            return MutantRow(
                protocol, role, name, "noticed", noticed, case.scenario.name, found[0].steps, None
            )
    if not trigger.pulled:
        return None
    believed = belief(protocol, role, name)
    if believed is None:
        return MutantRow(protocol, role, name, "unexplained", (), None, None, None)
    return MutantRow(protocol, role, name, believed.verdict, (), None, None, believed.why)


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


def _act(v: SmallVmemmap, g: Geometry, act: Act, mutation: Mutation, trigger: Trigger) -> Steps:
    return mutation.change(single(act(v, g)), trigger)
