"""The entries of real kernels' vmemmap: walked to what the truth says, and bit for bit what our
formats make.
"""

from dataclasses import replace

import numpy as np
import pytest

from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.memory.core import open_core
from hvo.mmu.walk import walk
from shared_files import CORES, core, truth

NG, TABLE_AF, GLOBAL = 1 << 11, 1 << 10, 1 << 8


def as_written_by(name, format):
    """The format with what this kernel writes otherwise than the newest: one field each."""
    if name.startswith("x86-6.1-"):  # before shadow stacks
        format = replace(format, read_only_clear=format.write_bit)
    if name == "x86-6.1-on":  # page-table isolation, as below
        return replace(format, page_attributes=format.page_attributes & ~GLOBAL)
    if name.startswith("arm64-6.1-"):  # blocks had neither DBM nor the software dirty bit
        return replace(
            format, block_toggle=format.block_toggle | format.dirty | format.dirty_modifier
        )
    if name == "arm64-7.3-stock":  # user and kernel tables are kept apart: no kernel leaf is global
        return replace(format, page_attributes=format.page_attributes | NG)
    return format


@pytest.fixture(params=CORES)
def found(request):
    """(name, format, image, walk of every vmemmap page of every section)."""
    image = KernelImage.of(open_core(core(request.param)))
    sections = Sections.of(image)
    size = sections.pages * sections.struct_page_size
    offsets = np.arange(0, size, image.page_size, dtype=np.uint64)
    addresses = (sections.memmap[:, None] + offsets).reshape(-1)
    format = as_written_by(request.param, image.format)
    return request.param, format, image, walk(image.memory, format, image.root, addresses)


def test_every_page_is_mapped_and_the_shared_ones_are_read_only(found):
    """As many read-only pages as the truth's optimised HugeTLB pages have tails; all of them at
    level 0.
    """
    name, format, _, reached = found
    told = truth()[name]
    assert (format.va_bits, format.levels) == (told["va_bits"], told["levels"])
    assert reached.valid.all()
    read_only = ~reached.writable
    assert np.count_nonzero(read_only) == sum(
        pool["optimized"] * (pool["vmemmap_pages"] - 1) for pool in told["pools"]
    )
    assert not reached.level[read_only].any()


def test_entries_are_bit_for_bit_what_the_format_makes(found):
    """Each leaf is `make_leaf` of its address and permission, and a split of each block gives
    PAGE_KERNEL.
    """
    name, format, _, reached = found
    levels = np.unique(reached.level).tolist()
    for level, writable in [(level, writable) for level in levels for writable in (True, False)]:
        entries = reached.entry[(reached.level == level) & (reached.writable == writable)]
        made = format.make_leaf(format.output_address(entries, level), level, writable=writable)
        assert entries.tolist() == made.tolist(), (name, level, writable)
        if level and writable:
            assert (
                format.split_entry(entries, level) & ~np.uint64(format.encode(format.aligned(0)))
            ).tolist() == [format.make_leaf(0, 0)] * entries.size


def test_table_entries_are_those_that_we_make(found):
    """From the root down; arm64 kernels since 6.13 set the access flag in them as well."""
    _, format, image, reached = found
    for level in range(1, format.levels):
        above = walk(image.memory, format, image.root, reached.virtual, stop_level=level)
        entries = above.entry[format.is_table(above.entry, level)]
        made = format.make_table(format.output_address(entries, level))
        assert np.isin(entries ^ made, [0, TABLE_AF if format.arch == "arm64" else 0]).all()
