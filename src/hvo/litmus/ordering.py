"""Whether a test's outcomes are told: where barriers, dependencies or there being one access put
everything of a thread in order.

Elsewhere they depend on what the architecture leaves open between accesses that nothing orders, and
nothing is said about them.
"""

from collections.abc import Iterator
from itertools import pairwise

from hvo.litmus.local import Local
from hvo.litmus.program import Test
from hvo.litmus.relations import members
from hvo.litmus.thread import FAULT, INVALIDATE, READ, WRITE

_FAULTS_ARE_FATAL = {"vmsa", "kvm", "fatal", "precise"}


def reason_not_told(test: Test, locals: Iterator[Local]) -> str | None:
    """Why the outcomes of the test are not told, None when they are."""
    other = sorted(test.variants - _FAULTS_ARE_FATAL)
    if other:
        return f"the variant {other[0]} is not modelled"
    return next((reason for local in locals if (reason := _unordered(local))), None)


def _unordered(local: Local) -> str | None:
    """The first two accesses in program order that no barrier or dependency orders."""
    events = local.run.events
    groups: dict[int, list[int]] = {}
    for at in members(local.kinds(READ, WRITE, FAULT, INVALIDATE)):
        groups.setdefault(events[at].order, []).append(at)
    accesses = list(groups.values())
    for first, then in pairwise(accesses):
        if not any(local.barriers[a] >> b & 1 for a in first for b in then):
            return (
                f"nothing orders '{events[first[0]].text}' before '{events[then[0]].text}' in"
                f" P{events[first[0]].thread}"
            )
    return None
