"""What device DAX saves by itself: the vmemmap of its memory maps each tail page of a compound page
onto one frame (`vmemmap_populate_compound_pages()`, mm/sparse-vmemmap.c, since 5.17).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hvo.audit.vmemmap import PAGE, VALID, VmemmapPages


class Dax(NamedTuple):
    """`vmemmap_pages` of memory in no online section that are mapped page by page, the different
    `frames` that they map, and the bytes `saved`.
    """

    vmemmap_pages: int
    frames: int
    saved: int


def dax(vmemmap: VmemmapPages) -> Dax:
    """Count them: ZONE_DEVICE has struct pages but is never online, and what else is offline shares
    no frame.
    """
    offline = np.repeat(~vmemmap.sections.online, vmemmap.per_section)
    paged = np.uint8(VALID | PAGE)
    mapped = vmemmap.frame[offline][vmemmap.bits[offline] & paged == paged]
    frames = len(np.unique(mapped))
    if frames == len(mapped):
        return Dax(0, 0, 0)
    return Dax(len(mapped), frames, (len(mapped) - frames) * vmemmap.image.page_size)
