"""Why a mutant survives the mutation suite: it is equivalent, or the model has a gap.

Each sentence is about mutants of one role in some protocols. A test runs them all: no mutant named
here is killed, and every survivor is named here.
"""

from itertools import product
from typing import Literal, NamedTuple

from hvo.check.mutants.suite import FIXED, PROTOCOLS


class Explanation(NamedTuple):
    """Whether a surviving mutant is equivalent or shows a gap in the model, and why."""

    verdict: Literal["equivalent", "model gap"]
    why: str


_ERAS = tuple(FIXED)
_LIVE = tuple(f"proposal-{letter}" for letter in "ABCDE")

_NO_LOCK = Explanation(
    "equivalent",
    "optimise takes no hugetlb_lock; the mutant changes the free path of a page without users",
)
_NEVER_CLEARED = Explanation(
    "equivalent",
    "the flag is set again after a failed restore, but it was not cleared: it is cleared after"
    " restore",
)
_FLUSHED = Explanation(
    "equivalent",
    "entries are invalidated one by one; the only range is that of a block, which an"
    " invalidation of any of its addresses drops",
)
_WAITS = Explanation(
    "equivalent",
    "an entry stays invalid until the next one is flushed, and a CPU that faults on it waits",
)
_OVER_ITSELF = Explanation("equivalent", "an update that gives up writes the old entry over itself")
_WRITE_LOCKED = Explanation(
    "equivalent", "init_mm.mmap_lock is held for writing, which excludes all others"
)
_ANYWHERE = Explanation(
    "equivalent",
    "no lock is taken while the other CPUs are stopped, so the locks that they hold do not matter",
)

_DECLARED: tuple[tuple[tuple[str, ...], str, str, Explanation], ...] = (
    (
        _ERAS,
        "dump",
        "mmap-lock",
        Explanation(
            "equivalent",
            "a dump only reads, and optimise and restore free no table; what frees tables takes the"
            " hotplug lock",
        ),
    ),
    (
        _ERAS,
        "optimise",
        "mmap-lock",
        Explanation(
            "equivalent",
            "it is taken for reading, and nobody who writes needs to be kept out: the page-table"
            " lock orders the splits",
        ),
    ),
    (
        _ERAS,
        "restore",
        "mmap-lock",
        Explanation(
            "equivalent",
            "it is taken for reading, and restore changes only entries of its own page under a"
            " table that stays",
        ),
    ),
    (_ERAS, "optimise", "hugetlb-lock", _NO_LOCK),
    (
        _ERAS,
        "optimise",
        "errors",
        Explanation(
            "equivalent",
            "optimise moves none; what is left out is in the freeing of a page that has no errors",
        ),
    ),
    (_ERAS, "restore", "mark", _NEVER_CLEARED),
    (("5.14", "5.18"), "restore", "mark-late", _NEVER_CLEARED),
    (
        ("6.2",),
        "restore",
        "readers-wait readers-wait-first",
        Explanation(
            "equivalent",
            "the shared frame shows a walker the count of the head, which is 0 before the page is"
            " given back",
        ),
    ),
    (
        ("6.2",),
        "hotplug",
        "readers-wait readers-wait-first",
        Explanation("equivalent", "it is the restore of a page that was refused: it does nothing"),
    ),
    (
        ("5.14", "7.1"),
        "fix",
        "-reset-tails",
        Explanation(
            "equivalent", "what tails share holds clean tails there, so that copies need no reset"
        ),
    ),
    (
        ("7.1",),
        "fix",
        "-built-at-boot",
        Explanation(
            "equivalent",
            "it saves work at boot; without it these pages are optimised like all others",
        ),
    ),
    (("proposal-A",), "optimise", "flush-one-page", _FLUSHED),
    (("proposal-A",), "restore", "flush-first", _WAITS),
    (("proposal-E",), "optimise", "flush-first", _OVER_ITSELF),
    (("proposal-E",), "restore", "flush-first", _OVER_ITSELF),
    (("proposal-A", "proposal-D"), "optimise", "page-table-lock", _WRITE_LOCKED),
    (("proposal-A", "proposal-D"), "restore", "page-table-lock", _WRITE_LOCKED),
    (
        _LIVE,
        "restore",
        "mmap-lock",
        Explanation(
            "equivalent", "two restores change entries of different pages, under a table that stays"
        ),
    ),
    (_LIVE, "optimise", "hugetlb-lock", _NO_LOCK),
    (
        ("proposal-A", "proposal-B", "proposal-D"),
        "optimise",
        "barrier",
        Explanation(
            "equivalent",
            "the flush between breaking and making waits with a DSB, which orders stores too",
        ),
    ),
    (
        _LIVE,
        "restore",
        "barrier",
        Explanation(
            "equivalent",
            "copies are made before the old entry is broken; the flush after that waits with a DSB,"
            " which orders stores",
        ),
    ),
    (
        ("proposal-B", "proposal-D"),
        "optimise",
        "fill-late",
        Explanation("equivalent", "the other CPUs are held until it is filled"),
    ),
    (
        ("proposal-A",),
        "restore",
        "fault-waits",
        Explanation("equivalent", "the handler is there since the page was optimised"),
    ),
    (("proposal-B",), "optimise", "stop-anywhere", _ANYWHERE),
    (("proposal-B", "proposal-C"), "restore", "stop-anywhere", _ANYWHERE),
    (
        ("proposal-C",),
        "optimise",
        "stop stop-anywhere stop-interrupts",
        Explanation(
            "equivalent",
            "only restore stops CPUs, and what is left out is in the restore of a page that nobody"
            " reads then",
        ),
    ),
    (
        ("proposal-B", "proposal-D"),
        "memory failure",
        "hugetlb-lock errors",
        Explanation(
            "equivalent",
            "the page stays in the pool, so that neither its mark nor its record changes meanwhile",
        ),
    ),
    (
        ("proposal-F",),
        "optimise",
        "flush flush-wait flush-this-cpu flush-one-page",
        Explanation("equivalent", "nobody else runs yet, and no TLB holds any of it"),
    ),
    (
        ("proposal-F",),
        "optimise",
        "page-table-lock mmap-lock hugetlb-lock barrier publish errors fill-late",
        Explanation("equivalent", "nobody else runs yet"),
    ),
)
"""Protocols, role, mutants, and the explanation of all of them."""

EXPLANATIONS: dict[tuple[str, str, str], Explanation] = {
    (FIXED.get(protocol, protocol), role, name): explained
    for protocols, role, names, explained in _DECLARED
    for protocol, name in product(protocols, names.split())
}
"""Explanations by protocol, role and mutant."""
assert {protocol for protocol, _, _ in EXPLANATIONS} <= set(PROTOCOLS)


def explanation(protocol: str, role: str, mutant: str) -> Explanation | None:
    """Why `mutant` of `role` survives in `protocol`; None if that is not explained."""
    return EXPLANATIONS.get((protocol, role, mutant))
