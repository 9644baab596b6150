"""A scenario made ready for the search: the first state and the forest of its actors."""

from collections.abc import Callable
from types import ModuleType

from hvo.check import effects
from hvo.check.model.geometry import ROW, small_vmemmap, struct_pages
from hvo.check.model.hardware import Hardware
from hvo.check.model.state import NODE, Model, State, mapped_tables, new_record
from hvo.check.model.world import World
from hvo.check.scenarios.scenario import Act, Scenario
from hvo.check.search.transition import step
from hvo.check.search.tree import Forest
from hvo.errors import HvoError
from hvo.steps.base import Steps
from hvo.vmemmap.era import Era

KNOWN: ModuleType = effects
"""Modules that make steps known by being imported."""


def build(scenario: Scenario, era: Era, hardware: Hardware) -> tuple[Forest, State]:
    """The machine of `scenario` for the protocols of `era`, and its first state."""
    g = scenario.geometry
    interrupts = frozenset(i for i, actor in enumerate(scenario.actors) if actor.interrupt)
    model = Model(
        small_vmemmap(hardware.arch, era, g),
        g,
        hardware,
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
    return forest, start if scenario.before is None else _stable_words(
        forest, start, scenario.before
    )


def _bound(act: Act, model: Model) -> Callable[[], Steps[object]]:
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
        g.first_frame + page: model.padded(words[page * ROW : (page + 1) * ROW])
        for page in range(g.vmemmap_pages)
    }


def _stable_words(forest: Forest, state: State, act: Act) -> State:
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
