"""HugeTLB pages whose struct pages no table maps any more: found by what is left of them in memory.

The frames of their struct pages are there still, though nothing tells whose they are. Two things
name a head that is hidden. Up to 7.0 the tails hold its address. And every head is on a list of its
pool (a free list, or that of pages in use), so its neighbours hold the address of its `lru`, hidden
themselves or not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvo.audit.frames import FREE, Frames
from hvo.audit.heads import value
from hvo.audit.tables import TableFault
from hvo.audit.vmemmap import VmemmapPages
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.vmcore import Mark, hugetlb_mark, is_mask
from hvo.layout.geometry import GEOMETRIES
from hvo.memory.interface import Words
from hvo.memory.strided import read_strided

_LOOKED_AT = 1 << 21
"""Frames that are searched at most: 8 GiB of memory with 4 KiB pages."""
_AT_A_TIME = 1 << 16


def unmapped_heads(
    vmemmap: VmemmapPages, members: PageMembers, frames: Frames, fault: TableFault
) -> Pfns:
    """First frames of the HugeTLB pages whose struct pages `fault` hides, as far as they can be
    told, ascending.
    """
    found = [np.zeros(0, np.int64)]
    looked_at = 0
    mark = hugetlb_mark(members)
    for pfns in vmemmap.sections.frames(at_a_time=_AT_A_TIME, online=True):
        if mark is None or looked_at >= _LOOKED_AT:
            break
        for offset in _offsets(vmemmap):
            found += list(_heads(vmemmap, members, frames, mark, pfns, offset))
        looked_at += len(pfns)
    pfns = np.unique(np.concatenate(found))
    return pfns[vmemmap.struct_address(pfns) - np.uint64(fault.address) < np.uint64(fault.span)]


def _offsets(vmemmap: VmemmapPages) -> range:
    """Where in a frame of struct pages that of a head can be."""
    known = GEOMETRIES.get((vmemmap.image.arch, vmemmap.image.page_size))
    sizes = [page.size for page in known.hugepages] if known else []
    size = vmemmap.image.page_size
    smallest = min(sizes, default=0) // size * vmemmap.sections.struct_page_size
    return range(0, size, smallest if 0 < smallest < size else size)


def _heads(
    vmemmap: VmemmapPages,
    members: PageMembers,
    frames: Frames,
    mark: Mark,
    pfns: Pfns,
    offset: int,
) -> Iterator[Pfns]:
    """Heads that struct pages of heads, `offset` bytes into frames of `pfns`, tell of."""
    size, memory = vmemmap.sections.struct_page_size, vmemmap.image.memory
    start = pfns.astype(np.uint64) * np.uint64(vmemmap.image.page_size) + np.uint64(offset)
    there = memory.readable(start)
    flags = read_strided(memory, start[there] + np.uint64(members.flags.offset), 1, 8)[:, 0]
    rows = np.flatnonzero(there)[flags & np.uint64(members.image.info.number("PG_head_mask")) != 0]
    words = read_strided(memory, start[rows], size // 4, 8)
    real = value(words, mark.member) & np.uint64(mark.mask) == np.uint64(mark.value)
    rows, words = rows[real], words[real]
    used = frames.states(pfns[rows]) != FREE  # else it is what somebody left behind
    words = words[used]
    order = value(words, mark.order).astype(np.int64)
    link = value(words, members.next_page(members.link))
    head = link - np.uint64(1)
    tail = (link & np.uint64(1) != 0) & ~is_mask(head)
    yield _aligned(vmemmap, head[tail], order[tail])
    lru = np.uint64(members.lru.offset)
    for neighbour in (members.lru, members.lru_prev):
        yield _aligned(vmemmap, value(words, neighbour) - lru, order)


def _aligned(vmemmap: VmemmapPages, addresses: Words, order: NDArray[np.int64]) -> Pfns:
    """The frames whose struct pages are at `addresses`, if a page of `order` can begin there."""
    pfns = vmemmap.pfn_at(addresses)
    real = (pfns >= 0) & (pfns & ((np.int64(1) << np.minimum(order, 40)) - 1) == 0)
    pfns, addresses = pfns[real], addresses[real]
    return pfns[vmemmap.struct_address(pfns) == addresses]


def hidden_frames(vmemmap: VmemmapPages, fault: TableFault) -> tuple[int, int]:
    """The first and the last frame whose struct page `fault` hides, -1 for none."""
    sections = vmemmap.sections
    size = sections.pages * sections.struct_page_size
    first, last = -1, -1
    for start, memmap in zip(sections.start_pfn.tolist(), sections.memmap.tolist(), strict=True):
        begin, end = max(memmap, fault.address), min(memmap + size, fault.address + fault.span)
        if begin < end:
            if first < 0:
                first = start + (begin - memmap) // sections.struct_page_size
            last = start + (end - memmap) // sections.struct_page_size - 1
    return first, last
