"""The page-table format of a real kernel with the attributes that it uses for its vmemmap, read off
the tables themselves.

Configuration and CPU decide some attributes: arm64 sets nG where it unmaps the kernel from user
space, x86 leaves Global out for the same reason, arm64 kernels since 6.13 set the access flag in
table entries, x86 kernels up to 6.5 leave read-only entries dirty.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.mmu.format import Format
from hvo.mmu.shape import WORD
from hvo.mmu.walk import Walk, walk

_X86_DIRTY_READ_ONLY_UNTIL = "HUGETLB_PAGE_DTOR"
"""Exported by kernels up to 6.5; from 6.6 on (shadow stacks) a read-only entry may not be dirty."""


def observed_format(image: KernelImage, sections: Sections) -> Format:
    """The format of `image` with page and table attributes as its vmemmap has them, as far as it
    shows them.
    """
    form = image.format
    page, table = _page_attributes(image, sections), _table_attributes(image, sections)
    clear = form.read_only_clear
    if image.arch == "x86_64" and image.info.number(_X86_DIRTY_READ_ONLY_UNTIL, None) is not None:
        clear = form.write_bit
    return replace(form, page_attributes=page, table_attributes=table, read_only_clear=clear)


def _walk(image: KernelImage, sections: Sections, stop_level: int) -> Walk:
    """The walks of the struct page of every section's first frame."""
    return walk(image.memory, image.format, image.root, sections.memmap, stop_level=stop_level)


def _page_attributes(image: KernelImage, sections: Sections) -> int:
    """Those of a writable page of the vmemmap; where leaves map it, what its pages get when one is
    split.
    """
    found, form = _walk(image, sections, 0), image.format
    for level in (0, 1):
        entries = found.entry[found.writable & (found.level == level)]
        if len(entries):
            entry = int(entries[0])
            return form.with_output(form.split_entry(entry, 1) if level else entry, 0, 0) & (
                WORD ^ form.sme_mask
            )
    return form.page_attributes


def _table_attributes(image: KernelImage, sections: Sections) -> int:
    """Those of the lowest table entries that there are."""
    form = image.format
    for level in range(1, form.levels):
        found = _walk(image, sections, level)
        entries = found.entry[
            (found.level == level) & np.asarray(form.is_table(found.entry, level))
        ]
        if len(entries):
            return form.with_output(int(entries[0]), 0, 0) & (WORD ^ form.sme_mask)
    return form.table_attributes
