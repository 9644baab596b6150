"""Arm's memory model with virtual memory: which candidate executions of a litmus test are allowed.

An execution is allowed when every place is coherent (internal), when what the hardware must keep in
order and what threads observe of each other is acyclic (external), and when atomic accesses are
atomic. An invalidation that a DSB completes comes before or after each walk of the page it
invalidates; every choice of that is an execution of its own. Source: Arm ARM B2.3; herdtools7
`herd/libdir/aarch64.cat`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hvo.litmus.candidates import Candidate, Combination
from hvo.litmus.relations import Relation, closure, inverse, is_cyclic, members, none, union
from hvo.litmus.thread import FAULT, FENCE, INITIAL, INVALIDATE, READ, UPDATE, WALK, WRITE


@dataclass(frozen=True)
class Execution:
    """An allowed execution: the candidate and what is ordered before what in it (ob,
    transitive).
    """

    candidate: Candidate
    ordered: Relation


class Model:
    """What is the same for all candidates of one combination of runs."""

    def __init__(self, combination: Combination) -> None:
        self.combination = combination
        self.required = combination.relation("required")
        self.coherent = combination.relation("coherent")
        self.completed = combination.relation("completed")

    def allowed(self, candidate: Candidate) -> Iterator[Execution]:
        """The executions that the candidate stands for: none, or one for each order of its
        invalidations and walks.
        """
        if not (self._is_atomic(candidate) and self._is_coherent(candidate)):
            return
        ordered = closure(union(self.required, self._observed(candidate), self._hazards(candidate)))
        if is_cyclic(ordered):
            return
        chosen = [
            (a, b) for a, b in self._pairs if self.required[a] >> b & 1 or self.required[b] >> a & 1
        ]
        for a, b in chosen:
            first = (a, b) if self.required[a] >> b & 1 else (b, a)
            ordered = self._with(candidate, ordered, *first)
            if is_cyclic(ordered):
                return
        yield from self._choose(
            candidate, ordered, [pair for pair in self._pairs if pair not in chosen]
        )

    def _choose(
        self, candidate: Candidate, ordered: Relation, open_pairs: list[tuple[int, int]]
    ) -> Iterator[Execution]:
        if not open_pairs:
            yield Execution(candidate, ordered)
            return
        (a, b), rest = open_pairs[0], open_pairs[1:]
        for first, then in ((a, b), (b, a)):
            more = self._with(candidate, ordered, first, then)
            if not is_cyclic(more):
                yield from self._choose(candidate, more, rest)

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        """Invalidations that a DSB completes, each with the walks of pages in its scope."""
        events = self.combination.events
        completed = [
            at for at in members(self.combination.mask(INVALIDATE)) if self._is_completed(at)
        ]
        walks = list(members(self.combination.mask(WALK)))
        return [
            (at, walk)
            for at in completed
            for walk in walks
            if events[at].page in (None, events[walk].page)
        ]

    def _is_completed(self, at: int) -> bool:
        event = self.combination.events[at]
        return any(
            other.kind == FENCE
            and other.note == "dsb.full"
            and other.thread == event.thread
            and other.order > event.order
            for other in self.combination.events
        )

    def _with(self, candidate: Candidate, ordered: Relation, first: int, then: int) -> Relation:
        """The order when `first`, an invalidation or a walk, is chosen to come before `then`, the
        other of the two.
        """
        combination = self.combination
        added = none(len(ordered))
        if combination.events[first].kind == INVALIDATE:
            # What the walk did not see yet comes after the invalidation (TLBI-ca).
            added[first] |= candidate.coherence_after[then]
        else:
            # The walk, and from other threads what it served, come before what waits for the
            # invalidation (TLBI-ob).
            added[first] |= self.completed[then]
            outside = self.completed[then] & ~combination.threads[first]
            for at in (*self._served(first), *self._earlier_walks(first)):
                added[at] |= outside
        return closure(union(ordered, added))

    def _served(self, walk: int) -> list[int]:
        return [at for at, through in self.combination.walks.items() if through == walk]

    def _earlier_walks(self, walk: int) -> list[int]:
        """Walks for the same page earlier in the thread, when neither ended in a fault
        (po-va-loc).
        """
        events, faults = self.combination.events, self.combination.mask(FAULT)
        refused = {through for at, through in self.combination.walks.items() if faults >> at & 1}
        return [
            at
            for at in members(self.combination.mask(WALK) & self.combination.threads[walk])
            if events[at].order < events[walk].order
            and events[at].page == events[walk].page
            and not refused & {at, walk}
        ]

    def _is_coherent(self, candidate: Candidate) -> bool:
        return not is_cyclic(
            closure(union(self.coherent, candidate.coherence_after, candidate.reads_from))
        )

    def _is_atomic(self, candidate: Candidate) -> bool:
        """No write of another thread comes between the two halves of an atomic access."""
        after = candidate.coherence_after
        before = inverse(after)
        return all(
            not after[read] & before[write] & ~self.combination.threads[write]
            for write, read in self.combination.partners.items()
        )

    def _observed(self, candidate: Candidate) -> Relation:
        """obs: other threads' accesses seen, and all that walks see and the hardware writes."""
        combination, after, reads_from = (
            self.combination,
            candidate.coherence_after,
            candidate.reads_from,
        )
        explicit, walks, updates = (
            combination.mask(*kinds) for kinds in ((INITIAL, READ, WRITE), (WALK,), (UPDATE,))
        )
        result = none(len(combination.events))
        for at in range(len(result)):
            bit, outside = 1 << at, ~combination.threads[at]
            if explicit & bit:
                result[at] |= (after[at] | reads_from[at]) & explicit & outside
            result[at] |= reads_from[at] & walks
            if updates & bit:
                result[at] |= reads_from[at] | after[at]
            elif not walks & bit:
                result[at] |= after[at] & updates
        return union(result, self._uncached(candidate))

    def _uncached(self, candidate: Candidate) -> Relation:
        """A walk that ended in a Translation or AccessFlag fault saw what no TLB may hold: it comes
        before the next write of the entry.
        """
        result, after = none(len(self.combination.events)), candidate.coherence_after
        for at, walk in self.combination.walks.items():
            event = self.combination.events[at]
            if event.kind == FAULT and event.note in ("Translation", "AccessFlag"):
                beyond = 0
                for write in members(after[walk]):
                    beyond |= after[write]
                result[walk] |= after[walk] & ~beyond
        return result

    def _hazards(self, candidate: Candidate) -> Relation:
        """haz-ob: a read before another read of the place comes before what the other does not see
        yet.
        """
        combination, result = self.combination, none(len(self.combination.events))
        reads, writes = combination.mask(READ), combination.mask(WRITE)
        for at in members(reads):
            for other in members(self.coherent[at] & reads):
                result[at] |= (
                    candidate.coherence_after[other] & writes & ~combination.threads[other]
                )
        return result
