"""Following many linked lists at once (struct list_head, `include/linux/list.h`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Words


class ListPlaces(NamedTuple):
    """`list_head` (uint64): address of the list's own head; `place` (int64): position from the
    front; 0 and -1: on no list.
    """

    list_head: Words
    place: NDArray[np.int64]


def list_places(nodes: Words, following: Words, preceding: Words) -> ListPlaces:
    """Where each node stands in its list; `nodes` are their addresses (ascending), the others their
    `next` and `prev` pointers.

    A list's own head is what its last node points on to and its first node back to, though no node.
    Nodes for which no such head is found, because they are unlinked or the list is broken, are on
    no list. Each round doubles the way looked ahead: log2(n) rounds for n nodes.
    """
    count = len(nodes)
    if not count:
        return ListPlaces(np.empty(0, np.uint64), np.empty(0, np.int64))
    ahead = np.minimum(np.searchsorted(nodes, following), count - 1)
    last = nodes[ahead] != following
    ahead = np.where(last, np.arange(count), ahead)
    distance = (~last).astype(np.int64)
    for _ in range(count.bit_length()):
        distance = distance + distance[ahead]
        ahead = ahead[ahead]
    front = _fronts(ahead, distance)
    head = following[ahead]
    linked = last[ahead] & (preceding[front] == head)
    return ListPlaces(
        np.where(linked, head, np.uint64(0)), np.where(linked, distance[front] - distance, -1)
    )


def _fronts(ends: NDArray[np.intp], distance: NDArray[np.int64]) -> NDArray[np.intp]:
    """For each node the one of its list that is farthest from the end."""
    farthest = np.arange(len(ends))
    order = np.argsort(distance, kind="stable")
    farthest[ends[order]] = (
        order  # of several assignments to one element the last, so the farthest, counts
    )
    return farthest[ends]
