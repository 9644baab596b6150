"""Why mutants that nobody notices are believed to be redundant, or to show a hole in the model.

Each sentence is about mutants of one kind of actor in some protocols. A test tries every one of
them: none may be noticed, and none that is not noticed may be missing here.
"""

from itertools import product
from typing import Literal, NamedTuple

from hvo.check.scenarios.exercises import FIXED, PROTOCOLS


class Belief(NamedTuple):
    """What is believed about a mutant that is not noticed, and why."""

    verdict: Literal["redundant", "hole"]
    why: str


_ERAS = tuple(FIXED)
_LIVE = tuple(f"proposal-{letter}" for letter in "ABCDE")

_NO_LOCK = Belief(
    "redundant",
    "optimise takes none; what is left out is in the freeing of a page that nobody else looks at",
)
_NEVER_CLEARED = Belief(
    "redundant",
    "it is set again where restore failed, and was never cleared: it stays until the vmemmap is"
    " back",
)
_FLUSHED = Belief(
    "redundant",
    "entries are flushed one by one; the only range is a block's, which an invalidation of any"
    " address in it drops",
)
_WAITS = Belief(
    "redundant",
    "an entry stays broken until the next one was flushed, and whoever meets it waits so long",
)
_OVER_ITSELF = Belief(
    "redundant", "only the old entry of an exchange that was given up is written, over itself"
)
_WRITE_LOCKED = Belief(
    "redundant", "init_mm's lock is taken for writing around it, which keeps all others out"
)
_ANYWHERE = Belief(
    "redundant",
    "nothing is asked for while the others are held, so that it does not matter what they hold: as"
    " in D",
)

_DECLARED: tuple[tuple[tuple[str, ...], str, str, Belief], ...] = (
    (
        _ERAS,
        "dump",
        "mmap-lock",
        Belief(
            "redundant",
            "a dump only reads, and optimise and restore free no table; what frees tables takes the"
            " hotplug lock",
        ),
    ),
    (
        _ERAS,
        "optimise",
        "mmap-lock",
        Belief(
            "redundant",
            "it is taken for reading, and nobody who writes needs to be kept out: the page-table"
            " lock orders the splits",
        ),
    ),
    (
        _ERAS,
        "restore",
        "mmap-lock",
        Belief(
            "redundant",
            "it is taken for reading, and restore changes only entries of its own page under a"
            " table that stays",
        ),
    ),
    (_ERAS, "optimise", "hugetlb-lock", _NO_LOCK),
    (
        _ERAS,
        "optimise",
        "errors",
        Belief(
            "redundant",
            "optimise moves none; what is left out is in the freeing of a page that has no errors",
        ),
    ),
    (_ERAS, "restore", "mark", _NEVER_CLEARED),
    (("5.14", "5.18"), "restore", "mark-late", _NEVER_CLEARED),
    (
        ("5.14",),
        "optimise",
        "copy-late",
        Belief(
            "redundant",
            "optimise copies nothing; what is late is in the restore of a page that nobody reads"
            " then",
        ),
    ),
    (
        ("6.2",),
        "restore",
        "readers-wait readers-wait-first",
        Belief(
            "redundant",
            "the shared frame shows a walker the count of the head, which is 0 before the page is"
            " given back",
        ),
    ),
    (
        ("6.2",),
        "hotplug",
        "readers-wait readers-wait-first",
        Belief("redundant", "it is the restore of a page that was refused: it does nothing"),
    ),
    (
        ("5.14", "7.1"),
        "fix",
        "-reset-tails",
        Belief(
            "redundant", "what tails share holds clean tails there, so that copies need no reset"
        ),
    ),
    (
        ("7.1",),
        "fix",
        "-built-at-boot",
        Belief(
            "redundant",
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
        Belief(
            "redundant", "two restores change entries of different pages, under a table that stays"
        ),
    ),
    (_LIVE, "optimise", "hugetlb-lock", _NO_LOCK),
    (
        ("proposal-A", "proposal-B", "proposal-D"),
        "optimise",
        "barrier",
        Belief(
            "redundant",
            "the flush between breaking and making waits with a DSB, which orders stores too",
        ),
    ),
    (
        _LIVE,
        "restore",
        "barrier",
        Belief(
            "redundant",
            "copies are made before the old entry is broken; the flush after that waits with a DSB,"
            " which orders stores",
        ),
    ),
    (
        ("proposal-B", "proposal-D"),
        "optimise",
        "fill-late",
        Belief("redundant", "the other CPUs are held until it is filled"),
    ),
    (
        ("proposal-A",),
        "restore",
        "fault-waits",
        Belief("redundant", "the handler is there since the page was optimised"),
    ),
    (("proposal-B",), "optimise", "stop-anywhere", _ANYWHERE),
    (("proposal-B", "proposal-C"), "restore", "stop-anywhere", _ANYWHERE),
    (
        ("proposal-C",),
        "optimise",
        "stop stop-anywhere stop-interrupts",
        Belief(
            "redundant",
            "only restore stops CPUs, and what is left out is in the restore of a page that nobody"
            " reads then",
        ),
    ),
    (
        ("proposal-B", "proposal-D"),
        "memory failure",
        "hugetlb-lock errors",
        Belief(
            "redundant",
            "the page stays in the pool, so that neither its mark nor its record changes meanwhile",
        ),
    ),
    (
        ("proposal-F",),
        "optimise",
        "flush flush-wait flush-this-cpu flush-one-page",
        Belief("redundant", "nobody else runs yet, and no TLB holds any of it"),
    ),
    (
        ("proposal-F",),
        "optimise",
        "page-table-lock mmap-lock hugetlb-lock barrier publish errors fill-late",
        Belief("redundant", "nobody else runs yet"),
    ),
)
"""Protocols, role, mutants, and what is believed of them."""

BELIEFS: dict[tuple[str, str, str], Belief] = {
    (FIXED.get(protocol, protocol), role, name): believed
    for protocols, role, names, believed in _DECLARED
    for protocol, name in product(protocols, names.split())
}
"""What is declared, by protocol, role and mutant."""
assert {protocol for protocol, _, _ in BELIEFS} <= set(PROTOCOLS)


def belief(protocol: str, role: str, mutant: str) -> Belief | None:
    """What is believed about `mutant` of the actors of `role` in `protocol`, should nobody notice;
    None when nothing is declared.
    """
    return BELIEFS.get((protocol, role, mutant))
