"""Stores to live struct pages that only their CPU sees yet: store buffers, with at most
`MOST_PENDING` stores a CPU.

x86-64 lets them become visible in the order of the program (Intel SDM 3A, 9.2), arm64 and riscv64
in any order but that of one word and that of write barriers (Arm ARM B2.3; RVWMO, rules 1 and 4).
A load of the CPU itself sees them. Page-table entries and other stores are not held back, but come
behind those that must be visible before them; a walk of another CPU never reads a store buffer.

What empties a buffer, and why:

* all buffers: `AwaitInvalidation` (the interrupt of x86 is serialising; a TLBI is complete when the
  accesses by old translations are, Arm ARM D8.14; SFENCE.VMA runs behind a fence on every hart);
  `StopCpus`, `ResumeCpus`, `SynchronizeReaders` (interrupts and grace periods order everything);
* the actor's own: `FullBarrier`, compare-and-swap, `FreezeCount`, `IncrementUnlessZero`,
  `DropReference` (Documentation/atomic_t.txt: operations that return a value are fully ordered);
  on x86-64 `Acquire` too (a locked instruction), and stores that are not held back;
* `Acquire`: what any CPU stored before it let that lock go (Documentation/memory-barriers.txt);
* `WriteBarrier` and `Release` empty none: what is before the barrier becomes visible before what is
  behind it, and what is before the release before the lock is seen free.
"""

from typing import Final, NamedTuple, TypeAlias

from hvo.check.model.contents import put_word
from hvo.check.model.footprint import BUFFERS, FRAME, WORDS_OF_FRAME
from hvo.check.model.state import ALLOCATED, BUFFER, PRIVATE, STATUS
from hvo.check.model.world import World

MOST_PENDING: Final = 2
BARRIER: Final = -1
RELEASED: Final = -2


class Pending(NamedTuple):
    """A store on its way: `bits` of `mask` in the word `at` of `frame`; or, with `frame` `BARRIER`
    or `RELEASED`, what stands between stores (`at` is the lock).
    """

    frame: int
    at: int
    mask: int = 0
    bits: int = 0


Buffer: TypeAlias = tuple[Pending, ...]


def hold_back(
    world: World, actor: int, frame: int, at: int, change: tuple[int, int]
) -> bool | None:
    """Whether a store stays in the buffer of `actor` for now, one of the ways on where both can be;
    None where it has to wait until another one is visible.
    """
    hardware, buffer = world.model.hardware, world.actors[actor][BUFFER]
    if not hardware.buffers_stores or not world.model.live:
        return False
    free = sum(store.frame >= 0 for store in buffer) < MOST_PENDING
    now = not buffer or (hardware.reorders and _may_pass(buffer, frame, at))
    if not free:
        return False if now else None
    if now:
        world.delayable = len(world.taken)
    if now and not world.choose(2):
        return False
    _set(world, actor, (*buffer, Pending(frame, at, *change)))
    return True


def _may_pass(buffer: Buffer, frame: int, at: int) -> bool:
    """Whether a store to that word can become visible before all that is in the buffer."""
    return all(store[:2] != (frame, at) and store.frame != BARRIER for store in buffer)


def forwarded(
    world: World, actor: int, frame: int, first: int, words: tuple[int, ...]
) -> tuple[int, ...]:
    """`words` of `frame` from `first` on as `actor` sees them."""
    buffer = world.actors[actor][BUFFER]
    if not buffer:
        return words
    seen = list(words)
    for store in buffer:
        if store.frame == frame and first <= store.at < first + len(seen):
            seen[store.at - first] = seen[store.at - first] & ~store.mask | store.bits
    return tuple(seen)


def ready_stores(world: World, actor: int) -> list[int]:
    """The places in the buffer of what can become visible next."""
    buffer, found, words = world.actors[actor][BUFFER], list[int](), set[tuple[int, int]]()
    for place, store in enumerate(buffer):
        if store.frame == BARRIER:
            break
        if store.frame >= 0 and store[:2] not in words:
            found.append(place)
            words.add(store[:2])
        if found and not world.model.hardware.reorders:
            break
    return found


def make_visible(world: World, actor: int, place: int) -> None:
    """The store at `place` of the buffer reaches memory."""
    buffer: Buffer = world.actors[actor][BUFFER]
    store = buffer[place]
    rest = [*buffer[:place], *buffer[place + 1 :]]
    while rest and rest[0].frame < 0:
        del rest[0]
    _set(world, actor, tuple(rest))
    world.reads(FRAME + store.frame)
    if world.status[store.frame] & STATUS not in (ALLOCATED, PRIVATE):
        world.note("access-freed", f"a store on its way reaches frame {store.frame}, which is free")
        return
    world.changes(store.frame * WORDS_OF_FRAME + store.at)
    word = world.contents[store.frame][store.at]
    put_word(world, store.frame, store.at, word & ~store.mask | store.bits)


def empty(world: World, actor: int, most: int | None = None) -> None:
    """Everything in the buffer becomes visible, or the first `most` items of it."""
    if not world.model.hardware.buffers_stores:
        return
    if actor != world.actor:
        world.reads(BUFFERS + actor)
    left = len(world.actors[actor][BUFFER]) - (
        len(world.actors[actor][BUFFER]) if most is None else most
    )
    while len(buffer := world.actors[actor][BUFFER]) > left:
        if buffer[0].frame >= 0:
            make_visible(world, actor, 0)
        else:
            _set(world, actor, buffer[1:])


def empty_all(world: World) -> None:
    """The buffers of all CPUs."""
    for actor in range(len(world.actors)):
        empty(world, actor)


def before_other_store(world: World, actor: int) -> None:
    """A store that is not held back: what must be visible before it becomes so."""
    buffer = world.actors[actor][BUFFER]
    if not world.model.hardware.reorders:
        empty(world, actor)
    elif any(store.frame == BARRIER for store in buffer):
        empty(world, actor, max(i for i, store in enumerate(buffer) if store.frame == BARRIER) + 1)


def write_barrier(world: World, actor: int) -> None:
    """What is in the buffer comes before what is stored next."""
    buffer = world.actors[actor][BUFFER]
    if buffer and world.model.hardware.reorders:
        _set(world, actor, (*buffer, Pending(BARRIER, 0)))


def let_go(world: World, actor: int, lock: int) -> None:
    """What is in the buffer comes before `lock` is seen free."""
    buffer = world.actors[actor][BUFFER]
    if buffer:
        _set(world, actor, (*buffer, Pending(RELEASED, lock)))


def taken(world: World, actor: int, lock: int) -> None:
    """`actor` takes `lock`."""
    if not world.model.hardware.buffers_stores:
        return
    for other in range(len(world.actors)):
        buffer = world.actors[other][BUFFER]
        marks = [i for i, store in enumerate(buffer) if store[:2] == (RELEASED, lock)]
        empty(world, other, marks[-1] + 1 if marks else 0)
    if not world.model.hardware.reorders:
        empty(world, actor)
    elif any(store.frame == RELEASED for store in world.actors[actor][BUFFER]):
        write_barrier(world, actor)


def _set(world: World, actor: int, buffer: Buffer) -> None:
    world.changes(BUFFERS + actor)
    record = world.actors[actor]
    world.actors[actor] = (*record[:BUFFER], buffer)
