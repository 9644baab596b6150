"""Every step declares all that it reads and changes; and so the reductions lose nothing.

The first is forced step by step: what changed is among what was declared, and what was not declared
can be anything, with the same outcome. The second is tried: the plain search finds the same
properties, each in as many steps, for protocols made at random.
"""

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest
from random_protocols import MACHINES, mutant, strangers

from hvo.check.model.footprint import (
    COPY,
    COUNTERS,
    FAULTS,
    FRAME,
    FREED,
    KEY,
    LOCK,
    RAW_ERRORS,
    REFUSALS,
    SECTIONS,
    STALE,
    STORES,
    TRANSLATION,
    WORDS_OF_FRAME,
    Footprint,
)
from hvo.check.model.geometry import PAGE, PMD_FRAME
from hvo.check.model.state import (
    FREED_TO_BUDDY,
    HELD,
    HOLDERS,
    KIND,
    LEVEL1,
    LOCKS,
    SECTION,
    STATUS,
    TABLE,
    Model,
    State,
)
from hvo.check.model.store_buffer import RELEASED
from hvo.check.model.store_buffer import STORES as PENDING_STORES
from hvo.check.model.world import Fault, World
from hvo.check.mutants.suite import PROTOCOLS, suite
from hvo.check.scenarios.case import Case
from hvo.check.scenarios.hazards import CASES
from hvo.check.search.explore import Options, explore
from hvo.check.search.start import build
from hvo.check.search.transition import is_held, step
from hvo.check.search.tree import Forest

PLAIN = Options(reduce=False, symmetry=False, most_states=20_000)
REDUCED = Options(symmetry=False, most_states=20_000)
SMALL_CASES = [
    case
    for case in (*CASES, *(case for protocol in PROTOCOLS for case in suite(protocol)))
    if len(case.scenario.actors) > 1 and case.scenario.geometry.pages == 1
]


# -- what a step declares --


class Done(NamedTuple):
    """One step: the state before it, who did it and with which choices, what it declared, and what
    came of it.
    """

    before: State
    actor: int
    choices: tuple[int, ...]
    declared: Footprint
    visible: bool
    outcome: tuple[State, bool, tuple[str, ...]]


def one_step(forest: Forest, state: State, actor: int, choices: tuple[int, ...]) -> Done:
    """Do one step of `actor`; `outcome` is the state after it, whether it could, and what it
    violated.
    """
    world = World(forest.model, state, choices)
    try:
        went = step(forest, world, actor)
    except Fault:
        went = True
    declared = Footprint(world.touched.reads, world.touched.writes, world.touched.adds)
    taken = tuple(choice for choice, _ in world.taken)
    violated = tuple(rule for rule, _, _ in world.found)
    outcome = (world.freeze(), went, violated)
    return Done(state, actor, taken, declared, world.visible, outcome)


def walk(dice: random.Random, case: Case) -> Iterator[tuple[Forest, Done]]:
    """The steps of one random run."""
    forest, state = build(case.scenario, case.era, case.hardware)
    for _ in range(60):
        actors = range(len(state.actors))
        ready = [
            i
            for i in actors
            if forest.nodes[state.actors[i][0]].operation is not None
            and not is_held(forest, state, i)
        ]
        if not ready:
            return
        choices = tuple(dice.randrange(2) for _ in range(4))
        world = World(forest.model, state, choices)
        actor = dice.choice(ready)
        with suppress(Fault):  # to know how many choices there are
            step(forest, world, actor)
        told = tuple(min(choice, most - 1) for choice, most in world.taken)
        done = one_step(forest, state, actor, told)
        yield forest, done
        state = done.outcome[0]


def changed(model: Model, done: Done) -> set[int]:
    """The cells in which the two states differ, as far as anybody but the actor can tell."""
    before, after = done.before, done.outcome[0]
    cells: set[int] = set()
    for frame, (old, new) in enumerate(zip(before.contents, after.contents, strict=True)):
        words = zip(model.rows[old], model.rows[new], strict=True)
        cells |= {frame * WORDS_OF_FRAME + at for at, (a, b) in enumerate(words) if a != b}
    cells |= {
        FRAME + frame
        for frame, pair in enumerate(zip(before.status, after.status, strict=True))
        if len({*pair}) > 1
    }
    own = ~(1 << done.actor)
    held = [{(key, entry, bits & own) for key, entry, bits in s.stale} for s in (before, after)]
    cells |= {TRANSLATION + key for key, _, _ in held[0] ^ held[1]}
    cells |= {COPY + copy[2] for copy in set(before.copies) ^ set(after.copies)}
    plain = {
        COUNTERS: ("refused", "released"),
        REFUSALS: ("failures",),
        FAULTS: ("faults_wait",),
        RAW_ERRORS: ("raw_errors", "broken"),
    }
    for at, cell in enumerate((KEY, COUNTERS)):
        if before.counters[at] != after.counters[at]:
            cells.add(cell)
    for cell, names in plain.items():
        if any(getattr(before, name) != getattr(after, name) for name in names):
            cells.add(cell)
    for old, new in zip(before.actors, after.actors, strict=True):
        stores = [{frame % RELEASED for frame in record[PENDING_STORES]} for record in (old, new)]
        cells |= {STORES + frame for frame in stores[0] ^ stores[1]}
        if old[SECTION] != new[SECTION]:
            cells.add(SECTIONS)
    return cells


def undeclared(done: Done, model: Model) -> set[int]:
    """What changed and is not declared as changed; the contents of a frame go with its fate."""
    declared = done.declared.writes | done.declared.adds
    missing = {cell for cell in changed(model, done) if not declared & model.cells[cell]}
    return {
        cell
        for cell in missing
        if cell >= TRANSLATION or not declared & model.cells[FRAME + cell // WORDS_OF_FRAME]
    }


def disturbed(dice: random.Random, done: Done, model: Model, states: list[State]) -> list[State]:
    """Each of `states` with one thing changed, the same in all, that the step did not declare."""
    declared = done.declared.reads | done.declared.writes | done.declared.adds
    frames = len(done.before.status)

    def free(cell: int) -> bool:
        return not declared & model.cells[cell]

    def swapped(of: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
        return (*of[:at], value, *of[at + 1 :])

    what, frame = dice.randrange(8), dice.randrange(4, frames)
    if what == 0 and free(FRAME + frame):
        status = dice.randrange(5) | dice.choice((0, 8, 24))
        before = done.before.status[frame]
        freed = FREED_TO_BUDDY in (status & STATUS, before & STATUS) and not free(FREED)
        if before & KIND == TABLE or freed:
            return states
        return [
            s._replace(status=s.status[:frame] + bytes([status]) + s.status[frame + 1 :])
            for s in states
        ]
    word = dice.randrange(model.geometry.words)
    is_table = frame == PMD_FRAME or done.before.status[frame] & KIND == TABLE
    if what == 1 and free(frame * WORDS_OF_FRAME + word) and free(FRAME + frame) and not is_table:
        rows = [model.rows[s.contents[frame]] for s in states]
        numbers = [model.number(swapped(row, word, 12345)) for row in rows]
        return [
            s._replace(contents=swapped(s.contents, frame, number))
            for s, number in zip(states, numbers, strict=True)
        ]
    if what == 2:
        held = _held(dice, model, frame)
        frames_of = range(held[2], held[2] + (model.geometry.leaf if held[0] >= LEVEL1 else 1))
        # whoever makes a translation lead to a frame looks at its fate
        if all(
            map(free, (TRANSLATION + held[0], STALE + held[0], *(FRAME + f for f in frames_of)))
        ):
            kept = (*held[:2], 3 << HOLDERS)
            others = [[h for h in s.stale if h[:2] != held[:2]] for s in states]
            return [
                s._replace(stale=tuple(sorted([*rest, kept])))
                for s, rest in zip(states, others, strict=True)
            ]
    if what == 3 and free(FAULTS):
        return [s._replace(faults_wait=1 - s.faults_wait) for s in states]
    if what == 4 and free(REFUSALS):
        return [s._replace(failures=s.failures + 1) for s in states]
    if what == 5 and free(RAW_ERRORS):
        return [s._replace(raw_errors=s.raw_errors ^ 2, broken=s.broken ^ 6) for s in states]
    other = (done.actor + 1) % len(done.before.actors)
    if what == 6 and free(STORES + frame):
        return [_with(s, other, PENDING_STORES, _toggled(s, other, frame)) for s in states]
    lock = dice.randrange(len(LOCKS))
    if what == 7 and free(LOCK + lock) and not done.visible and LOCKS[lock].value.endswith("lock"):
        return [_with(s, other, HELD, s.actors[other][HELD] ^ 1 << lock) for s in states]
    return states


def _toggled(state: State, actor: int, frame: int) -> tuple[int, ...]:
    return tuple(sorted({*state.actors[actor][PENDING_STORES]} ^ {frame}))


def _held(dice: random.Random, model: Model, frame: int) -> tuple[int, int, int]:
    """A key, an entry that a TLB may hold for it, and the first frame that it leads to."""
    page, g = dice.randrange(model.geometry.vmemmap_pages), model.geometry
    if dice.random() < 0.5:
        return page, int(model.v.leaf_entry(frame, writable=True)), frame
    block = int(model.v.format.make_leaf(g.first_frame * PAGE, 1))
    return LEVEL1 + page // g.leaf, block, g.first_frame


def _with(state: State, actor: int, item: int, value: object) -> State:
    record = state.actors[actor]
    now = (*record[:item], value, *record[item + 1 :])
    actors = (*state.actors[:actor], now, *state.actors[actor + 1 :])
    return state._replace(actors=actors)  # pyright: ignore[reportArgumentType]


def declares_all(seed: int) -> int:
    """A random run -> how many of its steps had the same outcome in a disturbed state."""
    dice = random.Random(seed)
    case = strangers(dice) if seed % 2 else mutant(dice, SMALL_CASES)
    same = 0
    for forest, done in walk(dice, case):
        said = f"seed {seed}, {forest.nodes[done.before.actors[done.actor][0]].operation}"
        assert not undeclared(done, forest.model), said
        for _ in range(6):
            before, after = disturbed(dice, done, forest.model, [done.before, done.outcome[0]])
            if before is done.before:
                continue
            again = one_step(forest, before, done.actor, done.choices)
            assert again.choices == done.choices, said
            assert again.outcome[1:] == done.outcome[1:], said
            assert again.outcome[0] == after, said
            same += 1
    return same


def test_steps_declare_what_they_read_and_change():
    """In 400 random runs on six machines: nothing else changes, and nothing else matters."""
    assert sum(declares_all(seed) for seed in range(400)) > 5000


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("block", range(20))
def test_steps_declare_what_they_read_and_change_in_many_runs(block: int):
    """In 20 000."""
    for seed in range(1000 * (block + 1), 1000 * (block + 2)):
        declares_all(seed)


# -- what the reductions find --


def agrees(seed: int) -> bool:
    """Whether the searches of a random protocol were finished; then they must agree."""
    dice = random.Random(seed)
    case = strangers(dice) if seed % 2 else mutant(dice, SMALL_CASES)
    found: list[list[tuple[str, int]]] = []
    for options in (PLAIN, REDUCED):
        forest, start = build(case.scenario, case.era, case.hardware)
        result = explore(forest, start, case.scenario, options)
        if not result.finished:
            return False
        found.append([(violation.property, violation.steps) for violation in result.violations])
    assert found[0] == found[1], f"seed {seed}: {case.protocol} on {case.hardware.name}"
    return True


@pytest.mark.parametrize("block", range(4))
def test_reductions_find_what_the_plain_search_finds(block: int):
    """A thousand protocols, half of them random steps, half kernels' with something wrong: the same
    properties, each in as many steps.
    """
    finished = [agrees(seed) for seed in range(250 * block, 250 * (block + 1))]
    assert sum(finished) > 200


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("block", range(40))
def test_reductions_find_the_same_in_many_protocols(block: int):
    """Ten thousand more."""
    for seed in range(1000 + 250 * block, 1000 + 250 * (block + 1)):
        agrees(seed)


def test_random_protocols_are_on_every_machine():
    """And most of them violate something, none of them everything."""
    cases = [strangers(random.Random(seed)) for seed in range(1, 100, 2)]
    assert {case.hardware for case in cases} == set(MACHINES)
