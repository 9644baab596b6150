"""The HugeTLB pools of a machine that need not exist: in pages, in bytes or as all that is left,
for all nodes or node by node.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from hvo.errors import HvoError
from hvo.layout.deal import deal
from hvo.layout.units import format_size, parse_size

_FORM = (
    "expected SIZE=AMOUNT with an amount of pages (1000), of bytes (600GiB) or all, or"
    " NODE:AMOUNT,NODE:AMOUNT"
)
_PART = re.compile(r"(?:([0-9]+):)?([^:,]+)")


class Amount(NamedTuple):
    """Pages on one node, or (`node` None) dealt over all; `pages` None is all that is left."""

    node: int | None
    pages: int | None


class PoolRequest(NamedTuple):
    """A pool of pages of `size` bytes that somebody wants."""

    size: int
    amounts: tuple[Amount, ...]


class NodePages(NamedTuple):
    """The pages of one size on one node."""

    node: int
    size: int
    pages: int


def parse_pool(text: str) -> PoolRequest:
    """The request that `1GiB=600GiB`, `2MiB=1000`, `2MiB=all` or `1GiB=0:4,1:2` makes; raises
    `HvoError` for anything else.
    """
    name, equals, amounts = text.partition("=")
    parts = [_PART.fullmatch(part.strip()) for part in amounts.split(",")]
    found = [part for part in parts if part]
    if (
        not equals
        or len(found) != len(parts)
        or (len(found) > 1 and any(part[1] is None for part in found))
    ):
        raise HvoError(f"pool {text!r}: {_FORM}")
    size = parse_size(name)
    if not size:
        raise HvoError(f"pool {text!r}: a huge page of no bytes; {_FORM}")
    return PoolRequest(
        size,
        tuple(
            Amount(None if part[1] is None else int(part[1]), _pages(text, size, part[2]))
            for part in found
        ),
    )


def _pages(text: str, size: int, amount: str) -> int | None:
    amount = amount.strip()
    if amount == "all":
        return None
    if amount.isascii() and amount.isdecimal():
        return int(amount)
    pages, rest = divmod(parse_size(amount), size)
    if rest:
        whole = f"{pages} of them are {format_size(pages * size)}"
        raise HvoError(
            f"pool {text!r}: {amount} is no whole number of {format_size(size)} pages; {whole}"
        )
    return pages


def lay_out(requests: Iterable[PoolRequest], memory: Sequence[int]) -> list[NodePages]:
    """Pages of every pool on every node, the largest first; `memory` is the bytes of each node.

    Larger pages get their place first, as at boot, and every pool begins where the one before it
    ended: sizes are powers of two, so all are aligned. Raises `HvoError` for a size asked for
    twice, a node that is not there, and more pages than memory holds.
    """
    left, found = dict(enumerate(memory)), list[NodePages]()
    for request in _largest_first(requests):
        for node, pages in _dealt(request, left).items():
            left[node] -= pages * request.size
            found.append(NodePages(node, request.size, pages))
    return found


def _largest_first(requests: Iterable[PoolRequest]) -> list[PoolRequest]:
    """In the order of their sizes; a pool of all that is left takes it from the smaller ones."""
    ordered = sorted(requests, key=lambda request: -request.size)
    twice = [a.size for a, b in pairwise(ordered) if a.size == b.size]
    if twice:
        raise HvoError(f"two pools of {format_size(twice[0])}: give each size once")
    return ordered


def _dealt(request: PoolRequest, left: dict[int, int]) -> dict[int, int]:
    """Pages of one pool on each node, out of the bytes that are `left`."""
    room = {node: size // request.size for node, size in left.items()}
    taken = dict.fromkeys(left, 0)
    for node, pages in request.amounts:
        if node is not None and node not in room:
            raise HvoError(
                f"pool of {format_size(request.size)} on node {node}: the machine has {len(left)}"
                " node(s), counted from 0"
            )
        free = {place: room[place] - taken[place] for place in (room if node is None else (node,))}
        if pages is not None and pages > sum(free.values()):
            raise HvoError(_too_many(request.size, node, pages, sum(free.values())))
        for place, count in deal(free, sum(free.values()) if pages is None else pages).items():
            taken[place] += count
    return taken


def _too_many(size: int, node: int | None, pages: int, room: int) -> str:
    where = "memory holds" if node is None else f"memory of node {node} holds"
    return (
        f"pool of {pages} pages of {format_size(size)} ({format_size(pages * size)}): {where} at"
        f" most {room} of them beside larger pages"
    )
