"""Reading whole last-level tables of the vmemmap, where nothing is unusual about them: four times
faster than to walk each page, and the same result.
"""

from __future__ import annotations

import numpy as np

from hvo.audit.section_table import SectionTable
from hvo.kernel.image import KernelImage
from hvo.memory.interface import MemoryFault, Words
from hvo.memory.strided import read_strided
from hvo.mmu.walk import walk


def last_level_tables(image: KernelImage, starts: Words) -> Words:
    """Physical addresses of the last-level tables that map the virtual addresses `starts`, from
    each on as far as a table reaches; 0 where there is none, or something above is unusual.
    """
    form = image.format
    if (starts & np.uint64(form.span(1) - 1)).any() or _protected(image, starts):
        return np.zeros(len(starts), np.uint64)
    above = walk(image.memory, form, image.root, starts, stop_level=1)
    usual = (above.level == 1) & (above.fault == 0) & form.is_table(above.entry, 1)
    return np.where(usual, np.asarray(form.decode(above.entry)), np.uint64(0))


def usual_entries(image: KernelImage, sections: SectionTable, tables: Words) -> Words | None:
    """All entries of the last-level `tables`, a row each.

    None unless all are in memory, and all their entries lead to frames in `sections`.
    """
    form = image.format
    try:
        entries = read_strided(image.memory, tables, form.table_entries(0), 8)
    except MemoryFault:
        return None
    usual = form.is_leaf(entries, 0)
    if form.checks_leaves(0):
        usual &= ~form.is_malformed(entries, 0) & ~form.is_contiguous(entries)
    frames = (np.asarray(form.decode(entries)) >> np.uint64(form.page_shift)).view(np.int64)
    return entries if usual.all() and sections.contain(frames) else None


def _protected(image: KernelImage, starts: Words) -> bool:
    """Whether an entry above may make pages read-only."""
    form = image.format
    for level in range(1, form.levels) if form.table_write_bit else ():
        entries = walk(image.memory, form, image.root, starts, stop_level=level).entry
        if form.is_write_protecting(entries).any():
            return True
    return False
