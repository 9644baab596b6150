"""Protocols with one thing left out: does the checker notice?

A mutant that nobody notices is either redundant or a hole in the model; `unnoticed` says which is believed, and why.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from hvo.check.explore import Options, explore
from hvo.check.geometry import Geometry, SmallVmemmap
from hvo.check.hazards import CASES, Case
from hvo.check.perform import NODE
from hvo.check.scenario import Act, Scenario, build
from hvo.check.search import step
from hvo.check.tree import single
from hvo.check.world import Fault, World
from hvo.errors import HvoError
from hvo.steps import vocabulary as s
from hvo.steps.vocabulary import Lock, Step, Steps


@dataclass(frozen=True)
class Mutant:
    """A thing to leave out: its name, which steps it is, and what is believed when nobody notices."""

    name: str
    left_out: Callable[[Step], bool]
    unnoticed: str


def _lock(lock: Lock) -> Callable[[Step], bool]:
    return lambda step: isinstance(step, s.Acquire | s.Release) and step.lock is lock


def _field(name: str) -> Callable[[Step], bool]:
    return lambda step: isinstance(step, s.StorePage) and step.field == name


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant(
            "flush",
            lambda step: isinstance(step, s.Invalidate | s.InvalidateAll | s.AwaitInvalidation),
            "redundant here: the protocol frees nothing that was mapped",
        ),
        Mutant(
            "flush-wait", lambda step: isinstance(step, s.AwaitInvalidation), "redundant here: the protocol frees nothing that was mapped"
        ),
        Mutant(
            "readers-wait", lambda step: isinstance(step, s.SynchronizeReaders), "redundant here: the protocol does not wait for readers"
        ),
        Mutant(
            "page-table-lock",
            _lock(Lock.PAGE_TABLE),
            "a hole if two split one leaf here, else redundant: nobody else takes the lock",
        ),
        Mutant(
            "mmap-lock",
            _lock(Lock.MMAP_READ),
            "redundant: optimise and restore only read-lock it, and free no table; the page-table lock orders the splits",
        ),
        Mutant(
            "hotplug-lock",
            lambda step: _lock(Lock.HOTPLUG)(step) or _lock(Lock.HOTPLUG_READ)(step),
            "redundant here: nobody removes memory",
        ),
        Mutant("barrier", lambda step: isinstance(step, s.WriteBarrier), "a hole: the model does every CPU's stores in their order"),
        Mutant("flag", _field("vmemmap_optimized"), "redundant here: nobody restores, and the flag is what restore asks"),
        Mutant("key", lambda step: isinstance(step, s.Count), "a hole: counters are compared at the end, and nothing was counted here"),
    )
}
"""Everything that can be left out, by its name."""
MUTATED_LETTERS = ("O", "P", "R", "H", "D")


def mutated(act: Act, name: str) -> Act:
    """`act` without what the mutant `name` leaves out."""
    return partial(_mutated, act=act, name=name)


def _mutated(v: SmallVmemmap, g: Geometry, act: Act, name: str) -> Steps:
    walk = single(act(v, g))
    left_out = MUTANTS[name].left_out
    wanted = next(walk)
    while True:
        result = None if left_out(wanted) else (yield wanted)
        try:
            wanted = walk.send(result)
        except StopIteration as stop:
            return stop.value


def mutant_cases(protocols: tuple[str, ...], name: str) -> list[Case]:
    """Every scenario in which one of `protocols` is well, with the mutant `name` of it."""
    well = [case for case in CASES if case.expected is None and case.protocol in protocols]
    return [replace(case, scenario=_mutate(case, name)) for case in well]


def _mutate(case: Case, name: str) -> Scenario:
    actors = tuple(
        replace(actor, act=mutated(actor.act, name)) if actor.letter in MUTATED_LETTERS else actor for actor in case.scenario.actors
    )
    return replace(case.scenario, actors=actors, name=f"{case.scenario.name}, without {name}")


MUTATED_PROTOCOLS = tuple(
    dict.fromkeys(case.protocol for case in CASES if case.expected is None and not case.protocol.startswith("proposal-"))
)
"""The protocols that are well somewhere in the benchmark."""


class MutantRow(NamedTuple):
    """A mutant of a protocol: the properties by which it was noticed, and in which scenario; else what is believed about it."""

    protocol: str
    mutant: str
    noticed: tuple[str, ...]
    scenario: str | None
    believed: str | None


def compare_mutants(protocols: tuple[str, ...], options: Options) -> list[MutantRow]:
    """Whether each mutant of `protocols` (none given: all that are well somewhere) is noticed; one that changes no step is left out."""
    for protocol in protocols:
        if protocol not in MUTATED_PROTOCOLS:
            raise HvoError(f"no scenario in which {protocol!r} is well: mutants are made of {', '.join(MUTATED_PROTOCOLS)}")
    return [row for protocol in protocols or MUTATED_PROTOCOLS for name in MUTANTS if (row := _row(protocol, name, options)) is not None]


def _row(protocol: str, name: str, options: Options) -> MutantRow | None:
    leaves_out = False
    for case in mutant_cases((protocol,), name):
        forest, start = build(case.scenario, case.era, case.rules)
        found = explore(forest, start, case.scenario, options).violations
        leaves_out = leaves_out or _has(case, name)
        if found:
            return MutantRow(protocol, name, tuple(violation.property for violation in found), case.scenario.name, None)
    return MutantRow(protocol, name, (), None, MUTANTS[name].unnoticed) if leaves_out else None


def _has(case: Case, name: str) -> bool:
    """Whether some actor of the unchanged scenario does what the mutant leaves out, when it runs alone."""
    left_out = MUTANTS[name].left_out
    whole = next(
        other for other in CASES if other.protocol == case.protocol and case.scenario.name == f"{other.scenario.name}, without {name}"
    )
    forest, start = build(whole.scenario, whole.era, whole.rules)
    for actor in range(len(whole.scenario.actors)):
        world = World(forest.model, start)
        try:
            while (operation := forest.nodes[world.actors[actor][NODE]].operation) is not None:
                if left_out(operation.step):
                    return True
                if not step(forest, world, actor):
                    break
        except Fault:
            continue
    return False
