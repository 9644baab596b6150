"""The candidate executions of a litmus test: a run for each thread, the write each read reads from,
the order of writes to each place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

from hvo.errors import HvoError
from hvo.litmus.local import Local
from hvo.litmus.program import Test
from hvo.litmus.relations import Relation, members, none, shifted
from hvo.litmus.spontaneous import happens, updated, updates
from hvo.litmus.thread import INITIAL, READ, UPDATE, WALK, WRITE, Event, Thread, Values
from hvo.litmus.values import Address, Value, as_descriptor

MOST_COMBINATIONS = 200_000
"""Combinations of runs that are looked at; a test with more is refused."""


@dataclass(frozen=True)
class Combination:
    """One run of every thread, with the initial writes: the events of an execution, numbered
    through; threads follow the initial writes.
    """

    initial: tuple[Event, ...]
    locals: tuple[Local, ...]

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """All events."""
        return (*self.initial, *(event for local in self.locals for event in local.run.events))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Number of the first event of each thread."""
        found, at = list[int](), len(self.initial)
        for local in self.locals:
            found.append(at)
            at += local.size
        return tuple(found)

    def relation(self, name: str) -> Relation:
        """The relation `name` of `Local`, over all threads."""
        rows = none(len(self.initial))
        for offset, local in zip(self.offsets, self.locals, strict=True):
            rows += shifted(getattr(local, name), offset)
        return rows

    def mask(self, *kinds: int) -> int:
        """Mask of the events of these kinds."""
        return sum(1 << at for at, event in enumerate(self.events) if event.kind in kinds)

    @cached_property
    def walks(self) -> dict[int, int]:
        """The walk that each access or fault went through."""
        pairs = zip(self.offsets, self.locals, strict=True)
        return {
            offset + at: offset + walk
            for offset, local in pairs
            for at, walk in enumerate(local.walks)
            if walk is not None
        }

    @cached_property
    def partners(self) -> dict[int, int]:
        """For each write of an atomic access the read it belongs to."""
        pairs = zip(self.offsets, self.locals, strict=True)
        return {
            offset + at: offset + event.partner
            for offset, local in pairs
            for at, event in enumerate(local.run.events)
            if event.partner is not None
        }

    @cached_property
    def threads(self) -> list[int]:
        """For each event the mask of the events of its own thread (an initial write is alone)."""
        masks = [1 << at for at in range(len(self.initial))]
        for offset, local in zip(self.offsets, self.locals, strict=True):
            masks += [((1 << local.size) - 1) << offset] * local.size
        return masks


@dataclass(frozen=True)
class Candidate:
    """A combination with the write each read reads from (rf) and the coherence order of writes
    (co).
    """

    combination: Combination
    source: dict[int, int]
    order: tuple[tuple[int, ...], ...]
    """Writes to each place, first to last."""

    @cached_property
    def reads_from(self) -> Relation:
        """rf: from write to read."""
        result = none(len(self.combination.events))
        for read, write in self.source.items():
            result[write] |= 1 << read
        return result

    @cached_property
    def coherence_after(self) -> Relation:
        """ca = co | fr: from a write or a read to every write that comes later in the order of its
        place.
        """
        result = none(len(self.combination.events))
        for writes in self.order:
            later = 0
            for write in reversed(writes):
                result[write] = later
                later |= 1 << write
        for read, write in self.source.items():
            result[read] |= result[write]
        return result

    def final(self, place: Address) -> Value:
        """What the place holds at the end."""
        for writes in self.order:
            if self.combination.events[writes[-1]].place == place:
                return self.combination.events[writes[-1]].value
        return 0


def candidates(test: Test) -> Iterator[Candidate]:
    """Every candidate execution of the test, allowed or not."""
    runs, values = all_runs(test)
    count = 1
    for each in runs:
        count *= len(each)
    if count > MOST_COMBINATIONS:
        raise HvoError(
            f"{test.file}: {count} combinations of what its threads may do, more than"
            f" {MOST_COMBINATIONS}; try fewer accesses"
        )
    initial = tuple(
        Event(-1, at, INITIAL, place=place, value=value)
        for at, (place, value) in enumerate(_initial(test, values).items())
    )
    for chosen in product(*runs):
        yield from _of(Combination(initial, chosen))


def all_runs(test: Test) -> tuple[list[list[Local]], Values]:
    """Every run of every thread, then of what the hardware may do by itself, with the values that
    places may have.

    They are found by letting threads run on what others may have written, until there is nothing
    new.
    """
    threads = [Thread(test, number) for number in range(len(test.threads))]
    values: Values = {place: frozenset({value}) for place, value in _first(test).items()}
    rounds = sum(len(steps) for steps in test.threads) * 3 + 2
    for _ in range(rounds):
        runs = [[*thread.runs(values)] for thread in threads]
        written = {
            (event.place, event.value)
            for each in runs
            for run in each
            for event in run.events
            if event.kind in (WRITE, UPDATE)
        }
        if happens(test):
            written |= {
                (place, new)
                for place, held in values.items()
                for value in held
                if (new := updated(value)) is not None
            }
        more = dict(values)
        for place, value in written:
            assert place is not None
            more[place] = more.get(place, frozenset({_first_value(test, place)})) | {value}
        if more == values:
            extra = updates(test, (run for each in runs for run in each), values, _first(test))
            return [[Local(run) for run in each] for each in runs] + extra, values
        values = more
    raise HvoError(
        f"{test.file}: its values do not come to an end; expected a test in which no thread feeds"
        " on its own additions"
    )


def _first(test: Test) -> dict[Address, Value]:
    """What every place of the test holds at first."""
    pages = list(test.coding.pages)
    return {
        place: _first_value(test, place)
        for page in pages
        for place in (Address("PA", page), Address("PTE", page))
    }


def _first_value(test: Test, place: Address) -> Value:
    if place in test.memory:
        return as_descriptor(test.memory[place]) if place.kind == "PTE" else test.memory[place]
    return test.coding.descriptor(place.name, {}) if place.kind == "PTE" else 0


def _initial(test: Test, values: Values) -> dict[Address, Value]:
    return {place: _first_value(test, place) for place in sorted({*_first(test), *values})}


def _of(combination: Combination) -> Iterator[Candidate]:
    """The candidates of one combination: none when a read has nowhere to get its value."""
    writers: dict[tuple[Address | None, Value], list[int]] = {}
    for at in members(combination.mask(INITIAL, WRITE, UPDATE)):
        event = combination.events[at]
        writers.setdefault((event.place, event.value), []).append(at)
    reads = list(members(combination.mask(READ, WALK)))
    choices = [_sources(combination, read, writers) for read in reads]
    if not all(choices):
        return
    orders = list(product(*_orders(combination)))
    for sources in product(*choices):
        for order in orders:
            yield Candidate(combination, dict(zip(reads, sources, strict=True)), order)


def _sources(
    combination: Combination, read: int, writers: dict[tuple[Address | None, Value], list[int]]
) -> list[int]:
    """The writes that the read may read from; not one of its own thread that comes later."""
    event = combination.events[read]
    found = writers.get((event.place, event.value), [])
    own = combination.events
    return [
        write
        for write in found
        if not (
            own[write].thread == event.thread and (own[write].order, write) > (event.order, read)
        )
    ]


def _orders(combination: Combination) -> list[list[tuple[int, ...]]]:
    """For each place the coherence orders of its writes: the initial one first, explicit ones of
    one thread as it wrote them.
    """
    found: list[list[tuple[int, ...]]] = []
    for first in range(len(combination.initial)):
        place = combination.events[first].place
        writes = [
            at
            for at in members(combination.mask(WRITE, UPDATE))
            if combination.events[at].place == place
        ]
        found.append(
            [(first, *order) for order in permutations(writes) if _keeps_order(combination, order)]
        )
    return found


def _keeps_order(combination: Combination, order: Sequence[int]) -> bool:
    own = combination.events
    return all(
        own[later].thread != own[first].thread
        or own[later].order >= own[first].order
        or UPDATE in (own[later].kind, own[first].kind)
        for at, first in enumerate(order)
        for later in order[at + 1 :]
    )
