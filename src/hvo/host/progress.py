"""How far a conversion came that was interrupted and has put its pools in order.

The next one goes on from there. It is a hint about the free lists, and holds only while the pools
have their sizes and the counters say that no page was optimised or restored since.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from hvo.errors import HvoError
from hvo.host.free_list import FreeList, Run
from hvo.host.journal import OWN, Journal, boot_id
from hvo.host.kernel import read_kernel
from hvo.host.outcome import read_counters
from hvo.host.pools import Pool, read_pool
from hvo.host.tree import Tree


@dataclass(frozen=True)
class Found:
    """What an earlier conversion knew of the free list of a node."""

    in_use: int
    """Pages that others used then."""
    runs: tuple[Run, ...]

    def now(self, pool: Pool) -> tuple[Run, ...]:
        """The same, now that others use more pages or fewer."""
        known = FreeList(self.runs)
        known.others_took(max(0, pool.in_use - self.in_use))
        known.others_freed(max(0, self.in_use - pool.in_use))
        return known.runs


def keep(tree: Tree, journal: Journal, memmap: int | None) -> None:
    """Note what `journal` says of the free lists; `memmap` is what the memory map takes now, and
    without it nothing is noted.
    """
    if memmap is None:
        return
    nodes = [[each.node, each.pages, each.in_use, each.runs] for each in journal.promises]
    text = json.dumps({"boot_id": boot_id(tree), "memmap": memmap, "nodes": nodes})
    with suppress(HvoError):  # it is a hint
        tree.replace(path(journal.size), f"{text}\n", durable=False)


def kept(tree: Tree, size: int) -> dict[int | None, Found]:
    """What is known of the free list of each node; nothing if that does not hold any more."""
    if not tree.exists(path(size)):
        return {}
    memmap = read_counters(tree, read_kernel(tree)).memmap
    try:
        note = cast("dict[str, Any]", json.loads(tree.read(path(size))))
        if (note["boot_id"], note["memmap"]) != (boot_id(tree), memmap):
            return {}
        return {
            node: Found(in_use, tuple(Run(bool(rebuilt), int(count)) for rebuilt, count in runs))
            for node, pages, in_use, runs in note["nodes"]
            if in_use is not None and read_pool(tree, size, node).persistent == pages
        }
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return {}  # it is a hint: a damaged one is none


def found_in(journal: Journal) -> dict[int | None, Found]:
    """What the journal of a conversion that was killed knows of the free list of each node."""
    return {
        each.node: Found(each.in_use, tuple(Run(*run) for run in each.runs))
        for each in journal.promises
        if each.in_use is not None
    }


def path(size: int) -> str:
    """The file of the note."""
    return f"{OWN}/progress-{size >> 10}kB.json"
