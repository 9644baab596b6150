"""Whether an execution changes a descriptor without break-before-make: herd's flag
`Warning-BBM-expected`.

As in herdtools7 `herd/libdir/aarch64bbm.cat` (June 2026): every pair of a descriptor that a TLB may
hold and one written later in the coherence order of its place, both held to the predicate of
`hvo.check.model.hardware`, must have between them a descriptor that no TLB may hold, then, in
order, an invalidation in whose scope the page is.
"""

from hvo.litmus.model import Execution
from hvo.litmus.program import Test
from hvo.litmus.relations import members
from hvo.litmus.thread import INITIAL, INVALIDATE, READ, UPDATE, WALK, WRITE
from hvo.litmus.values import FORMAT, Address, Descriptor, Value
from hvo.mmu.break_before_make import is_cacheable, needs_break

FLAG = "Warning-BBM-expected"


def lacks_break(test: Test, execution: Execution) -> bool:
    """Whether some descriptor is exchanged for another that needs break-before-make, without it."""
    candidate = execution.candidate
    events = candidate.combination.events
    for old in members(candidate.combination.mask(INITIAL, READ, WRITE, WALK, UPDATE)):
        for new in members(candidate.coherence_after[old]):
            if _needs(test, execution, events[old].value, events[new].value) and not _is_broken(
                execution, old, new
            ):
                return True
    return False


def _needs(test: Test, execution: Execution, old: Value, new: Value) -> bool:
    if not isinstance(old, Descriptor) or not isinstance(new, Descriptor):
        return False
    if not is_cacheable(FORMAT, old.word) or not is_cacheable(FORMAT, new.word):
        return False
    outputs = test.coding.output(old.word), test.coding.output(new.word)
    return needs_break(
        FORMAT,
        old.word,
        new.word,
        same_output=FORMAT.decode(old.word) == FORMAT.decode(new.word),
        same_contents=_same_contents(execution, *outputs),
        hardware_dirty=any(test.manages(thread, "HD") for thread in range(len(test.threads))),
    )


def _same_contents(execution: Execution, old: str | None, new: str | None) -> bool:
    """Whether the frames of two pages hold one and the same value all through the execution."""
    places = {Address("PA", page) for page in (old, new) if page}
    held = {
        event.value for event in execution.candidate.combination.events if event.place in places
    }
    return len(places) == 2 and len(held) == 1


def _is_broken(execution: Execution, old: int, new: int) -> bool:
    """Whether a descriptor that no TLB may hold, then an invalidation of the page, come between the
    two (BBM).
    """
    candidate, ordered = execution.candidate, execution.ordered
    events = candidate.combination.events
    place = events[new].place
    for between in members(candidate.coherence_after[old]):
        value = events[between].value
        if isinstance(value, Descriptor) and is_cacheable(FORMAT, value.word):
            continue
        for at in members(ordered[between] & candidate.combination.mask(INVALIDATE)):
            if (
                ordered[at] >> new & 1
                and place is not None
                and events[at].page in (None, place.name)
            ):
                return True
    return False
