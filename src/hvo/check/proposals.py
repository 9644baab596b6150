"""The proposals for arm64, compared: what each violates against readers, writers and refused allocations, and what it costs."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from hvo.check import cast as c
from hvo.check.explore import Exploration, Options, explore
from hvo.check.geometry import Geometry, SmallVmemmap
from hvo.check.perform import NODE
from hvo.check.rules import Rules
from hvo.check.scenario import Act, Actor, Scenario, build
from hvo.check.search import step
from hvo.check.world import World
from hvo.steps.folio import FreeFolio
from hvo.steps.processors import ResumeCpus, StopCpus
from hvo.steps.vocabulary import Invalidate, Steps, WriteEntry
from hvo.vmemmap.era import parse_variant
from hvo.vmemmap.proposals import PROPOSALS, Proposal, optimize, restore

PROPOSED_FOR = "7.1"
"""The era whose other parts the proposals use: one shared frame of tails per zone."""
LETTERS = ("A", "B", "C", "D", "E", "F")
_ONE = Geometry(pages=1, group=4, leaf=4)
_HARDWARE = {"C": Rules("arm64", 2, noabort=True), "E": Rules("arm64", 2, noabort=True, hardware_access_flag=True)}
TRIES = 2
"""How often proposal E tries an entry here; the kernel's 16 would only be more of the same."""


class Row(NamedTuple):
    """What is known about one proposal: the searches by scenario, and counts for one huge page of the small machine.

    `invalidations`: requests; `stops`: how often all other CPUs are held; `held`: steps in the longest of these; `broken`: steps for which
    the longest-broken entry is broken. `partial`: whether an update can fail half-way, so that a page is optimised in part.
    """

    letter: str
    title: str
    needs: str
    results: tuple[tuple[Scenario, Exploration], ...]
    invalidations: int
    stops: int
    held: int
    broken: int
    partial: bool

    def to_json(self) -> dict[str, Any]:
        """The row of `hvo check --arm64-proposals --json`."""
        found = [
            {"scenario": scenario.name, "property": v.property, "message": v.message} for scenario, e in self.results for v in e.violations
        ]
        counts = {"invalidations": self.invalidations, "stops": self.stops, "steps_held": self.held, "steps_broken": self.broken}
        head = {"proposal": self.letter, "title": self.title, "needs": self.needs, "verdict": "safe" if self.safe else "unsafe"}
        return head | counts | {"partial": self.partial, "violations": found}

    @property
    def safe(self) -> bool:
        """Whether nothing was found in any scenario."""
        return not any(result.violations for _, result in self.results)


def rules_for(letter: str) -> Rules:
    """The machine that a proposal asks for."""
    return _HARDWARE.get(letter, Rules("arm64"))


def act_of(letter: str, *, tries: int = TRIES) -> Act:
    """Optimise the first huge page as the proposal does."""
    if letter == "F":
        return c.build_at_boot
    return partial(_optimize, proposal=replace(PROPOSALS[letter], tries=tries))


def _optimize(v: SmallVmemmap, g: Geometry, proposal: Proposal) -> Steps:
    return optimize(v, proposal, g.order, g.head(0))


def undo_of(letter: str) -> Act:
    """Restore it."""
    return partial(_restore, proposal=replace(PROPOSALS[letter], tries=TRIES))


def _restore(v: SmallVmemmap, g: Geometry, proposal: Proposal) -> Steps:
    return restore(v, proposal, g.order, g.head(0))


def scenarios(letter: str) -> list[Scenario]:
    """What a proposal has to stand: readers of tails, writers of the head, an interrupt that reads, refusals, and the way back."""
    o = Actor("O", f"optimise as {letter}", act_of(letter))
    if letter == "F":
        return [Scenario(f"{letter}: built at boot", (o,), _ONE, live=False)]
    r = Actor("R", f"restore as {letter}", undo_of(letter))
    g, w = Actor("G", "reader", c.read_tail), Actor("W", "writer of the head", c.write_head)
    i = Actor("I", "interrupt that reads", c.read_tail, interrupt=True)
    return [
        Scenario(f"{letter}: optimise against a reader", (o, g), _ONE),
        Scenario(f"{letter}: optimise against a writer of the head", (o, w), _ONE),
        Scenario(f"{letter}: optimise, interrupted by a reader", (o, i), _ONE),
        Scenario(f"{letter}: optimise, allocations refused", (o,), _ONE, failures=2),
        Scenario(f"{letter}: restore against a reader", (r, g), _ONE, before=act_of(letter)),
        Scenario(f"{letter}: restore, allocations refused", (r,), _ONE, before=act_of(letter), failures=2),
    ]


def half_way(*, marked: bool) -> Scenario:
    """E that tries each entry once, so that a reader makes it give up half-way; then the page is given back as far as it can be.

    Not `marked`, what was done stays but the page does not say so.
    """
    act = partial(_give_up, proposal=replace(PROPOSALS["E"], tries=1, marks_partial=marked))
    actors = (Actor("O", "optimise and give back", act), Actor("G", "reader", c.read_twice))
    return Scenario(f"E: given up half-way, {'marked' if marked else 'not marked'}", actors, _ONE)


def _give_up(v: SmallVmemmap, g: Geometry, proposal: Proposal) -> Steps:
    yield from optimize(v, proposal, g.order, g.head(0))
    if not (yield from restore(v, proposal, g.order, g.head(0))):
        yield FreeFolio(g.head(0), g.order)


def compare(letter: str, options: Options) -> Row:
    """Search all scenarios of one proposal, and count what it does when nobody disturbs it."""
    era, rules = parse_variant(PROPOSED_FOR), rules_for(letter)
    results: list[tuple[Scenario, Exploration]] = []
    for scenario in scenarios(letter):
        forest, start = build(scenario, era, rules)
        results.append((scenario, explore(forest, start, scenario, options)))
    title, needs = (
        (PROPOSALS[letter].title, PROPOSALS[letter].needs)
        if letter in PROPOSALS
        else ("built optimised at boot", "memory reserved at boot")
    )
    return Row(letter, title, needs, tuple(results), *_costs(letter), letter == "E")


def _costs(letter: str) -> tuple[int, int, int, int]:
    """Invalidations, stops, steps of the longest stop, and steps of the longest time that an entry is broken."""
    scenario = Scenario(f"{letter}: alone", (Actor("O", "optimise", act_of(letter)),), _ONE, live=letter != "F")
    forest, state = build(scenario, parse_variant(PROPOSED_FOR), rules_for(letter))
    world = World(forest.model, state)
    invalidations = stops = held = broken = at = stopped_at = 0
    broken_at: dict[int, int] = {}
    while (operation := forest.nodes[world.actors[0][NODE]].operation) is not None:
        at += 1
        match operation.step:
            case Invalidate():
                invalidations += 1
            case StopCpus():
                stops, stopped_at = stops + 1, at
            case ResumeCpus():
                held = max(held, at - stopped_at)
            case WriteEntry(location, value):
                if value == 0:
                    broken_at[int(location)] = at
                elif int(location) in broken_at:
                    broken = max(broken, at - broken_at.pop(int(location)))
            case _:
                pass
        step(forest, world, 0)
    return invalidations, stops, held, broken
