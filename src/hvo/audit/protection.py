"""Whether the kernel maps shared tails read-only: told once for a kernel that does not, and for
each HugeTLB page of one that does.

riscv64 and loongarch64 define no PAGE_KERNEL_RO, and include/linux/pgtable.h makes it PAGE_KERNEL
then (`Format.protects`). The mapping decides: a kernel of theirs that comes to protect its tails is
taken for one that does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hvo.audit.classify import Classified
from hvo.audit.findings import Spot
from hvo.mmu.format import Format


def protects_tails(form: Format, found: Sequence[Classified]) -> bool:
    """Whether a shared tail that is writable is wrong in this kernel."""
    if form.protects:
        return True
    shared = sum(int(pages.shared_tails.sum()) for pages in found)
    writable = sum(int(pages.writable_tails.sum()) for pages in found)
    return 2 * writable < shared


def unprotected_spots(found: Sequence[Classified]) -> Iterator[Spot]:
    """One spot for all writable tails, at the first HugeTLB page that has some."""
    for pages in found:
        rows = np.flatnonzero(pages.writable_tails)
        if not len(rows):
            continue
        row = int(rows[0])
        column = int(np.argmax(pages.shared[row] & pages.pages.writable[row]))
        yield Spot(
            "tail-unprotected",
            int(pages.pages.pfn[row]),
            int(pages.pages.index[row]) + column,
            "this architecture's kernels have no PAGE_KERNEL_RO: shared tails are writable",
            "nothing else: to write one is no fault, but changes every tail that shares the frame",
            sum(int(each.writable_tails.sum()) for each in found),
        )
        return
