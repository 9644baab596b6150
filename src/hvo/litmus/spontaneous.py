"""The access flags that hardware sets by itself: at any time, with no access, in any valid
descriptor it finds clear.

One such update is allowed for every write that may leave a descriptor so: more would find nothing
to do (herdtools7, `fire_spurious_af` of `herd/AArch64Sem.ml`). An update is like a thread of its
own: it reads the descriptor and writes it with the flag set, at once, or it does not happen.
"""

from collections.abc import Iterable, Mapping

from hvo.litmus.local import Local
from hvo.litmus.program import Test
from hvo.litmus.thread import UPDATE, WALK, WRITE, Event, Run, Values
from hvo.litmus.values import Address, Descriptor, Value, flags_of, with_hardware_update


def happens(test: Test) -> bool:
    """Whether the hardware of any thread sets access flags."""
    return any(test.manages(thread, "HA") for thread in range(len(test.threads)))


def updated(value: Value) -> Descriptor | None:
    """The descriptor with its access flag set, None when the hardware leaves it alone."""
    if not isinstance(value, Descriptor):
        return None
    bits = flags_of(value.word)
    return (
        Descriptor(with_hardware_update(value.word, dirty=False))
        if bits["valid"] and not bits["af"]
        else None
    )


def updates(
    test: Test, runs: Iterable[Run], values: Values, first: Mapping[Address, Value]
) -> list[list[Local]]:
    """For each update that may happen its runs: that it does not, or that it does to a value of its
    place.
    """
    if not happens(test):
        return []
    events = [
        event
        for run in runs
        for event in run.events
        if event.kind == WRITE and updated(event.value)
    ]
    written = {(event.place, event.thread, event.order) for event in events}
    places = [place for place, value in first.items() if updated(value)] + [
        place for place, _, _ in sorted(written, key=str) if place
    ]
    return [_one(len(test.threads) + number, place, values) for number, place in enumerate(places)]


def _one(thread: int, place: Address, values: Values) -> list[Local]:
    runs = [Run((), {}, ())]
    for value in sorted(values[place], key=str):
        new = updated(value)
        if new is not None:
            walk = Event(thread, 0, WALK, place=place, value=value, page=place.name)
            runs.append(
                Run(
                    (
                        walk,
                        Event(
                            thread, 0, UPDATE, place=place, value=new, page=place.name, partner=0
                        ),
                    ),
                    {},
                    (),
                )
            )
    return [Local(run) for run in runs]
