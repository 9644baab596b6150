"""`struct page`: which word holds what, in each era; 64 bytes, eight words, little endian.

Sources: include/linux/mm_types.h and include/linux/page-flags.h of 5.14, 6.1, 6.12 and 7.1; the
offsets agree with the VMCOREINFO of running kernels of those versions.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STRUCT_PAGE_SIZE = 64
WORDS = 8
FLAGS, LINK, MAPPING, PRIVATE, COUNTS = 0, 1, 3, 5, 6
"""Words of a struct page; COUNTS has the map count below and the reference count above."""
TAIL_MAPPING = 0xDEAD_0000_0000_0400
"""What `mapping` of a tail holds (include/linux/poison.h)."""
NOT_MAPPED = 0xFFFF_FFFF
"""A map count of -1: no page table maps the page, and the page has no type."""


@dataclass(frozen=True)
class Field:
    """A field of a struct page: `bits` bits from bit `shift` of word `word`, in the struct page
    `page` places after the one named.

    With `marks` it is a mark that is either clear or set, and those are the values that say so.
    """

    page: int
    word: int
    shift: int
    bits: int
    marks: tuple[int, int] | None = None

    @property
    def mask(self) -> int:
        """The bits of the word that belong to the field."""
        return ((1 << self.bits) - 1) << self.shift

    def decode(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The field's values in `words`; for a mark 1 where it is set, else 0."""
        values = (words & np.uint64(self.mask)) >> np.uint64(self.shift)
        return (
            values if self.marks is None else (values == np.uint64(self.marks[1])).astype(np.uint64)
        )

    def encode(
        self, words: NDArray[np.uint64], values: NDArray[np.uint64] | int
    ) -> NDArray[np.uint64]:
        """`words` with the field set to `values` (0 or 1 for a mark)."""
        raw = np.asarray(values, np.uint64)
        if self.marks is not None:
            raw = np.where(raw != 0, np.uint64(self.marks[1]), np.uint64(self.marks[0]))
        return (words & np.uint64(self.mask ^ 0xFFFF_FFFF_FFFF_FFFF)) | (
            raw << np.uint64(self.shift)
        )


def _flag(bit: int) -> Field:
    return Field(0, FLAGS, bit, 1)


@dataclass(frozen=True)
class StructPageLayout:
    """Where a kernel keeps what this project reads and writes in a struct page.

    `link` is "pointer" (word 1 of a tail: address of the head, plus 1) or "mask" (a mask from a
    tail's own address to its head's, plus 1); `stride` is how many bytes a word begins behind the
    one before it, 8 in every kernel.
    """

    name: str
    head_bit: int
    reserved_bit: int
    dcache_bit: int
    hwpoison_bit: int
    hugetlb: Field
    order: Field
    link: str
    buddy: int
    node_shift: int = 54
    zone_shift: int = 51
    self_hosted_bit: int = 10
    stride: int = 8
    fields: dict[str, Field] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        fields = {
            "flags": Field(0, FLAGS, 0, 64),
            "head": _flag(self.head_bit),
            "reserved": _flag(self.reserved_bit),
            "dcache_clean": _flag(self.dcache_bit),
            "hwpoison": _flag(self.hwpoison_bit),
            "self_hosted": _flag(self.self_hosted_bit),
            "link": Field(0, LINK, 0, 64),
            "mapping": Field(0, MAPPING, 0, 64),
            "private": Field(0, PRIVATE, 0, 64),
            "vmemmap_optimized": Field(0, PRIVATE, 4, 1),
            "mapcount": Field(0, COUNTS, 0, 32),
            "refcount": Field(0, COUNTS, 32, 32),
            "hugetlb": self.hugetlb,
            "order": self.order,
        }
        object.__setattr__(self, "fields", fields)

    def free_row(self, node: int, zone: int) -> NDArray[np.uint64]:
        """The struct page of a page that nobody uses, in the zone with the number `zone`: no flag,
        no reference, not mapped; uint64, 8 words.
        """
        row = np.zeros(WORDS, np.uint64)
        row[FLAGS] = (node << self.node_shift) | (zone << self.zone_shift)
        row[COUNTS] = NOT_MAPPED
        return row

    def links(self, head_addresses: NDArray[np.uint64], order: int) -> NDArray[np.uint64]:
        """What word 1 of the tails holds, for each head's struct page address
        (`set_compound_head`).
        """
        if self.link == "pointer":
            return head_addresses + np.uint64(1)
        size = WORDS * self.stride << order
        return np.full(head_addresses.shape, (-size & 0xFFFF_FFFF_FFFF_FFFF) + 1, np.uint64)


_DTOR = Field(1, 2, 0, 8, marks=(0, 2))  # page[1].compound_dtor == HUGETLB_PAGE_DTOR
_DTOR_ORDER = Field(1, 2, 8, 8)
_FLAG = Field(1, FLAGS, 8, 1)  # PG_hugetlb in page[1].flags (6.6), the order in its low byte
_TYPE = Field(
    0, COUNTS, 0, 32, marks=(NOT_MAPPED, 0xF400_0000)
)  # _mapcount == PAGE_HUGETLB_MAPCOUNT_VALUE (6.9)
_FLAG_ORDER = Field(1, FLAGS, 0, 8)

LAYOUTS = {
    "5.14": StructPageLayout("5.14", 16, 12, 11, 22, _DTOR, _DTOR_ORDER, "pointer", 0xFFFF_FF7F),
    "6.6": StructPageLayout("6.6", 6, 13, 12, 20, _FLAG, _FLAG_ORDER, "pointer", 0xFFFF_FF7F),
    "6.9": StructPageLayout("6.9", 6, 13, 12, 20, _TYPE, _FLAG_ORDER, "pointer", 0xF000_0000),
    "7.1": StructPageLayout("7.1", 6, 13, 12, 21, _TYPE, _FLAG_ORDER, "mask", 0xF000_0000),
}
"""Layouts by the first kernel that has them."""

ERA_LAYOUT = {
    "5.14": LAYOUTS["5.14"],
    "5.18": LAYOUTS["5.14"],
    "6.2": LAYOUTS["6.9"],
    "7.1": LAYOUTS["7.1"],
}
"""The layout a simulated machine of each era has; the era 6.2 is modelled on 6.12, whose mark is a
page type.
"""
