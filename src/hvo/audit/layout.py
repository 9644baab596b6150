"""Which layout optimised pages have, read off the mapping: who shares which frame.

Not off what is read-only: where an architecture defines no PAGE_KERNEL_RO, the kernel maps shared
tails with PAGE_KERNEL (include/linux/pgtable.h), so they are writable.

two-kept (5.14 to 5.17): vmemmap pages 0 and 1 have frames of their own, the others map that of page
1. head-shared (5.18 to 7.0): all map the frame of page 0. tail-shared (since 7.1): page 0 has a
frame of its own, the others map one that HugeTLB pages of the zone share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.audit.pages import HugePages, row_any, row_count
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.zone_bits import ZoneBits
from hvo.memory.interface import Words

Layout = Literal["none", "two-kept", "head-shared", "tail-shared"]


def detect(groups: Sequence[HugePages], *, has_masks: bool) -> Layout:
    """The layout that most HugeTLB pages with shared frames have, "none" if there is no such page.

    `has_masks`: the kernel exports `compound_info`, so it is one that keeps one page.
    """
    votes: dict[Layout, int] = {"head-shared": 0, "two-kept": 0, "tail-shared": 0}
    for pages in groups:
        if pages.vmemmap_pages > 2:
            head, second, tail = _votes(pages)
            votes["head-shared"] += head
            votes["tail-shared" if has_masks else "two-kept"] += second
            votes["tail-shared"] += tail
    best = max(votes, key=lambda name: votes[name])
    return best if votes[best] else "none"


def _votes(pages: HugePages) -> tuple[int, int, int]:
    """How many pages share the head's frame, share that of page 1 which stays writable, share
    another one.
    """
    frame, valid, writable = pages.frame, pages.valid, pages.writable
    with_head = row_any(valid[:, 1:] & (frame[:, 1:] == frame[:, :1]))
    if with_head.all():
        return len(with_head), 0, 0
    usual = usual_tail(pages)
    times = row_count(valid[:, 1:] & (frame[:, 1:] == usual[:, None]))
    others = ~with_head & (times > 1)
    own = writable[:, 1] & (frame[:, 1] == usual) & ~_repeated(usual)
    return int(with_head.sum()), int((others & own).sum()), int((others & ~own).sum())


def usual_tail(pages: HugePages) -> Pfns:
    """For each HugeTLB page the frame that more than half of its tail pages map, if there is one,
    else any; int64, -1 for no frame.
    """
    tails = pages.frame[:, 1:]
    usual = tails[:, -1].copy()
    mixed = np.flatnonzero(row_any(tails != usual[:, None]))
    usual[mixed] = np.sort(tails[mixed], axis=1)[:, tails.shape[1] // 2]
    return usual


def _repeated(frames: Pfns) -> NDArray[np.bool_]:
    _, which, counts = np.unique(frames, return_inverse=True, return_counts=True)
    return counts[which] > 1


class Expected(NamedTuple):
    """`kept`: vmemmap pages that keep a frame of their own. For each HugeTLB page the frame that
    its others share, if they do: `frame` (int64, -1: none). `wrong_zone`: whose shared frame of
    tails belongs to another zone or order; `zone_of` tells (bool)."""

    kept: int
    frame: Pfns
    wrong_zone: NDArray[np.bool_]


def expected(pages: HugePages, layout: Layout, members: PageMembers, zones: ZoneBits) -> Expected:
    """What the tail pages of each of `pages` share in `layout`."""
    none = np.zeros(len(pages.pfn), np.bool_)
    if pages.vmemmap_pages < 2 or layout == "none":
        return Expected(1, np.full(len(pages.pfn), -1), none)
    if layout == "head-shared":
        return Expected(1, pages.frame[:, 0], none)
    if layout == "two-kept":
        return Expected(2, pages.frame[:, 1], none)
    return _zone_tails(pages, members, zones)


def _zone_tails(pages: HugePages, members: PageMembers, zones: ZoneBits) -> Expected:
    """For each zone the frame of tails that most of its pages map; a page that maps one of another
    zone is noted, and keeps it.
    """
    usual = usual_tail(pages)
    shares = row_count((pages.frame[:, 1:] == usual[:, None]) & pages.valid[:, 1:]) > 1
    rows = np.flatnonzero(shares)
    frame, wrong = np.full(len(pages.pfn), -1), np.zeros(len(pages.pfn), np.bool_)
    if not len(rows):
        return Expected(1, frame, wrong)
    tails = _flags(members, usual[rows])
    mask = zones.zone_mask(pages.flags[rows], tails)
    zone = pages.flags & mask
    for key in np.unique(zone).tolist():
        here = rows[zone[rows] == np.uint64(key)]
        if len(here):
            found, counts = np.unique(usual[here], return_counts=True)
            frame[zone == np.uint64(key)] = found[np.argmax(counts)]
    wrong[rows] = (tails & mask) != zone[rows]
    wrong[rows] |= (usual[rows] != frame[rows]) & np.isin(usual[rows], frame)
    frame[wrong] = usual[wrong]
    return Expected(1, frame, wrong)


def _flags(members: PageMembers, frames: Pfns) -> Words:
    """Flags of the first struct page in each of `frames`, 0 where it is not in the memory."""
    unique, which = np.unique(frames, return_inverse=True)
    address = unique.astype(np.uint64) * np.uint64(members.image.page_size) + np.uint64(
        members.flags.offset
    )
    there = members.image.memory.readable(address)
    flags = np.zeros(len(unique), np.uint64)
    flags[there] = members.image.memory.read_words(address[there])
    return flags[which]
