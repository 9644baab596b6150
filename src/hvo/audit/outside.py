"""The vmemmap outside HugeTLB pages: what restoring left behind, mappings that belong to no page,
and holes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.audit.findings import Spot
from hvo.audit.pages import HugePages, set_rows
from hvo.audit.vmemmap import BEYOND, BROKEN, MISSING, PAGE, VALID, WRITABLE, VmemmapPages
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.vmcore import compound_head, hugetlb_mark
from hvo.layout.geometry import GEOMETRIES
from hvo.layout.units import format_size
from hvo.memory.interface import Words
from hvo.memory.strided import read_strided

Indices = NDArray[np.intp]
_AT_A_TIME = 1 << 18


class LostPage(NamedTuple):
    """A huge page that is lost to H19: its first frame, how many frames behind its vmemmap hold
    copies of its head, its size in bytes.
    """

    pfn: int
    frames: int
    size: int


@dataclass(frozen=True)
class Outside:
    """`index`: the vmemmap pages that belong to no HugeTLB page, ascending; `online`: which
    describe memory that is online.
    """

    vmemmap: VmemmapPages
    members: PageMembers
    index: Indices
    online: NDArray[np.bool_]

    @classmethod
    def of(
        cls, vmemmap: VmemmapPages, members: PageMembers, groups: tuple[HugePages, ...]
    ) -> Outside:
        """All that is not in `groups`."""
        inside = np.zeros(len(vmemmap.frame), np.bool_)
        for pages in groups:
            set_rows(inside, pages.index, np.ones(pages.frame.shape, np.bool_))
        index = np.flatnonzero(~inside)
        return cls(vmemmap, members, index, vmemmap.sections.online[index // vmemmap.per_section])

    def has(self, bit: int) -> NDArray[np.bool_]:
        """Which have `bit`."""
        return self.vmemmap.has(self.index, bit)

    @property
    def missing(self) -> int:
        """How many are mapped, or would be, by frames and tables that the memory lacks."""
        mapped = self.index[self.has(VALID)]
        there = self.members.image.memory.readable(
            self.vmemmap.frame[mapped].astype(np.uint64) * np.uint64(self.vmemmap.image.page_size)
        )
        return int(np.count_nonzero(~there)) + int(np.count_nonzero(self.has(MISSING)))

    @property
    def smallest(self) -> int:
        """Vmemmap pages of the smallest HugeTLB page that can be optimised."""
        known = GEOMETRIES.get((self.vmemmap.image.arch, self.vmemmap.image.page_size))
        sizes = (
            [page.size // self.vmemmap.image.page_size for page in known.hugepages] if known else []
        )
        return min(
            (size // self.vmemmap.structs for size in sizes if size // self.vmemmap.structs > 1),
            default=8,
        )


def hole_spots(outside: Outside) -> Iterator[Spot]:
    """Vmemmap of online memory that is not mapped, or to a frame that does not exist: one spot a
    stretch.
    """
    known = outside.has(VALID) | outside.has(BEYOND) | outside.has(BROKEN) | outside.has(MISSING)
    kinds = (
        ("not-present", ~known, "not mapped"),
        ("beyond-ram", outside.has(BEYOND), "mapped to a frame that no section has"),
    )
    for rule, where, what in kinds:
        for first, count in _stretches(outside.index[where & outside.online]):
            yield Spot(
                rule,
                _pfn(outside, first),
                first,
                f"the vmemmap page of online memory is {what}",
                "a frame in RAM",
                count,
            )


def _pfn(outside: Outside, index: int) -> int:
    return int(outside.vmemmap.pfn(np.array([index], np.intp))[0])


def _stretches(index: Indices) -> Iterator[tuple[int, int]]:
    """First element and length of each run of consecutive `index`."""
    cuts = np.flatnonzero(np.diff(index) != 1) + 1
    starts = np.concatenate((np.zeros(min(1, len(index)), np.intp), cuts))
    yield from zip(index[starts].tolist(), np.diff(starts, append=len(index)).tolist(), strict=True)


class _Bogus(NamedTuple):
    """Vmemmap pages that begin with a head that is none: its next struct page is no tail of it.
    `order` is what that one says (int64).
    """

    at: Indices
    order: NDArray[np.int64]


def _bogus_heads(outside: Outside, index: Indices) -> _Bogus:
    found, orders = [np.zeros(0, np.intp)], [np.zeros(0, np.int64)]
    for first in range(0, len(index), _AT_A_TIME):
        part = index[first : first + _AT_A_TIME]
        words = _first_words(outside, part)
        bogus, order = _judge(outside, part, words)
        found.append(part[bogus])
        orders.append(order[bogus])
    return _Bogus(np.concatenate(found), np.concatenate(orders))


def _first_words(outside: Outside, index: Indices) -> Words:
    """The first two struct pages in each of the vmemmap pages `index`, as words; zeros where they
    are not in the memory.
    """
    size = np.uint64(outside.vmemmap.image.page_size)
    start = outside.vmemmap.frame[index].astype(np.uint64) * size
    there = outside.members.image.memory.readable(start)
    words = np.zeros((len(index), outside.vmemmap.sections.struct_page_size // 4), np.uint64)
    words[there] = read_strided(outside.members.image.memory, start[there], words.shape[1], 8)
    return words


def _judge(
    outside: Outside, index: Indices, words: Words
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    of, size = outside.members, outside.vmemmap.sections.struct_page_size
    page = outside.vmemmap.address(index)
    link = words[:, (size + of.link.offset) // 8]
    head = words[:, of.flags.offset // 8] & np.uint64(of.image.info.number("PG_head_mask")) != 0
    own_tail = (link & np.uint64(1) != 0) & (compound_head(page + np.uint64(size), link) == page)
    mark = hugetlb_mark(of)
    if mark is None:
        return head & ~own_tail, np.zeros(len(index), np.int64)
    place = np.uint64(mark.order.offset)
    order = (words[:, int(place) // 8] >> (place % np.uint64(8) * np.uint64(8))) & np.uint64(0xFF)
    return head & ~own_tail, order.astype(np.int64)


def lost_pages(outside: Outside, kept: Pfns) -> list[LostPage]:
    """Huge pages whose vmemmap pages begin with copies of the head, each on a frame of its own, so
    on none of `kept`.
    """
    vmemmap = outside.vmemmap
    mapped = outside.index[outside.has(VALID) & outside.has(WRITABLE)]
    mapped = mapped[~np.isin(vmemmap.frame[mapped], kept)]
    bogus = _bogus_heads(outside, mapped)
    copies, which = np.unique(vmemmap.frame[bogus.at], return_inverse=True)
    uses = np.bincount(which, minlength=len(copies))[which] if len(copies) else np.zeros(0)
    pages = _page_of(outside, bogus)
    keep = (uses == 1) & (bogus.at != pages)
    first, at, count = np.unique(pages[keep], return_index=True, return_counts=True)
    orders = _orders(outside, bogus)[keep][at]
    size = vmemmap.image.page_size
    return [
        LostPage(pfn, frames, size << order)
        for pfn, frames, order in zip(
            vmemmap.pfn(first).tolist(), count.tolist(), orders.tolist(), strict=True
        )
    ]


def _orders(outside: Outside, bogus: _Bogus) -> NDArray[np.int64]:
    """The order of the huge page that each copy was made of: what the copy says where such pages
    are, else the smallest.
    """
    known = GEOMETRIES.get((outside.vmemmap.image.arch, outside.vmemmap.image.page_size))
    sizes = (
        [page.size // outside.vmemmap.image.page_size for page in known.hugepages] if known else []
    )
    orders = [size.bit_length() - 1 for size in sizes if size // outside.vmemmap.structs > 1]
    smallest = (outside.smallest * outside.vmemmap.structs).bit_length() - 1
    return np.where(np.isin(bogus.order, orders), bogus.order, smallest)


def _page_of(outside: Outside, bogus: _Bogus) -> Indices:
    """The first vmemmap page of the huge page that each belongs to."""
    pfn = outside.vmemmap.pfn(bogus.at)
    first: Pfns = pfn >> _orders(outside, bogus) << _orders(outside, bogus)
    there = outside.vmemmap.contain(first)
    return np.where(there, outside.vmemmap.index_of(np.where(there, first, pfn)), bogus.at)


def lost_spots(outside: Outside, lost: list[LostPage]) -> Iterator[Spot]:
    """One spot for each lost huge page."""
    for page in lost:
        index = int(outside.vmemmap.index_of(np.array([page.pfn]))[0]) + 1
        what = (
            f"a huge page of {format_size(page.size)} is lost: frames behind its vmemmap hold"
            " copies of its head, the first"
        )
        yield Spot("lost-page", page.pfn, index, what, "tails, or no compound page", page.frames)


def shared_rows(outside: Outside) -> NDArray[np.bool_]:
    """Which elements of `outside.index` share one frame with most of the place for the smallest
    HugeTLB page that they are in: the vmemmap of an optimised page that is none any more.
    """
    vmemmap, index = outside.vmemmap, outside.index
    paged = outside.has(VALID) & outside.has(PAGE) & outside.online
    frame, block = vmemmap.frame[index], _block(outside, index)
    same = paged[1:] & paged[:-1] & (frame[1:] == frame[:-1]) & (block[1:] == block[:-1])
    out = np.zeros(len(index), np.bool_)
    blocks, pairs = np.unique(block[1:][same], return_counts=True)
    most = blocks[2 * (pairs + 1) > outside.smallest]
    if len(most):
        same &= np.isin(block[1:], most)
        out[1:] |= same
        out[:-1] |= same
    return out


def orphan_spots(outside: Outside, kept: Pfns) -> Iterator[Spot]:
    """Vmemmap of online memory that is read-only, or shares a frame, where no HugeTLB page is;
    `kept` are the frames that HugeTLB pages hold their struct pages in.
    """
    vmemmap = outside.vmemmap
    of_others = outside.has(VALID) & outside.online & np.isin(vmemmap.frame[outside.index], kept)
    read_only = outside.has(VALID) & outside.has(PAGE) & ~outside.has(WRITABLE) & outside.online
    read_only |= shared_rows(outside)
    taken = np.unique(_block(outside, outside.index[of_others & ~read_only]))
    for first, count in _stretches(outside.index[of_others & ~read_only]):
        what = (
            f"the vmemmap page maps frame {int(vmemmap.frame[first]):#x}, in which a HugeTLB page"
            " has its struct pages,"
        )
        yield Spot("frame-shared", _pfn(outside, first), first, what, "a frame of its own", count)
    holes = outside.index[~outside.has(VALID) & outside.online]
    taken = np.union1d(taken, _block(outside, holes))
    rest = outside.index[read_only]
    rest = rest[~np.isin(_block(outside, rest), taken)]
    for first, count in _stretches(rest):
        how = "with others" if vmemmap.has(np.array([first]), WRITABLE)[0] else "read-only"
        what = (
            f"the vmemmap page maps frame {int(vmemmap.frame[first]):#x} {how}, and no HugeTLB"
            " page is there,"
        )
        yield Spot(
            "orphaned-remap",
            _pfn(outside, int(_block(outside, np.array([first]))[0])),
            first,
            what,
            "a writable entry, with a frame of its own",
            count,
        )


def _block(outside: Outside, index: Indices) -> Indices:
    """First vmemmap page of the place for the smallest HugeTLB page that each is in."""
    return index - index % outside.smallest
