"""What is explored: a machine, who acts on it, and what must hold when all are done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from hvo.check.model.geometry import (
    Geometry,
    SmallVmemmap,
)
from hvo.steps.base import Steps
from hvo.vmemmap.era import Era

Act: TypeAlias = Callable[[SmallVmemmap, Geometry], Steps[object]]
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
