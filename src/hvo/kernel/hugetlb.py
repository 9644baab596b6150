"""A pool of HugeTLB pages of one size (`struct hstate`, mm/hugetlb.c): what is in it, per node, and
the numbers that sysfs shows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Heads = NDArray[np.int64]


def _none() -> Heads:
    return np.zeros(0, np.int64)


@dataclass
class Stack:
    """A free list: pages are put on top and taken from the top."""

    _parts: list[Heads] = field(default_factory=list[Heads])

    def __len__(self) -> int:
        return sum(part.size for part in self._parts)

    def push(self, heads: Heads) -> None:
        """Put `heads` on top, one after the other."""
        if heads.size:
            self._parts.append(np.asarray(heads, np.int64))

    def take(self, count: int) -> Heads:
        """Take up to `count` pages, the top first."""
        taken: list[Heads] = []
        while count > 0 and self._parts:
            top = self._parts.pop()
            keep = max(top.size - count, 0)
            if keep:
                self._parts.append(top[:keep])
            taken.append(top[keep:][::-1])
            count -= taken[-1].size
        return np.concatenate([*taken, _none()])

    def remove(self, heads: Heads) -> None:
        """Take out `heads` wherever they are."""
        self._parts = [
            part for part in (part[~np.isin(part, heads)] for part in self._parts) if part.size
        ]

    def pages(self) -> Heads:
        """All pages, the top last."""
        return np.concatenate([*self._parts, _none()])


@dataclass
class HugetlbPool:
    """The pool of one size: free lists per node, pages in use (oldest first), and how many of all
    are surplus.

    `reserved` pages are promised to mappings and may not leave the pool; `surplus` counts per node.
    """

    size: int
    order: int
    nodes: tuple[int, ...]
    free: dict[int, Stack] = field(init=False)
    used: dict[int, Stack] = field(init=False)
    surplus: dict[int, int] = field(init=False)
    reserved: int = 0

    def __post_init__(self) -> None:
        self.free = {node: Stack() for node in self.nodes}
        self.used = {node: Stack() for node in self.nodes}
        self.surplus = dict.fromkeys(self.nodes, 0)

    def clear(self) -> None:
        """Let go of every page."""
        self.__post_init__()

    def nr(self, node: int | None = None) -> int:
        """`nr_hugepages`: all pages, or those of one node."""
        return sum(len(self.free[n]) + len(self.used[n]) for n in self._some(node))

    def nr_free(self, node: int | None = None) -> int:
        """`free_hugepages`."""
        return sum(len(self.free[n]) for n in self._some(node))

    def nr_surplus(self, node: int | None = None) -> int:
        """`surplus_hugepages`."""
        return sum(self.surplus[n] for n in self._some(node))

    def persistent(self, node: int | None = None) -> int:
        """Pages that are not surplus: what writing `nr_hugepages` sets."""
        return self.nr(node) - self.nr_surplus(node)

    def heads(self) -> Heads:
        """First pfns of all pages, ascending."""
        return np.sort(
            np.concatenate(
                [stack.pages() for lists in (self.free, self.used) for stack in lists.values()]
                + [_none()]
            )
        )

    def _some(self, node: int | None) -> Iterable[int]:
        return self.nodes if node is None else (node,)


@dataclass(frozen=True)
class Gate:
    """Whether newly allocated HugeTLB pages are optimised: built in, the boot parameter, and the
    run-time switch.

    It is policy for later allocations only: what is optimised stays so.
    """

    built_in: bool = True
    boot: bool = False
    switch: bool | None = None

    @property
    def on(self) -> bool:
        """`hugetlb_optimize_vmemmap`."""
        return self.built_in and (self.boot if self.switch is None else self.switch)
