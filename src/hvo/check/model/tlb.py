"""What TLBs keep of entries that left the tables, and who drops it: which pages, down to which
level, and on which CPUs.
"""

from typing import TYPE_CHECKING, NamedTuple

from hvo.check.model.footprint import STALE, TRANSLATION
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
    world.changes(TRANSLATION + key)
    world.changes(STALE + key)
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
    world.touched.reads |= _cells_of(world, STALE, reach.first, reach.last)
    if reach.this_cpu:
        world.touched.adds |= _cells_of(world, TRANSLATION, reach.first, reach.last)
    own, bit = world.model.cpu(actor), 1 << actor
    kept: list[tuple[int, int, int]] = []
    for key, entry, mask in world.stale:
        if not _covers(world, key, entry, reach):
            kept.append((key, entry, mask))
            continue
        now = mask & ~own if reach.this_cpu else mask | bit
        if now >> HOLDERS:
            kept.append((key, entry, now))
    world.stale = tuple(kept)


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
    world.touched.reads |= _cells_of(world, STALE, first, last)
    world.touched.adds |= _cells_of(world, TRANSLATION, first, last)
    bit = 1 << actor
    world.stale = tuple([held for held in world.stale if not held[2] & bit])


def _cells_of(world: "World", kind: int, first: int, last: int) -> int:
    """The cells of `kind` of these vmemmap pages and of their slots."""
    all_of, slot, last_slot = world.cells.all_of, first // world.leaf, last // world.leaf
    return all_of(kind + first, last - first + 1) | all_of(
        kind + LEVEL1 + slot, last_slot - slot + 1
    )
