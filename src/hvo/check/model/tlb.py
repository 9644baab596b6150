"""What TLBs keep of entries that left the tables, and who drops it: which pages, down to which
level, and on which CPUs.
"""

from typing import TYPE_CHECKING, NamedTuple

from hvo.check.model.footprint import TRANSLATION
from hvo.check.model.state import HOLDERS, LEVEL1

if TYPE_CHECKING:
    from hvo.check.model.world import World


class Reach(NamedTuple):
    """What an invalidation is about: the vmemmap pages `first` to `last`, pointers to `tables` as
    well, on this CPU only or on all.
    """

    first: int
    last: int
    tables: bool
    this_cpu: bool


def keep(world: "World", key: int, old: int, level: int, now: int) -> None:
    """Any CPU may hold `old`, which leaves the tables; the entry there is `now`, and was read from
    memory afresh.
    """
    model = world.model
    if not model.live:
        return
    cacheable = model.meaning(old, level).cacheable
    if cacheable or now >= 0:
        kept = {(k, e): mask for k, e, mask in world.stale if (k, e) != (key, now)}
        if cacheable:
            kept[key, old] = model.every_cpu
        world.stale = tuple(sorted((k, e, mask) for (k, e), mask in kept.items()))


def request(world: "World", actor: int, reach: Reach) -> None:
    """`actor` asks CPUs to drop translations, and may wait for it later; its own CPU by itself does
    it at once.
    """
    touch(world, reach.first, reach.last)
    if reach.this_cpu:
        own = ~world.model.cpu(actor)
        dropped = [
            (k, e, mask & own if _covers(world, k, e, reach) else mask)
            for k, e, mask in world.stale
        ]
        world.stale = tuple([held for held in dropped if held[2] >> HOLDERS])
        return
    bit = 1 << actor
    world.stale = tuple(
        [(k, e, mask | bit if _covers(world, k, e, reach) else mask) for k, e, mask in world.stale]
    )


def _covers(world: "World", key: int, entry: int, reach: Reach) -> bool:
    if key < LEVEL1:
        return reach.first <= key <= reach.last
    if not reach.tables and world.model.meaning(entry, 1).kind == "table":
        return False
    return reach.first // world.leaf <= key - LEVEL1 <= reach.last // world.leaf


def complete(world: "World", actor: int, first: int, last: int) -> None:
    """Every CPU has done what `actor` asked for, which was about the vmemmap pages `first` to
    `last`.
    """
    touch(world, first, last)
    bit = 1 << actor
    world.stale = tuple([held for held in world.stale if not held[2] & bit])


def touch(world: "World", first: int, last: int) -> None:
    """Say that translations of these pages are dropped."""
    world.touched += [(TRANSLATION, page, 2) for page in range(first, last + 1)]
