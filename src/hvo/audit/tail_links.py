"""The links of tails read at their virtual addresses: of HugeTLB pages whose struct pages fill no
whole vmemmap page, and of kernels whose struct pages straddle two.

Neither can be optimised, so no frame holds the struct pages of two places (`hvo.audit.links`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hvo.audit.findings import Finding
from hvo.audit.page_findings import tail_link_finding
from hvo.audit.pages import HugePages
from hvo.audit.vmemmap import VmemmapPages
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.vmcore import compound_head

_AT_A_TIME = 1 << 16


def plain_link_findings(
    pages: HugePages, vmemmap: VmemmapPages, members: PageMembers
) -> Iterator[Finding]:
    """Tails that do not lead to their head: one finding a HugeTLB page, the first one named."""
    tails = np.arange(1, 1 << pages.order, dtype=np.int64)
    step = max(1, _AT_A_TIME >> pages.order)
    for first in range(0, len(pages.pfn), step):
        yield from _wrong(pages.pfn[first : first + step], tails, vmemmap, members)


def _wrong(
    heads: Pfns, tails: Pfns, vmemmap: VmemmapPages, members: PageMembers
) -> Iterator[Finding]:
    size = np.uint64(vmemmap.sections.struct_page_size)
    head = vmemmap.struct_address(heads)
    struct_page = head[:, None] + tails.view(np.uint64) * size
    where = vmemmap.image.translate(struct_page + np.uint64(members.link.offset))
    there = where.valid & vmemmap.image.memory.readable(where.addresses)
    link = np.zeros(struct_page.shape, np.uint64)
    link[there] = vmemmap.image.memory.read_words(where.addresses[there])
    leads = np.where(link & np.uint64(1) != 0, compound_head(struct_page, link), np.uint64(0))
    wrong = there & (leads != head[:, None])
    for row in np.flatnonzero(wrong.any(axis=1)).tolist():
        at = int(np.argmax(wrong[row]))
        yield tail_link_finding(
            pfn=int(heads[row]),
            tail=int(heads[row] + tails[at]),
            address=int(struct_page[row, at]),
            link=int(link[row, at]),
            head=int(head[row]),
            count=int(np.count_nonzero(wrong[row])),
        )
