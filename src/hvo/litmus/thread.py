"""Everything one thread of a litmus test may do, by itself: one run for each combination of values
that its reads could return.

A page access first reads the descriptor (the walk), may fault or make the hardware set the access
flag and the dirty bit there, and then reads or writes the frame the descriptor names (herdtools7,
`check_ptw` of `herd/AArch64Sem.ml`). A fault ends the thread, as in herd with `fatal`, which is its
default for this variant.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from hvo.errors import HvoError
from hvo.litmus.arithmetic import changed, narrow, operate, stored
from hvo.litmus.condition import Fault
from hvo.litmus.instructions import Atomic, Branch, Compute, Fence, Invalidate, Load, Store
from hvo.litmus.program import Test
from hvo.litmus.values import (
    Address,
    Descriptor,
    Value,
    flags_of,
    with_hardware_update,
)

INITIAL, READ, WRITE, WALK, UPDATE, FAULT, FENCE, INVALIDATE = range(8)
"""Kinds of events: a place's initial value, explicit reads and writes, the walk's read of a
descriptor, the hardware's write to it, ...
"""


@dataclass(frozen=True)
class Event:
    """One effect. Events of one instruction have the same `order`; `address`, `data` and `control`
    number the reads it depends on.
    """

    thread: int
    order: int
    kind: int
    text: str = ""
    place: Address | None = None
    value: Value = 0
    page: str | None = None
    note: str = ""
    """Kind of a fence or of a fault."""
    marks: str = ""
    """A acquire, Q acquire (RCpc), L release, N a read whose value is not returned."""
    address: frozenset[int] = frozenset()
    data: frozenset[int] = frozenset()
    control: frozenset[int] = frozenset()
    partner: int | None = None
    """The read that this write makes one atomic access with."""


class Run(NamedTuple):
    """One way through a thread: its events, what its registers hold at the end, the faults it
    took.
    """

    events: tuple[Event, ...]
    registers: Mapping[str, Value]
    faults: tuple[Fault, ...]


_Register = tuple[Value, frozenset[int]]
Values = Mapping[Address, frozenset[Value]]
"""What each place may hold at some time."""


@dataclass
class _Path:
    """A run that is still going."""

    at: int
    events: list[Event]
    registers: dict[str, _Register]
    control: frozenset[int]
    faults: tuple[Fault, ...] = ()

    def fork(self) -> "_Path":
        return _Path(self.at, list(self.events), dict(self.registers), self.control, self.faults)

    def get(self, register: str) -> _Register:
        return (
            (0, frozenset())
            if register == "XZR"
            else self.registers.get(register, (0, frozenset()))
        )

    def put(self, register: str | None, value: Value, depends: frozenset[int]) -> None:
        if register not in (None, "XZR"):
            self.registers[register] = value, depends

    def add(self, event: Event) -> int:
        self.events.append(replace(event, control=self.control))
        return len(self.events) - 1


class Thread:
    """One thread of a test, with what its processor does by itself."""

    def __init__(self, test: Test, number: int) -> None:
        self.test, self.number, self.steps = test, number, test.threads[number]
        self.sets_access_flag, self.sets_dirty = (
            test.manages(number, "HA"),
            test.manages(number, "HD"),
        )

    def runs(self, values: Values) -> Iterator[Run]:
        """Every run when each place may hold what `values` says."""
        first = {
            name: (value, frozenset[int]())
            for (thread, name), value in self.test.registers.items()
            if thread == self.number
        }
        paths = [_Path(0, [], first, frozenset())]
        while paths:
            path = paths.pop()
            if path.at >= len(self.steps):
                yield Run(
                    tuple(path.events),
                    {name: value for name, (value, _) in path.registers.items()},
                    path.faults,
                )
            else:
                paths += self._step(path, values)

    def _step(self, path: _Path, values: Values) -> list[_Path]:
        instruction = self.steps[path.at].instruction
        order, path.at = path.at, path.at + 1
        event = Event(self.number, order, FENCE, instruction.text)
        match instruction:
            case Load():
                return self._load(path, instruction, event, values)
            case Store():
                return self._store(path, instruction, event, values)
            case Atomic():
                return self._atomic(path, instruction, event, values)
            case Compute():
                _compute(path, instruction, self.test)
            case Branch():
                self._branch(path, instruction)
            case Fence():
                path.add(replace(event, note=instruction.kind))
            case Invalidate():
                self._invalidate(path, instruction, event)
            case _:
                pass
        return [path]

    def _branch(self, path: _Path, branch: Branch) -> None:
        target = next(
            at for at in range(path.at, len(self.steps)) if branch.target in self.steps[at].labels
        )
        if branch.register is None:
            path.at = target
            return
        value, depends = path.get(branch.register)
        path.control |= depends
        if (value == 0) == branch.when_zero:
            path.at = target

    def _invalidate(self, path: _Path, invalidate: Invalidate, event: Event) -> None:
        value, depends = path.get(invalidate.register or "XZR")
        page = value.name if isinstance(value, Address) and value.kind == "TLB" else None
        everything = invalidate.operation.startswith(("VMALL", "ALL", "ASID"))
        if page is None and not everything:
            raise HvoError(
                f"{self.test.file}: {event.text}: the register must hold an address shifted right"
                " by 12 (LSR X9,X4,#12)"
            )
        path.add(
            replace(event, kind=INVALIDATE, page=None if everything else page, address=depends)
        )

    def _load(self, path: _Path, load: Load, event: Event, values: Values) -> list[_Path]:
        def read(on: _Path, place: Address, made: Event) -> Iterator[_Path]:
            for value in sorted(values.get(place, ()), key=str):
                after = on.fork()
                at = after.add(replace(made, kind=READ, place=place, value=value, marks=load.order))
                after.put(load.register, narrow(value, load.narrow), frozenset({at}))
                yield after

        address, depends = self._address(path, load.base, load.index, event)
        return list(
            self._access(path, address, replace(event, address=depends), False, values, read)
        )

    def _store(self, path: _Path, store: Store, event: Event, values: Values) -> list[_Path]:
        value, data = path.get(store.register)

        def write(on: _Path, place: Address, made: Event) -> Iterator[_Path]:
            kept = stored(place, narrow(value, store.narrow))
            on.add(replace(made, kind=WRITE, place=place, value=kept, data=data, marks=store.order))
            yield on

        address, depends = self._address(path, store.base, store.index, event)
        return list(
            self._access(
                path,
                address,
                replace(event, address=depends, marks=store.order),
                True,
                values,
                write,
            )
        )

    def _atomic(self, path: _Path, atomic: Atomic, event: Event, values: Values) -> list[_Path]:
        def change(on: _Path, place: Address, made: Event) -> Iterator[_Path]:
            for value in sorted(values.get(place, ()), key=str):
                yield from _exchanged(on.fork(), atomic, place, value, made)

        address, depends = self._address(path, atomic.base, None, event)
        return list(
            self._access(path, address, replace(event, address=depends), True, values, change)
        )

    def _address(
        self, path: _Path, base: str, index: str | None, event: Event
    ) -> tuple[Address, frozenset[int]]:
        value, depends = path.get(base)
        offset, more = path.get(index or "XZR")
        if not isinstance(value, Address) or value.kind == "TLB" or offset != 0:
            raise HvoError(
                f"{self.test.file}: {event.text}: the address must be a page or PTE(page), with no"
                " offset but 0"
            )
        return value, depends | more

    def _access(
        self,
        path: _Path,
        address: Address,
        event: Event,
        writes: bool,
        values: Values,
        effect: Callable[[_Path, Address, Event], Iterator[_Path]],
    ) -> Iterator[_Path]:
        """Walk to the frame of `address` when it is virtual, then have the effect there."""
        if address.kind != "VA":
            if self.number in self.test.user:
                yield self._fault(path, replace(event, page=address.name), "Permission")
            else:
                yield from effect(path, address, event)
            return
        entry = Address("PTE", address.name)
        for value in sorted(values.get(entry, ()), key=str):
            word = value.word if isinstance(value, Descriptor) else 0
            on, made = path.fork(), replace(event, page=address.name)
            walk = on.add(replace(made, kind=WALK, place=entry, value=value, marks=""))
            fault = self._refused(word, writes)
            if fault:
                yield self._fault(on, made, fault)
                continue
            updated = self._updated(word, writes)
            if updated != word:
                on.add(
                    replace(
                        made,
                        kind=UPDATE,
                        place=entry,
                        value=Descriptor(updated),
                        partner=walk,
                        marks="",
                    )
                )
            page = self.test.coding.output(word)
            if page is None:
                raise HvoError(
                    f"{self.test.file}: {event.text}: {entry} may hold"
                    f" {self.test.coding.text(value)}; expected oa:PA of a page"
                )
            yield from effect(on, Address("PA", page), made)

    def _refused(self, word: int, writes: bool) -> str | None:
        """The fault an access through the descriptor `word` takes, if any."""
        bits = flags_of(word)
        if not bits["valid"]:
            return "Translation"
        if not bits["af"] and not self.sets_access_flag:
            return "AccessFlag"
        may_write = bits["db"] or (bits["dbm"] and self.sets_dirty)
        if (writes and not may_write) or (self.number in self.test.user and not bits["el0"]):
            return "Permission"
        return None

    def _updated(self, word: int, writes: bool) -> int:
        """The descriptor after what the hardware does to it on an access that is let through."""
        if not self.sets_access_flag:
            return word
        return with_hardware_update(word, dirty=writes and self.sets_dirty)

    def _fault(self, path: _Path, event: Event, kind: str) -> _Path:
        path.add(replace(event, kind=FAULT, note=kind))
        labels = self.steps[event.order].labels
        path.faults = (*path.faults, Fault(self.number, ",".join(labels) or None, event.page, kind))
        if not self.test.variants & {"skip", "faultToNext"}:
            path.at = len(self.steps)
        return path


def _exchanged(
    path: _Path, atomic: Atomic, place: Address, value: Value, event: Event
) -> Iterator[_Path]:
    """The paths after an atomic access that read `value`: a CAS that fails may write it back, or
    not write.
    """
    at = path.add(replace(event, kind=READ, place=place, value=value, marks=_read_marks(atomic)))
    source, depends = path.get(atomic.source)
    written, data = source, depends
    if atomic.operation == "CAS":
        written, data = path.get(atomic.register or "XZR")
        path.put(atomic.source, narrow(value, atomic.narrow), frozenset({at}))
        if value != stored(place, source):
            yield path.fork()
            written, data = value, frozenset({at})
    else:
        if atomic.operation != "SWP":
            written, data = changed(atomic.operation, value, source, event.text), depends | {at}
        path.put(atomic.register, narrow(value, atomic.narrow), frozenset({at}))
    marks = "L" if "L" in atomic.order else ""
    kept = stored(place, narrow(written, atomic.narrow))
    path.add(
        replace(event, kind=WRITE, place=place, value=kept, data=data, marks=marks, partner=at)
    )
    yield path


def _read_marks(atomic: Atomic) -> str:
    """N when no register gets the value, A for acquire."""
    returned = atomic.operation == "CAS" or atomic.register not in (None, "XZR")
    return ("A" if "A" in atomic.order else "") if returned else "N"


def _compute(path: _Path, compute: Compute, test: Test) -> None:
    values: list[Value] = []
    depends = frozenset[int]()
    for operand in compute.operands:
        value, more = path.get(operand) if isinstance(operand, str) else (operand, frozenset[int]())
        values.append(value)
        depends |= more
    path.put(
        compute.register,
        narrow(
            operate(compute.operation, tuple(values), f"{test.file}: {compute.text}"),
            compute.narrow,
        ),
        depends,
    )
