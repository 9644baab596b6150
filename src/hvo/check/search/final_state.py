"""What must hold when nobody can go on: all are done, every frame is accounted for, the counters
and every tail are right.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvo.actors.walker import compound_head
from hvo.check.effects.struct_pages import decode, field_of
from hvo.check.model.geometry import KERNEL_FRAME, PMD_FRAME, PUD_FRAME, ROW, STRUCTS
from hvo.check.model.state import (
    ALLOCATED,
    KIND,
    NODE,
    OTHER,
    PRIVATE,
    STATUS,
    VMEMMAP_PAGES,
    State,
    new_record,
)
from hvo.check.model.world import Fault, World
from hvo.check.search.transition import MOST_STEPS, is_done, is_held, step
from hvo.check.search.tree import Forest
from hvo.kernel.struct_page import LINK

if TYPE_CHECKING:
    from hvo.check.scenarios.scenario import Scenario


def at_the_end(forest: Forest, scenario: "Scenario", state: State) -> Iterator[tuple[str, str]]:
    """What is violated in a state in which nobody can go on."""
    stuck = [
        scenario.actors[i].letter
        for i, record in enumerate(state.actors)
        if forest.nodes[record[NODE]].operation is not None
    ]
    if stuck:
        looping = any(
            len(forest.nodes[record[NODE]].history) > MOST_STEPS for record in state.actors
        )
        if not looping:
            yield "deadlock", f"{', '.join(stuck)} wait for ever"
        elif not _ends_fairly(forest, state):
            yield "no-progress", f"{', '.join(stuck)} go round and round, also when all get a turn"
        return
    world = World(forest.model, state)
    if scenario.complete:
        yield from _frames(world, state)
        yield from _counters(world)
        yield from _flags(forest, state)
        yield from _tails(world)
        yield from _zones(world)
    yield from _heads(forest, state)
    yield from _progress(world, state)


def _ends_fairly(forest: Forest, state: State) -> bool:
    """Whether all are done in the end when each in turn does a step, from a state in which those
    that are not done wait or go round in loops.
    """
    world = World(forest.model, state)
    world.patient = True
    for _ in range(MOST_STEPS):
        for actor, record in enumerate(world.actors):
            if not is_done(forest, record) and not is_held(forest, world.freeze(), actor):
                try:
                    step(forest, world, actor)
                except Fault:
                    return True  # whatever that is, it is told where it happens earlier
        if all(is_done(forest, record) for record in world.actors):
            return True
    return False


def mapped_frames(world: World) -> dict[int, list[tuple[int, bool]]]:
    """For each frame that the tables map now: the vmemmap pages that show it, and whether each lets
    write.
    """
    model, shown = world.model, dict[int, list[tuple[int, bool]]]()
    for page in range(model.geometry.vmemmap_pages):
        slot, index = divmod(page, world.leaf)
        pmd = model.meaning(world.contents[PMD_FRAME][slot], 1)
        if pmd.kind == "none":
            continue
        entry = (
            model.meaning(world.contents[pmd.frame][index], 0)
            if pmd.kind == "table"
            else pmd._replace(frame=pmd.frame + index)
        )
        if entry.kind == "leaf" and entry.frame < len(world.contents):
            shown.setdefault(entry.frame, []).append((page, entry.writable))
    return shown


def shared_tails(world: World) -> dict[int, int]:
    """The frames that kernel variables say are shared tails, and the zone of each."""
    slots = world.contents[KERNEL_FRAME]
    return {frame - 1: zone for zone, frame in enumerate(slots[:8]) if frame}


def _zones(world: World) -> Iterator[tuple[str, str]]:
    """No huge page shows the shared tail of another zone."""
    shared, model = shared_tails(world), world.model
    for frame, shows in mapped_frames(world).items():
        for page, _ in shows:
            zone = int(model.v.zone_of(page * STRUCTS))
            if shared.get(frame, zone) != zone:
                yield (
                    "wrong-zone",
                    f"vmemmap page {page}, of zone {zone}, shows frame {frame}, whose struct pages"
                    f" say zone {shared[frame]}",
                )
                return


def _frames(world: World, state: State) -> Iterator[tuple[str, str]]:
    """Frames in use that nothing leads to."""
    known = {
        KERNEL_FRAME,
        PMD_FRAME,
        PUD_FRAME,
        *mapped_frames(world),
        *shared_tails(world),
    }
    known |= {
        world.model.meaning(pmd, 1).frame
        for pmd in world.contents[PMD_FRAME][: world.model.geometry.leaves]
    }
    known |= {frame for record in state.actors for frame in record[VMEMMAP_PAGES]}
    for frame, status in enumerate(world.status):
        if (
            status & STATUS in (ALLOCATED, PRIVATE)
            and status & KIND != OTHER
            and frame not in known
        ):
            yield "leak", f"frame {frame} is in use, but nothing leads to it"
            return


def _counters(world: World) -> Iterator[tuple[str, str]]:
    """The key counts optimised pages, the other the frames that hold struct pages of their own."""
    shown = mapped_frames(world)
    optimized = sum(_is_optimized(world, page) for page in range(world.model.geometry.pages))
    if world.counters[0] != optimized:
        yield "counters", f"{optimized} huge pages are optimised, the key says {world.counters[0]}"
    own = len(set(shown) - {*shared_tails(world)})
    if shown and own - world.model.geometry.vmemmap_pages != world.counters[1]:
        yield (
            "counters",
            (
                f"the vmemmap has {own - world.model.geometry.vmemmap_pages:+} frames,"
                f" nr_memmap_pages says {world.counters[1]:+}"
            ),
        )


def _flags(forest: Forest, state: State) -> Iterator[tuple[str, str]]:
    """Huge pages that are optimised say so, for whoever gives them back looks there."""
    world = World(forest.model, state)
    for number in range(forest.model.geometry.pages):
        place, field = field_of(
            forest.model, forest.model.geometry.head(number), "vmemmap_optimized"
        )
        said = bool(decode(field, _word_at(forest, state, *place)))
        if not state.released >> number & 1 and said != _is_optimized(world, number):
            yield (
                "counters",
                (
                    f"huge page {number} is {'not ' if said else ''}optimised, its head says that"
                    f" it is{'' if said else ' not'}"
                ),
            )


def _is_optimized(world: World, number: int) -> bool:
    """Whether the vmemmap pages of a huge page share frames, with one another or with another huge
    page's.
    """
    g = world.model.geometry
    pages = range(number * g.group, number * g.group + g.used)
    frames = [
        frame
        for frame, shows in mapped_frames(world).items()
        if any(page in pages for page, _ in shows)
    ]
    return bool(frames) and (
        len(frames) < g.used or any(frame in shared_tails(world) for frame in frames)
    )


def _tails(world: World) -> Iterator[tuple[str, str]]:
    """Shared frames are read-only but where the head shows them, and where the architecture has no
    read-only entries of the kernel's.
    """
    g = world.model.geometry
    if not world.model.v.format.protects:
        return
    shared = shared_tails(world)
    kept = world.model.v.era.layout.kept_pages
    for frame, shows in mapped_frames(world).items():
        for page, writable in shows:
            if writable and (len(shows) > 1 or frame in shared) and page % g.group >= kept:
                yield (
                    "tail-writable",
                    f"vmemmap page {page} shows the shared frame {frame}, and can be written",
                )
                return


def _heads(forest: Forest, state: State) -> Iterator[tuple[str, str]]:
    """Every struct page of a compound page leads to its head, looked at as the kernel does, and the
    head is one.
    """
    g = forest.model.geometry
    for number in range(g.pages):
        head = g.head(number)
        if state.released >> number & 1 or not _is_compound(forest, state, head):
            continue
        if _word(forest, state, head, LINK) & 1:
            yield "wrong-head", f"the struct page of the head, pfn {head}, is a tail's"
        for pfn in range(head, head + min(g.used * ROW // g.struct_words, 1 << g.order)):
            found = decoded(forest, state, pfn)
            if found is not None and found != head:
                yield (
                    "wrong-head",
                    f"pfn {pfn} leads to {'nowhere' if found < 0 else found}, its head is {head}",
                )
                return


def decoded(forest: Forest, state: State, pfn: int) -> int | None:
    """The head of `pfn`; where the key says that no page is optimised, the kernel does not look for
    fake heads.
    """
    if not state.counters[0] and not _word(forest, state, pfn, LINK) & 1:
        return pfn
    return run_alone(forest, state, pfn)


def _word(forest: Forest, state: State, pfn: int, word: int) -> int:
    """A word of the struct page of `pfn` as it is mapped now; 0 where it is not."""
    return _word_at(forest, state, *forest.model.geometry.place(pfn, word))


def _word_at(forest: Forest, state: State, page: int, at: int) -> int:
    """The word at `at` in the vmemmap page `page` as it is mapped now; 0 where it is not."""
    world = World(forest.model, state)
    frames = [
        frame
        for frame, shows in mapped_frames(world).items()
        if any(shown == page for shown, _ in shows)
    ]
    return world.contents[frames[0]][at] if frames else 0


def _is_compound(forest: Forest, state: State, head: int) -> bool:
    """Whether any struct page of the group at `head` is linked to it."""
    world, g = World(forest.model, state), forest.model.geometry
    shown = {page: frame for frame, shows in mapped_frames(world).items() for page, _ in shows}
    places = [g.place(pfn, LINK) for pfn in range(head + 1, head + (1 << g.order))]
    return any(
        page in shown and world.contents[shown[page]][at] == forest.model.pages.link(head)
        for page, at in places
    )


def run_alone(forest: Forest, state: State, pfn: int) -> int | None:
    """What `compound_head` of the kernel says about `pfn` in `state`: -1 where that leads nowhere,
    None where the vmemmap is gone or waits for an entry.
    """
    model = forest.model
    root = forest.root(lambda: compound_head(model.v, pfn))
    world = World(model, state._replace(stale=(), actors=(*state.actors, new_record(root))))
    last = len(state.actors)
    try:
        while forest.nodes[world.actors[last][NODE]].operation is not None:
            if not step(forest, world, last):
                return None
    except Fault:
        return -1 if world.found[-1][0] == "wrong-head" else None
    return int(forest.nodes[world.actors[last][NODE]].returned)


def _progress(world: World, state: State) -> Iterator[tuple[str, str]]:
    """A page is still optimised after its restore was refused by one node while another has
    memory.
    """
    if state.refused and any(
        _is_optimized(world, number) for number in range(world.model.geometry.pages)
    ):
        yield (
            "no-progress",
            "restore asks one node only, which never has memory for struct pages; another node has",
        )
