"""A pool of HugeTLB pages of one size (`struct hstate`, mm/hugetlb.c): what is in it, per node, and
the numbers that sysfs shows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from hvo.layout.geometry import Geometry
from hvo.memory.interface import Pfns


def _none() -> Pfns:
    return np.zeros(0, np.int64)


@dataclass
class Stack:
    """A list of pages, by their pfns: put on top and taken from the top. It is kept as arrays,
    since it may hold millions.
    """

    _parts: list[Pfns] = field(default_factory=list[Pfns])

    def __len__(self) -> int:
        return sum(part.size for part in self._parts)

    def push(self, heads: Pfns) -> None:
        """Put `heads` on top, one after the other."""
        if heads.size:
            self._parts.append(np.asarray(heads, np.int64))

    def take_part(self) -> Pfns:
        """Take some pages, the top first: as many as need no copying."""
        return self._parts.pop()[::-1]

    def take(self, count: int | None = None) -> Pfns:
        """Take up to `count` pages (all: None), the top first."""
        count = len(self) if count is None else count
        taken: list[Pfns] = []
        while count > 0 and self._parts:
            top = self._parts.pop()
            keep = max(top.size - count, 0)
            if keep:
                self._parts.append(top[:keep])
            taken.append(top[keep:][::-1])
            count -= taken[-1].size
        return np.concatenate([*taken, _none()])

    def remove(self, heads: Pfns) -> None:
        """Take out `heads` wherever they are."""
        self._parts = [
            part for part in (part[~np.isin(part, heads)] for part in self._parts) if part.size
        ]

    def pages(self) -> Pfns:
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

    def heads(self) -> Pfns:
        """First pfns of all pages, ascending."""
        return np.sort(
            np.concatenate(
                [stack.pages() for lists in (self.free, self.used) for stack in lists.values()]
                + [_none()]
            )
        )

    def _some(self, node: int | None) -> Iterable[int]:
        return self.nodes if node is None else (node,)


def hugetlb_pools(shape: Geometry, nodes: int) -> dict[int, HugetlbPool]:
    """An empty pool for each HugeTLB size of a machine of `shape` with `nodes` nodes, by size."""
    shift = shape.page_size.bit_length() - 1
    sizes = [huge.size for huge in shape.hugepages]
    return {
        size: HugetlbPool(size, size.bit_length() - 1 - shift, tuple(range(nodes)))
        for size in sizes
    }


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
