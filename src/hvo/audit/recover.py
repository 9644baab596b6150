"""HugeTLB pages whose struct pages no table maps any more: found by what is left of them in memory.

The tails of a HugeTLB page hold its head's address (up to 7.0). So a frame whose second struct page
leads to an address under a broken table, where the first could be, is the first vmemmap page of a
HugeTLB page there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hvo.audit.tables import TableFault
from hvo.audit.vmemmap import VmemmapPages
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.vmcore import is_mask
from hvo.memory.interface import Words
from hvo.memory.strided import read_strided

_LOOKED_AT = 1 << 21
"""Frames that are searched at most: 8 GiB of memory with 4 KiB pages."""
_AT_A_TIME = 1 << 16


def unmapped_heads(vmemmap: VmemmapPages, members: PageMembers, fault: TableFault) -> Pfns:
    """First frames of the HugeTLB pages whose struct pages `fault` hides, as far as they can be
    told, ascending.
    """
    found = [np.zeros(0, np.uint64)]
    looked_at = 0
    for pfns in vmemmap.sections.frames(at_a_time=_AT_A_TIME, online=True):
        found.append(_heads(vmemmap, members, fault, pfns))
        looked_at += len(pfns)
        if looked_at >= _LOOKED_AT:
            break
    pfns = vmemmap.pfn_at(np.unique(np.concatenate(found)))
    return pfns[pfns >= 0]


def _heads(vmemmap: VmemmapPages, members: PageMembers, fault: TableFault, pfns: Pfns) -> Words:
    """Addresses of heads that frames of `pfns` tell of."""
    size, start = (
        vmemmap.sections.struct_page_size,
        pfns.astype(np.uint64) * np.uint64(vmemmap.image.page_size),
    )
    start = start[vmemmap.image.memory.readable(start)]
    links = read_strided(
        vmemmap.image.memory, start + np.uint64(members.link.offset + size), 2, size
    )
    flags = read_strided(vmemmap.image.memory, start + np.uint64(members.flags.offset), 1, size)[
        :, 0
    ]
    head = links[:, 0] - np.uint64(1)
    known = (
        _is_head(members, flags)
        & (links[:, 0] & np.uint64(1) != 0)
        & (links[:, 0] == links[:, 1])
        & ~is_mask(head)
    )
    there = (head - np.uint64(fault.address) < np.uint64(fault.span)) & (
        head % np.uint64(vmemmap.image.page_size) == 0
    )
    return head[known & there]


def _is_head(members: PageMembers, flags: Words) -> NDArray[np.bool_]:
    return flags & np.uint64(members.image.info.number("PG_head_mask")) != 0


def table_pfn(vmemmap: VmemmapPages, fault: TableFault) -> int:
    """The first frame whose struct page `fault` hides."""
    sections = vmemmap.sections
    size = sections.pages * sections.struct_page_size
    for start, memmap in zip(sections.start_pfn.tolist(), sections.memmap.tolist(), strict=True):
        if memmap < fault.address + fault.span and fault.address < memmap + size:
            return start + max(0, fault.address - memmap) // sections.struct_page_size
    return -1
