"""Stores that other CPUs may not see yet, on machines that reorder them.

An actor's stores into a frame are *unordered* until something orders them before what it does next:
a barrier, a completed invalidation (DSB), a wait for readers, an atomic operation that returns a
value, or a lock that is let go and then taken. Whoever makes an entry or a pointer lead to such a
frame shows its old contents to others, whose walkers need not even wait for an access.
"""

from typing import TYPE_CHECKING, Final

from hvo.check.model import footprint

if TYPE_CHECKING:
    from hvo.check.model.world import World

STORES: Final = 6
"""The item of an actor's record with the frames of its unordered stores; `RELEASED` is added once
it let a lock go behind them.
"""
RELEASED = 1 << 16


def store(world: "World", actor: int, frame: int) -> None:
    """`actor` stored into `frame`."""
    if world.model.hardware.reorders:
        _set(world, actor, {*world.actors[actor][STORES], frame} - {frame | RELEASED})


def order(world: "World", actor: int) -> None:
    """All stores of `actor` so far are seen before its next ones."""
    _set(world, actor, set())


def release(world: "World", actor: int) -> None:
    """They are seen before the lock that `actor` lets go."""
    _set(world, actor, {frame | RELEASED for frame in world.actors[actor][STORES]})


def acquire(world: "World", actor: int) -> None:
    """And the lock is let go before `actor` takes another."""
    _set(world, actor, {frame for frame in world.actors[actor][STORES] if frame < RELEASED})


def forget_stores(world: "World", frame: int) -> None:
    """`frame` is given back: what is in there does not matter any more."""
    world.reads(footprint.STORES + frame)
    for actor, record in enumerate(world.actors):
        _set(world, actor, set(record[STORES]) - {frame, frame | RELEASED})


def _set(world: "World", actor: int, frames: set[int]) -> None:
    record = world.actors[actor]
    before = set(record[STORES])
    if frames == before:
        return
    world.actors[actor] = (*record[:STORES], tuple(sorted(frames)), *record[STORES + 1 :])
    for stored in frames ^ before:
        world.changes(footprint.STORES + stored % RELEASED)


def is_unordered(world: "World", frame: int) -> bool:
    """Whether stores into `frame` may not be seen yet by everybody."""
    world.reads(footprint.STORES + frame)
    return any(
        stored in (frame, frame | RELEASED) for record in world.actors for stored in record[STORES]
    )


def publish(world: "World", frame: int) -> None:
    """An entry or a pointer leads to `frame` from now on."""
    if world.model.live and is_unordered(world, frame):
        world.note(
            "old-contents",
            f"frame {frame} is in force, and what was stored in it may not be visible yet",
        )
