"""What is explored: a machine, who acts on it, and what must hold when all are done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import TypeAlias

from hvo.check import other_steps
from hvo.check.effects import ordering as order_steps
from hvo.check.effects import struct_pages as struct_steps
from hvo.check.model.geometry import (
    FIRST_FRAME,
    ROW,
    Geometry,
    SmallVmemmap,
    small_vmemmap,
    struct_pages,
)
from hvo.check.model.hardware import Rules
from hvo.check.model.state import Model, State, mapped_tables, new_record, padded
from hvo.check.model.world import World
from hvo.check.perform import NODE
from hvo.check.search.transition import step
from hvo.check.search.tree import Forest
from hvo.errors import HvoError
from hvo.steps.vocabulary import Steps
from hvo.vmemmap.era import Era

KNOWN: tuple[ModuleType, ...] = (order_steps, other_steps, struct_steps)
"""Modules that make steps known by being imported."""

Act: TypeAlias = Callable[[SmallVmemmap, Geometry], Steps]
"""Makes an actor."""


@dataclass(frozen=True)
class Actor:
    """Somebody who acts: a letter, who that is, and what it does. Actors with the same `act` are
    interchangeable.

    An `interrupt` runs on the CPU of the first actor, which stands still meanwhile, and so cannot
    wait for it.
    """

    letter: str
    role: str
    act: Act
    interrupt: bool = False


@dataclass(frozen=True)
class Scenario:
    """One question: these actors, on a machine that begins with leaves or (`split`) with tables.

    `marked`: the huge pages have the HugeTLB mark from the beginning. `ordinary`: their struct
    pages are those of pages by themselves, each referenced once (the prologue of H03). `failures`:
    how many allocations may fail, anywhere. `before`: an actor that runs alone first. `live`:
    whether CPUs use the vmemmap already. `complete`: whether all frames must be accounted for in
    the end. `fits` says in which eras its other actors lived (None: in all).
    """

    name: str
    actors: tuple[Actor, ...]
    geometry: Geometry = field(default_factory=Geometry)
    split: bool = False
    marked: bool = True
    ordinary: bool = False
    failures: int = 0
    empty_nodes: frozenset[int] = frozenset()
    hosted: bool = False
    live: bool = True
    before: Act | None = None
    complete: bool = True
    fits: Callable[[Era], bool] | None = None

    @cached_property
    def interchangeable(self) -> tuple[tuple[int, ...], ...]:
        """Places of actors that do the same, of each kind."""
        kinds = [(id(actor.act), actor.interrupt) for actor in self.actors]
        return tuple(
            tuple(i for i, other in enumerate(kinds) if other == kind)
            for kind in dict.fromkeys(kinds)
        )

    @cached_property
    def all_different(self) -> bool:
        """Whether no two actors do the same."""
        return len(self.interchangeable) == len(self.actors)


def build(scenario: Scenario, era: Era, rules: Rules) -> tuple[Forest, State]:
    """The machine of `scenario` for the protocols of `era`, and its first state."""
    g = scenario.geometry
    interrupts = frozenset(i for i, actor in enumerate(scenario.actors) if actor.interrupt)
    model = Model(
        small_vmemmap(rules.arch, era, g),
        g,
        rules,
        struct_pages(era, g),
        scenario.empty_nodes,
        scenario.hosted,
        scenario.live,
        interrupts,
    )
    contents, kinds = mapped_tables(model, split=scenario.split)
    contents |= _struct_pages(model, scenario)
    forest = Forest(model)
    trees = {id(actor.act): forest.root(_bound(actor.act, model)) for actor in scenario.actors}
    roots = [trees[id(actor.act)] for actor in scenario.actors]
    start = model.start(contents, kinds, roots, scenario.failures)
    return forest, start if scenario.before is None else _settled(forest, start, scenario.before)


def _bound(act: Act, model: Model) -> Callable[[], Steps]:
    return lambda: act(model.v, model.geometry)


def _struct_pages(model: Model, scenario: Scenario) -> dict[int, tuple[int, ...]]:
    """What the frames of the vmemmap hold at first."""
    g, pages = model.geometry, model.pages
    words: list[int] = []
    for number in range(g.pages):
        rows = (
            [pages.ordinary(1)] * (1 << g.order)
            if scenario.ordinary
            else pages.compound(g.head(number), mark=scenario.marked)
        )
        words += [word for row in rows for word in row[: g.struct_words]]
    return {
        FIRST_FRAME + page: padded(words[page * ROW : (page + 1) * ROW])
        for page in range(g.vmemmap_pages)
    }


def _settled(forest: Forest, state: State, act: Act) -> State:
    """The state after `act` ran alone, before everything else; as the first actor, whose frames it
    takes.
    """
    root = forest.root(_bound(act, forest.model))
    world = World(
        forest.model, state._replace(actors=(new_record(root), *state.actors[1:]), failures=0)
    )
    while forest.nodes[world.actors[0][NODE]].operation is not None:
        if not step(forest, world, 0):
            raise HvoError("the prologue of a scenario waits for somebody")
    return world.freeze()._replace(actors=state.actors, failures=state.failures)
