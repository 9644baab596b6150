"""What cannot be optimised in this kernel's memory, and why: in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hvo.audit.result import Pool
from hvo.layout.units import format_size


def notes(struct_page_size: int, pools: Sequence[Pool]) -> Iterator[str]:
    """One line for each reason."""
    if struct_page_size.bit_count() != 1:
        yield (
            f"sizeof(struct page) is {struct_page_size}, no power of two: a struct page straddles"
            " two vmemmap pages, so no HugeTLB page can be optimised"
        )
    for pool in pools:
        size = format_size(pool.size)
        if not pool.vmemmap_pages:
            yield (
                f"the struct pages of a {size} page fill less than one vmemmap page: none can be"
                " optimised"
            )
        if pool.counts.self_hosted:
            yield (
                f"{pool.counts.self_hosted} of {pool.counts.pages} {size} pages lie in memory"
                " blocks that host their own vmemmap (memmap_on_memory): the kernel optimises none"
                " of them"
            )
