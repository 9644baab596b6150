"""The vmemmap in parts of equal size, and what each part is made of: what a picture shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hvo.audit.classify import Classified
from hvo.audit.findings import Finding
from hvo.audit.pages import rows_of, set_rows
from hvo.audit.result import Cells
from hvo.audit.vmemmap import VALID, VmemmapPages

_PARTS = 4096
"""Parts at most; fewer than sections make each a part of a section, more make it several."""
KINDS = ("outside HugeTLB pages", "frames of their own", "shared", "findings", "not mapped")
"""What `Cells.shares` counts."""


def cells(vmemmap: VmemmapPages, found: Sequence[Classified], findings: Sequence[Finding]) -> Cells:
    """Sum up what every vmemmap page is, in at most 4096 parts."""
    kind = np.where(vmemmap.bits & np.uint8(VALID) != 0, 0, 4).astype(np.uint8)
    for pages in found:
        before = rows_of(kind, pages.pages.index, pages.pages.vmemmap_pages)
        set_rows(
            kind,
            pages.pages.index,
            np.where(pages.own, np.uint8(1), np.where(pages.shared, np.uint8(2), before)),
        )
    wrong = [finding.pfn for finding in findings if finding.severity != "info"]
    if wrong:
        pfns = np.array(wrong)
        kind[vmemmap.index_of(pfns[vmemmap.contain(pfns)])] = 3
    per = _per_part(vmemmap)
    counts = [
        np.add.reduce((kind == number).view(np.uint8).reshape(-1, per), axis=1, dtype=np.uint32)
        for number in range(len(KINDS))
    ]
    shares = (np.stack(counts, axis=1) / np.float32(per)).astype(np.float32)
    return Cells(per * vmemmap.structs, vmemmap.pfn(np.arange(0, len(kind), per)), shares)


def _per_part(vmemmap: VmemmapPages) -> int:
    """Vmemmap pages in a part: a part of a section, a section, or several; it divides their
    number.
    """
    per = vmemmap.per_section
    while per % 2 == 0 and per > 8 and len(vmemmap.frame) // per * 2 <= _PARTS:
        per //= 2
    return per
