"""Known defects of released kernels, as memory shows them: by release they are known only where
somebody measured one (`defects.json`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.audit.classify import Classified
from hvo.audit.outside import LostPage
from hvo.audit.pages import row_count
from hvo.layout.releases import Defect, defect_named


class FoundDefect(NamedTuple):
    """A `defect` that this memory shows, in how many HugeTLB `pages` and vmemmap `frames`."""

    defect: Defect
    pages: int
    frames: int


def found_defects(
    found: Sequence[Classified], lost: Sequence[LostPage], page_size: int
) -> Iterator[FoundDefect]:
    """H19 by the pages that are lost, H15 by which tails are writable."""
    if lost:
        yield FoundDefect(defect_named("H19"), len(lost), sum(page.frames for page in lost))
    rows = [half_protected(pages, page_size) for pages in found]
    pages = sum(int(np.count_nonzero(which)) for which in rows)
    if pages:
        tails = sum(
            int(each.writable_tails[which].sum()) for each, which in zip(found, rows, strict=True)
        )
        yield FoundDefect(defect_named("H15"), pages, tails)


def half_protected(found: Classified, page_size: int) -> NDArray[np.bool_]:
    """Which HugeTLB pages have H15: a number of base pages was taken for one of bytes, so that only
    the first tails are write-protected.

    `vmemmap_wrprotect_hvo()` got `pages_per_huge_page()` as the size of the range: of the 4096
    vmemmap pages of 1 GiB it reaches 64.
    """
    reached = (1 << found.pages.order) // page_size
    if found.pages.vmemmap_pages <= reached or reached <= found.expected.kept:
        return np.zeros(len(found.pages.pfn), np.bool_)
    writable = found.shared & found.pages.writable
    beyond, within = writable[:, reached:], writable[:, :reached]
    return (row_count(beyond) == beyond.shape[1]) & (row_count(within) == 0)
