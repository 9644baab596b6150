"""The order that one thread's own instructions require, whatever other threads do: barriers,
dependencies, the walk before its access.

The rules are those of Arm's memory model with virtual memory (Arm ARM B2.3; as a program herdtools7
`herd/libdir/aarch64hwreqs.cat` and `aarch64loc.cat`); each function below is one definition there
and has its name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from hvo.litmus.relations import Relation, closure, members, none, union
from hvo.litmus.thread import FAULT, FENCE, INVALIDATE, READ, UPDATE, WALK, WRITE, Event, Run
from hvo.litmus.values import Descriptor


@dataclass(frozen=True)
class Local:
    """A run with the relations among its own events, which are numbered from 0."""

    run: Run

    @cached_property
    def size(self) -> int:
        """Number of events."""
        return len(self.run.events)

    def where(self, test: Callable[[Event], bool]) -> int:
        """Mask of the events for which `test` holds."""
        return sum(1 << at for at, event in enumerate(self.run.events) if test(event))

    def kinds(self, *kinds: int) -> int:
        """Mask of the events of these kinds."""
        return self.where(lambda event: event.kind in kinds)

    def after(self, at: int) -> int:
        """Mask of the events of later instructions (po)."""
        return self.where(lambda event: event.order > self.run.events[at].order)

    def before(self, at: int) -> int:
        """Mask of the events of earlier instructions."""
        return self.where(lambda event: event.order < self.run.events[at].order)

    @cached_property
    def walks(self) -> list[int | None]:
        """For each access or fault the walk it went through (tr-ib, from right to left)."""
        found: list[int | None] = []
        last: int | None = None
        for at, event in enumerate(self.run.events):
            if event.kind == WALK:
                last = at
            same = last is not None and self.run.events[last].order == event.order
            found.append(last if same and event.kind in (READ, WRITE, FAULT) else None)
        return found

    @cached_property
    def coherent(self) -> Relation:
        """Explicit accesses of one place in program order (po & same-loc)."""
        explicit = self.kinds(READ, WRITE)
        return [
            (
                self.after(at)
                & explicit
                & self.where(lambda other, event=event: other.place == event.place)
                if explicit >> at & 1
                else 0
            )
            for at, event in enumerate(self.run.events)
        ]

    @cached_property
    def barriers(self) -> Relation:
        """What barriers, dependencies and acquire or release order: no walk and no sameness of
        places has part in it.
        """
        return closure(
            union(
                self._fences(),
                self._acquire_release(),
                self._dependencies(),
                self._atomics(),
                self._context(),
            )
        )

    @cached_property
    def required(self) -> Relation:
        """All that the hardware must keep within the thread (local-hw-reqs), transitive."""
        return closure(union(self.barriers, self._walk_order(), self._same_place()))

    @cached_property
    def completed(self) -> Relation:
        """From each TLBI to what comes after the DSB that completes it and after an ISB then (TLBI;
        po; dsb.full; po).
        """
        result = none(self.size)
        implicit = self.kinds(WALK, UPDATE)
        for at in members(self.kinds(INVALIDATE)):
            for fence in members(self.after(at) & self._fence("dsb.full")):
                result[at] |= self.after(fence) & ~implicit
                for barrier in members(self.after(fence) & self._fence("isb")):
                    result[at] |= self.after(barrier)
        return result

    def _fence(self, *notes: str) -> int:
        return self.where(lambda event: event.kind == FENCE and event.note in notes)

    def _marked(self, *marks: str) -> int:
        return self.where(lambda event: any(mark in event.marks for mark in marks))

    def _order(self, result: Relation, sources: int, targets: int) -> None:
        for at in members(sources):
            result[at] |= targets

    def _fences(self) -> Relation:
        """bob of DMB and DSB, and DSB-ob: a DSB orders all but walks, which only an ISB after it
        does.
        """
        result = none(self.size)
        reads, writes, faults = (
            self.kinds(READ) & ~self._marked("N"),
            self.kinds(WRITE),
            self.kinds(FAULT),
        )
        explicit, memory, invalidate = (
            self.kinds(READ, WRITE),
            self.kinds(READ, WRITE, WALK, UPDATE),
            self.kinds(INVALIDATE),
        )
        shown = ~self.kinds(WALK, UPDATE)
        for at in members(self.kinds(FENCE)):
            before, after = self.before(at), self.after(at)
            match self.run.events[at].note:
                case "dmb.full":
                    self._order(result, before & explicit, after & (explicit | faults))
                case "dmb.ld":
                    self._order(result, before & reads, after & (explicit | faults))
                case "dmb.st":
                    self._order(result, before & writes, after & (writes | faults))
                case "dsb.full":
                    self._order(result, before & (memory | invalidate), after & shown)
                case "dsb.ld":
                    self._order(result, before & reads, after & shown)
                case "dsb.st":
                    self._order(result, before & writes, after & shown)
                case _:
                    pass
        return result

    def _acquire_release(self) -> Relation:
        result = none(self.size)
        explicit, faults = self.kinds(READ, WRITE), self.kinds(FAULT)
        release = self._marked("L")
        for at in members(self._marked("A", "Q") & explicit):
            result[at] |= self.after(at) & (explicit | faults)
        for at in members(release):
            self._order(result, self.before(at) & explicit, 1 << at)
            result[at] |= self.after(at) & self._marked("A")
            partner = self.run.events[at].partner
            if partner is not None and "A" in self.run.events[partner].marks:
                result[at] |= self.after(at) & (explicit | faults)
        return result

    def _dependencies(self) -> Relation:
        """dob: address, data and control."""
        result = none(self.size)
        later_writes, explicit = self.kinds(WRITE, UPDATE), self.kinds(READ, WRITE)
        controlled = later_writes | self.kinds(INVALIDATE)
        for at, event in enumerate(self.run.events):
            here = 1 << at
            self._from(result, event.address, here if event.kind != FAULT else 0)
            self._from(result, event.data, here)
            self._from(result, event.control, here & controlled)
            if explicit & here:
                self._from(result, event.address, self.after(at) & later_writes)
                self._from(result, event.address | event.data, self._read_next(at))
        return result

    def _from(self, result: Relation, sources: Iterable[int], targets: int) -> None:
        for source in sources:
            result[source] |= targets & ~(1 << source)

    def _read_next(self, at: int) -> int:
        """The reads of what the write `at` wrote, before its thread writes there again (lrs)."""
        if self.run.events[at].kind != WRITE:
            return 0
        later = self.coherent[at]
        return sum(
            1 << read
            for read in members(later & self.kinds(READ))
            if not later & self.kinds(WRITE) & self.before(read)
        )

    def _atomics(self) -> Relation:
        """aob."""
        result = none(self.size)
        for at, event in enumerate(self.run.events):
            if event.partner is not None:
                result[event.partner] |= 1 << at | (self._read_next(at) & self._marked("A", "Q"))
        return result

    def _context(self) -> Relation:
        """IFB-ob: what an ISB puts in order, after a DSB (through the ISB itself), a control or an
        address dependency.
        """
        result = none(self.size)
        explicit = self.kinds(READ, WRITE)
        for at in members(self._fence("isb")):
            result[at] |= self.after(at)
            self._from(result, self.run.events[at].control, self.after(at))
            for access in members(self.before(at) & explicit):
                self._from(result, self.run.events[access].address, self.after(at))
        return result

    def _walk_order(self) -> Relation:
        """tr-ib, and what comes after an access waits for its walk: writes, and through an ISB
        all.
        """
        result = none(self.size)
        writes, contexts = self.kinds(WRITE), self._fence("isb")
        for at, walk in enumerate(self.walks):
            if walk is None:
                continue
            result[walk] |= 1 << at
            if self.run.events[at].kind != FAULT:
                result[walk] |= self.after(at) & writes
                for barrier in members(self.after(at) & contexts):
                    result[walk] |= self.after(barrier)
        return result

    def _same_place(self) -> Relation:
        """lws and its kin: accesses of one place before a write to it, or before a fault that
        stands for one.
        """
        result = none(self.size)
        writes = self.kinds(WRITE)
        for at in members(self.kinds(READ, WRITE)):
            result[at] |= self.coherent[at] & writes | self._faults_after(at)
        for at in members(self.kinds(WALK)):
            place = self.run.events[at].place
            result[at] |= self.after(at) & self.where(
                lambda other, place=place: other.kind in (WRITE, UPDATE) and other.place == place
            )
        return result

    def _faults_after(self, at: int) -> int:
        """Faults after the access `at` that count as accesses of its place: Translation faults by
        their page, all by their frame.
        """
        place, output, found = self.run.events[at].place, self._output(at), 0
        for fault in members(self.after(at) & self.kinds(FAULT)):
            event = self.run.events[fault]
            same_page = (
                event.note == "Translation"
                and place is not None
                and (place.kind, place.name) == ("PA", event.page)
            )
            found |= (same_page or (output is not None and output == self._output(fault))) << fault
        return found

    def _output(self, at: int) -> int | None:
        walk = self.walks[at]
        value = self.run.events[walk].value if walk is not None else None
        return value.word >> 12 & ((1 << 36) - 1) if isinstance(value, Descriptor) else None
