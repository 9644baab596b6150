"""The page tables that map the vmemmap: are they a tree, are they in RAM, and how many of them
stand where a leaf could.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Pfns, Sections
from hvo.layout.geometry import GEOMETRIES
from hvo.memory.interface import Words
from hvo.mmu.walk import walk


class TableFault(NamedTuple):
    """One entry that leads to a table where none can be: `rule` as in `hvo.audit.rules`, first
    virtual `address` that it maps and their `span` in bytes, `level` of the entry, its value, and
    `what` is wrong."""

    rule: str
    address: int
    span: int
    level: int
    entry: int
    what: str


@dataclass(frozen=True)
class Tables:
    """`last_level`: frames of the last-level tables that map the vmemmap, distinct (int64); `all`:
    those of all levels, distinct; `faults`: entries that lead to no table of their own."""

    last_level: Pfns
    all: Pfns
    faults: tuple[TableFault, ...]
    counts_as_cost: bool

    @property
    def cost_frames(self) -> int:
        """Last-level tables where the architecture maps the vmemmap with leaves, so that only
        splitting makes one.
        """
        return len(self.last_level) if self.counts_as_cost else 0

    def broken(self, addresses: Words) -> NDArray[np.bool_]:
        """Which virtual `addresses` are mapped through one of `faults`."""
        out = np.zeros(addresses.shape, np.bool_)
        for fault in self.faults:
            out |= addresses - np.uint64(fault.address) < np.uint64(fault.span)
        return out


@dataclass(frozen=True)
class _Chain:
    """For each start of a last-level table's range (`starts`): the entry of each level above 0 and
    the table that it leads to (0: none); rows are levels 1 to top."""

    starts: Words
    entry: Words
    table: Words
    is_table: NDArray[np.bool_]


def read_tables(image: KernelImage, sections: Sections) -> Tables:
    """Look at every table on the way to the vmemmap of `sections`."""
    chain = _chain(image, sections)
    suspects = _beyond(image, sections, chain) | _loops(image, chain)
    shared = _shared(image, chain, suspects)
    faults = [*_faults(image, chain, suspects, sections), *_shared_faults(image, chain, shared)]
    sound = chain.is_table & ~suspects & ~shared
    size = np.uint64(image.page_size)
    last, every = (
        np.unique(tables // size).astype(np.int64)
        for tables in (chain.table[0][sound[0]], chain.table[sound])
    )
    known = GEOMETRIES.get((image.arch, image.page_size))
    return Tables(last, every, tuple(faults), known is not None and known.vmemmap_leaf is not None)


def _chain(image: KernelImage, sections: Sections) -> _Chain:
    form = image.format
    size, span = sections.pages * sections.struct_page_size, form.span(1)
    inside = np.arange(0, size, min(span, size), dtype=np.uint64)
    starts = np.unique((sections.memmap[:, None] + inside).reshape(-1) & np.uint64(form.aligned(1)))
    entry = np.zeros((form.top, len(starts)), np.uint64)
    is_table = np.zeros(entry.shape, np.bool_)
    for level in range(1, form.levels):
        found = walk(image.memory, form, image.root, starts, stop_level=level)
        entry[level - 1] = found.entry
        is_table[level - 1] = (
            (found.level == level) & form.is_table(found.entry, level) & (found.fault == 0)
        )
    table = np.where(is_table, np.asarray(form.decode(entry)), np.uint64(0))
    return _Chain(starts, entry, table, is_table)


def _beyond(image: KernelImage, sections: Sections, chain: _Chain) -> NDArray[np.bool_]:
    frames = (chain.table // np.uint64(image.page_size)).astype(np.int64)
    return chain.is_table & ~sections.contain(frames)


def _loops(image: KernelImage, chain: _Chain) -> NDArray[np.bool_]:
    """Which entries lead to the root or to a table above."""
    loops = chain.is_table & (chain.table == np.uint64(image.root))
    for level in range(len(chain.table)):
        loops[level] |= chain.is_table[level] & (
            chain.table[level] == chain.table[level + 1 :]
        ).any(axis=0)
    return loops


def _shared(image: KernelImage, chain: _Chain, suspects: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which entries lead to a table that another one, earlier in level or address, leads to; its
    own addresses come first.
    """
    out = np.zeros(suspects.shape, np.bool_)
    seen = np.zeros(0, np.uint64)
    for level in reversed(range(len(chain.table))):
        own = np.asarray(image.format.prefix(chain.starts, level + 1))
        rows = np.flatnonzero(chain.is_table[level] & ~suspects[level] & ~out[level:].any(axis=0))
        tables, first, which = np.unique(
            chain.table[level][rows], return_index=True, return_inverse=True
        )
        out[level, rows] = (own[rows] != own[rows[first]][which]) | np.isin(tables, seen)[which]
        seen = np.union1d(seen, tables)
    return out


def _faults(
    image: KernelImage, chain: _Chain, suspects: NDArray[np.bool_], sections: Sections
) -> list[TableFault]:
    out: list[TableFault] = []
    beyond = _beyond(image, sections, chain)
    above = np.zeros(len(chain.starts), np.bool_)
    for level in reversed(range(len(chain.table))):
        rows = np.flatnonzero(suspects[level] & ~above)
        _, first = np.unique(image.format.prefix(chain.starts[rows], level + 1), return_index=True)
        out += [
            _fault(image, chain, level, int(row), beyond=bool(beyond[level, row]))
            for row in rows[first]
        ]
        above |= suspects[level]
    return out


def _fault(image: KernelImage, chain: _Chain, level: int, row: int, *, beyond: bool) -> TableFault:
    table = int(chain.table[level, row])
    rule = "table-beyond-ram" if beyond else "table-loop"
    what = (
        f"leads to a table at {table:#x}, where no RAM is"
        if beyond
        else f"leads back to the table at {table:#x} above it"
    )
    return _table_fault(image, chain, level, row, rule, what)


def _table_fault(
    image: KernelImage, chain: _Chain, level: int, row: int, rule: str, what: str
) -> TableFault:
    span = image.format.span(level + 1)
    address = int(chain.starts[row]) // span * span
    return TableFault(rule, address, span, level + 1, int(chain.entry[level, row]), what)


def _shared_faults(
    image: KernelImage, chain: _Chain, shared: NDArray[np.bool_]
) -> list[TableFault]:
    out: list[TableFault] = []
    for level in range(len(chain.table)):
        rows = np.flatnonzero(shared[level])
        _, first = np.unique(image.format.prefix(chain.starts[rows], level + 1), return_index=True)
        for row in rows[first].tolist():
            what = (
                f"leads to the table at {int(chain.table[level, row]):#x}, which another entry"
                " leads to"
            )
            out.append(_table_fault(image, chain, level, row, "table-loop", what))
    return out
