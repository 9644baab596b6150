"""Memory blocks that host their own vmemmap (`memmap_on_memory`, mm/memory_hotplug.c): their first
frames hold their struct pages.

Such frames have PG_vmemmap_self_hosted, which is PG_owner_priv_1. That is not exported; it stands
three flags before PG_private, or four where PG_owner_2 came between (6.11).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.audit.classify import PLAIN, Classified
from hvo.audit.findings import Spot
from hvo.audit.vmemmap import VALID, VmemmapPages
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns

_AT_MOST = 1 << 20  # frames that are looked at to find how large a block is


class Block(NamedTuple):
    """Frames `start` to `end`, whose struct pages are in the first of them."""

    start: int
    end: int


def self_hosted_blocks(vmemmap: VmemmapPages, members: PageMembers) -> list[Block]:
    """Every block whose first vmemmap page lies in its own first frame, which is marked as such."""
    sections = vmemmap.sections
    first = np.arange(len(sections.numbers)) * vmemmap.per_section
    itself = vmemmap.has(first, VALID) & (vmemmap.frame[first] == sections.start_pfn)
    return [
        Block(start, start + hosts * vmemmap.structs)
        for start in sections.start_pfn[itself].tolist()
        if (hosts := _hosts(members, start))
    ]


def _hosts(members: PageMembers, start: int) -> int:
    """How many frames from `start` on are marked."""
    private = members.image.info.number("PG_private")
    marks = np.uint64((1 << (private - 3)) | (1 << (private - 4)))
    pfns = np.arange(start, start + min(_AT_MOST, members.sections.pages), dtype=np.int64)
    pfns = pfns[members.readable(pfns)]
    marked = members.read(pfns, members.flags) & marks != 0
    return len(marked) if marked.all() else int(np.argmin(marked))


def in_blocks(pfns: Pfns, blocks: list[Block]) -> NDArray[np.bool_]:
    """Which of `pfns` lie in `blocks`, which are ascending and disjoint."""
    if not blocks:
        return np.zeros(len(pfns), np.bool_)
    starts, ends = np.array(blocks, np.int64).T
    at = np.maximum(np.searchsorted(starts, pfns, side="right") - 1, 0)
    return (pfns >= starts[at]) & (pfns < ends[at])


def self_hosted_spots(found: Classified, blocks: list[Block]) -> Iterator[Spot]:
    """HugeTLB pages in `blocks` that are optimised, all or in part."""
    pages = found.pages
    inside = in_blocks(pages.pfn, blocks)
    for row in np.flatnonzero(inside & (found.state != PLAIN)).tolist():
        index = int(pages.index[row]) + int(np.argmax(found.shared[row]))
        what = "the page is optimised in a memory block that hosts its own vmemmap"
        yield Spot("self-hosted", int(pages.pfn[row]), index, what, "the block's own frames")
