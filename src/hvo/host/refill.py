"""Filling a pool, and bringing pools back to what was promised.

The kernel hides no failure here: a page that cannot be given back is surplus afterwards, one that
cannot be allocated is missing.
"""

from hvo.host.journal import JOURNAL, Journal, Promise
from hvo.host.kernel import GATE
from hvo.host.pools import Pool, read_pool
from hvo.host.tree import Tree
from hvo.layout.units import format_size

_COMPACT = "/proc/sys/vm/compact_memory"
_ATTEMPTS = 3


class Stopped(Exception):
    """A conversion cannot go on; the message is one line that says why."""


def fill(tree: Tree, size: int, node: int | None, pages: int) -> Pool:
    """Set a pool to `pages`, compacting memory when some are missing; the pool as it came out."""
    pool = read_pool(tree, size, node)
    for attempt in range(_ATTEMPTS):
        if attempt and tree.exists(_COMPACT):
            tree.write(_COMPACT, "1")
        tree.write(pool.path, str(pages))
        pool = read_pool(tree, size, node)
        if pool.persistent >= pages:
            break
    return pool


def restore(tree: Tree, journal: Journal) -> str | None:
    """Bring every pool of the journal back to its size, then the switch, and remove the journal;
    else why that is not done, in one line.

    A pool that is outside what the interrupted command can have left was set by somebody else, and
    is left alone.
    """
    short: list[str] = []
    foreign: list[str] = []
    for promise in journal.promises:
        pool = read_pool(tree, journal.size, promise.node)
        if not promise.pages - promise.out <= pool.persistent <= promise.pages + promise.extra:
            foreign.append(
                f"{tree.path(pool.path)}: somebody else set it from {promise.pages} to"
                f" {pool.persistent}; left as it is"
            )
        elif pool.persistent < promise.pages:
            short += _fill_up(tree, journal.size, promise)
        elif pool.persistent > promise.pages:
            tree.write(pool.path, str(promise.pages))
    if journal.gate is not None and tree.number(GATE) != journal.gate:
        tree.write(GATE, str(journal.gate))
    if not short:
        tree.remove(JOURNAL)
    return "; ".join(short + foreign) or None


def _fill_up(tree: Tree, size: int, promise: Promise) -> list[str]:
    pool = fill(tree, size, promise.node, promise.pages)
    missing = promise.pages - pool.persistent
    return (
        [
            f"{missing} of {promise.pages} pages of {format_size(size)} are missing: hvo convert"
            " --undo tries again"
        ]
        if missing > 0
        else []
    )
