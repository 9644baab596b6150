"""Ways to change what an actor does: leave steps out, do others instead, or do them later than it
would.

Each takes the actor's steps, one at a time, and a `Trigger` that it pulls when it really changed
something.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hvo.steps.base import Step, Steps
from hvo.steps.struct_pages import IncrementUnlessZero, TestPage


@dataclass
class Trigger:
    """Whether a mutation changed anything, in any of the runs that were tried."""

    pulled: bool = False


Which: TypeAlias = Callable[[Step[object]], bool]


@dataclass(frozen=True)
class Mutation:
    """A change to an actor: what makes of its steps others, and which steps it is about: an actor
    without any of them stays as it is.
    """

    change: Callable[[Steps[object], Trigger], Steps[object]]
    about: Which


def _through(walk: Steps[object], handle: Callable[[Step[object]], Steps[object]]) -> Steps[object]:
    """The actor, where `handle` does each step in its own way and gives the result that the actor
    is sent.
    """
    sent: Any = None
    while True:
        try:
            wanted = walk.send(sent)
        except StopIteration as stop:
            return stop.value
        sent = yield from handle(wanted)


def leave_out(which: Which) -> Mutation:
    """Do not do `which`, whose result is None."""

    def change(walk: Steps[object], trigger: Trigger) -> Steps[object]:
        def handle(wanted: Step[object]) -> Steps[object]:
            if not which(wanted):
                return (yield wanted)
            trigger.pulled = True
            return None

        return _through(walk, handle)

    return Mutation(change, which)


def instead(
    other: Callable[[Step[object]], Step[object] | None], result: object = None
) -> Mutation:
    """Do what `other` says (None: the step itself); with a `result`, the actor goes on as if the
    step had given that.
    """

    def change(walk: Steps[object], trigger: Trigger) -> Steps[object]:
        def handle(wanted: Step[object]) -> Steps[object]:
            changed = other(wanted)
            if changed is None:
                return (yield wanted)
            trigger.pulled = True
            sent = yield changed
            return sent if result is None else result

        return _through(walk, handle)

    return Mutation(change, lambda step: other(step) is not None)


@dataclass
class _Late:
    """Steps that are held back, and whether what they shall come after was there."""

    kept: list[Step[object]] = field(default_factory=list[Step[object]])
    passed: bool = False

    def emit(self) -> Steps[object]:
        """Do them now."""
        kept, self.kept, self.passed = self.kept, [], False
        yield from kept


def later(held: Which, past: Which, through: Which = lambda step: False) -> Mutation:
    """Do `held` only after the next run of `past` (with `through` among them); where there is none,
    at the actor's end.
    """

    def change(walk: Steps[object], trigger: Trigger) -> Steps[object]:
        late = _Late()

        def handle(wanted: Step[object]) -> Steps[object]:
            if late.passed and not past(wanted) and not through(wanted):
                yield from late.emit()
            if held(wanted):
                late.kept.append(wanted)
                return None
            late.passed |= bool(late.kept) and past(wanted)
            trigger.pulled |= late.passed
            return (yield wanted)

        returned = yield from _through(walk, handle)
        yield from late.emit()
        return returned

    return Mutation(change, held)


def _is_count(step: Step[object]) -> bool:
    return isinstance(step, TestPage) and step.field == "refcount"


def _count_last(walk: Steps[object], trigger: Trigger) -> Steps[object]:
    counts: list[Step[object]] = []

    def handle(wanted: Step[object]) -> Steps[object]:
        if _is_count(wanted):
            counts.append(wanted)
            return True
        if not isinstance(wanted, IncrementUnlessZero) or not counts:
            return (yield wanted)
        trigger.pulled = True
        return (yield counts.pop()) and (yield wanted)

    return _through(walk, handle)


COUNT_LAST = Mutation(_count_last, _is_count)
"""A walker that looks at the count only when all other looks are done, just before it takes the
reference.
"""


def watched(seen: list[Step[object]]) -> Mutation:
    """No change: the steps are noted in `seen`."""

    def change(walk: Steps[object], trigger: Trigger) -> Steps[object]:
        def handle(wanted: Step[object]) -> Steps[object]:
            seen.append(wanted)
            return (yield wanted)

        return _through(walk, handle)

    return Mutation(change, lambda step: True)


def first(step: Step[object], which: Which) -> Mutation:
    """Do `step` at once, and not `which` where it belongs."""

    def change(walk: Steps[object], trigger: Trigger) -> Steps[object]:
        yield step
        return (yield from leave_out(which).change(walk, trigger))

    return Mutation(change, which)
