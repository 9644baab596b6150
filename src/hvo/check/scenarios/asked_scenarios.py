"""Scenarios that a protocol file asks for by itself, in `SCENARIOS`: its own actors and the
checker's, on which huge page, with what else.
"""

from collections.abc import Iterator
from functools import partial

from hvo.check.model.geometry import Geometry
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.scenario import Act, Actor, Scenario
from hvo.check.scenarios.user_protocol import Own, actors_of, run_own
from hvo.errors import HvoError

_ONE = Geometry(pages=1, group=4, leaf=4)


def act(own: Own, name: str = "optimize", number: int = 0) -> Act:
    """The actor `name` of the file on huge page `number`."""
    return partial(run_own, own=own, name=name, number=number)


def pair_of(own: Own) -> Geometry:
    """A machine of two huge pages: the file's, if it has several."""
    return own.geometry if own.geometry and own.geometry.pages > 1 else Geometry()


def asked_for(own: Own) -> Iterator[tuple[str, Scenario]]:
    """What the file asks for by itself."""
    for asked in own.scenarios:
        named: list[tuple[str, int]] = [
            (one, 0) if isinstance(one, str) else one for one in asked["actors"]
        ]
        actors = tuple(
            Actor(chr(ord("O") + i), name, _named(own, name, page))
            for i, (name, page) in enumerate(named)
        )
        more = {name: asked[name] for name in asked if name not in ("actors", "before")}
        before = None if "before" not in asked else _named(own, asked["before"], 0)
        title = " against ".join(f"{name} of page {page}" for name, page in named)
        said = [f"{name}={value!r}" for name, value in asked.items() if name != "actors"]
        geometry = own.geometry or (pair_of(own) if any(page for _, page in named) else _ONE)
        yield (
            "own",
            Scenario(", ".join([title, *said]), actors, geometry, before=before, **more),
        )


def _named(own: Own, name: str, page: int) -> Act:
    """An actor of the file, or of those that the checker has (`BYSTANDERS`)."""
    if name in actors_of(own):
        return act(own, name, page)
    if name not in BYSTANDERS:
        raise HvoError(
            f"{own.path}: SCENARIOS names the actor {name!r}: there are"
            f" {', '.join([*actors_of(own), *BYSTANDERS])}"
        )
    return BYSTANDERS[name]


BYSTANDERS: dict[str, Act] = {
    "reader": c.read_tail,
    "follower": c.follow,
    "writer": c.write_head,
    "allocator": c.take_freed,
    "memory-failure": c.fail_memory,
    "raw-error": c.record_error,
    "dump": c.dump("read"),
    "caches": c.sync_caches,
    "key-reader": c.trust_the_key,
}
"""Actors of the checker that a file's SCENARIOS can name."""
