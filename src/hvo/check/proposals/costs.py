"""What a way of remapping costs, counted while it runs: invalidations, stops of the other CPUs, and
what an access would meet meanwhile.

After every step another CPU tries to read every vmemmap page: it gets through, waits in the fault
handler, faults, or finds an access flag clear that the hardware sets. Steps are the unit of time:
each is a memory access, an entry, a lock, an invalidation or the wait for one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from hvo.check.model.geometry import STRUCTS
from hvo.check.model.hardware import Hardware
from hvo.check.model.state import HELD, NODE, STOPPED, State, new_record
from hvo.check.model.world import Fault, World
from hvo.check.scenarios.scenario import Scenario
from hvo.check.search.start import build
from hvo.check.search.transition import step
from hvo.check.search.tree import Forest
from hvo.steps.base import Steps
from hvo.steps.ordering import Invalidate, InvalidateAll, StopCpus
from hvo.steps.struct_pages import LoadPage
from hvo.vmemmap.era import Era

Meets: TypeAlias = Literal["faults", "sets the flag"]


class Costs(NamedTuple):
    """What one actor did: `invalidations` that it asked for, `stops` of all other CPUs, `faults`
    that accesses could take (one for each entry and time that it is broken), `updates` of access
    flags that hardware could make.

    `held` is the longest time, in steps, for which another CPU is stopped or waits for one entry.
    """

    invalidations: int
    stops: int
    faults: int
    updates: int
    held: int

    def less(self, other: "Costs") -> "Costs":
        """What is counted here and not there; `held` is the longer of both."""
        counts = [mine - theirs for mine, theirs in zip(self[:-1], other[:-1], strict=True)]
        return Costs(counts[0], counts[1], counts[2], counts[3], max(self.held, other.held))


@dataclass
class _Intervals:
    """Since which step an access to a vmemmap page meets something, and from when to when it
    did.
    """

    since: dict[int, int] = field(default_factory=dict[int, int])
    over: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    def note(self, pages: set[int], at: int) -> None:
        """At step `at` it is met on `pages`."""
        for page in self.since.keys() - pages:
            self.over.add((self.since.pop(page), at))
        for page in pages:
            self.since.setdefault(page, at)

    @property
    def longest(self) -> int:
        """Steps of the longest."""
        return max((last - first for first, last in self.over), default=0)


def costs(scenario: Scenario, era: Era, hardware: Hardware) -> Costs:
    """What the only actor of `scenario` costs when it is not disturbed."""
    forest, state = build(scenario, era, hardware)
    probes = [
        forest.root(partial(_read, page * STRUCTS))
        for page in range(scenario.geometry.vmemmap_pages)
    ]
    asked = stops = at = 0
    faults, updates, stopped = _Intervals(), _Intervals(), _Intervals()
    world = World(forest.model, state)
    while (operation := forest.nodes[world.actors[0][NODE]].operation) is not None:
        at += 1
        asked += isinstance(operation.step, Invalidate | InvalidateAll)
        stops += isinstance(operation.step, StopCpus)
        step(forest, world, 0)
        met = dict(_met(forest, world.freeze(), probes)) if scenario.live else {}
        faults.note({page for page, what in met.items() if what == "faults"}, at)
        updates.note({page for page, what in met.items() if what == "sets the flag"}, at)
        stopped.note({0} if world.actors[0][HELD] & STOPPED else set(), at)
    return Costs(
        asked, stops, len(faults.over), len(updates.over), max(faults.longest, stopped.longest)
    )


def _read(pfn: int) -> Steps[object]:
    return (yield from LoadPage(pfn, "flags"))


def _met(forest: Forest, state: State, probes: list[int]) -> Iterator[tuple[int, Meets]]:
    """The vmemmap pages that another CPU, whose TLB holds nothing, cannot simply read now; while it
    is stopped it does not try.
    """
    if state.actors[0][HELD] & STOPPED:
        return
    for page, probe in enumerate(probes):
        world = World(
            forest.model, state._replace(stale=(), actors=(*state.actors, new_record(probe)))
        )
        try:
            went = step(forest, world, 1)
        except Fault:
            went = False
        if not went:
            yield page, "faults"
        elif world.dirty:
            yield page, "sets the flag"
