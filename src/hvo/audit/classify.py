"""What each vmemmap page of a HugeTLB page is: on the shared frame, on one of its own, or on one
where it has no business.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hvo.audit.frames import COMPOUND, FREE, TYPED, Frames
from hvo.audit.layout import Expected
from hvo.audit.links import Links, PendingLinks, WrongLinks
from hvo.audit.pages import HugePages, Matrix, row_any, row_count
from hvo.audit.vmemmap import BEYOND, BROKEN, MISSING, VmemmapPages
from hvo.kernel.sections import Pfns

PLAIN, OPTIMISED, PARTLY = range(3)
"""States of a HugeTLB page: every vmemmap page on a frame of its own, all behind the kept ones on a
shared frame, or some.
"""
Indices = NDArray[np.intp]
HELD_RULES = (
    "",
    "own-read-only",
    "tail-link",
    "frame-foreign",
    "frame-shared",
    "tail-frame",
    "frame-free",
)
"""What `Held.rule` counts, the gravest last."""


@dataclass(frozen=True)
class Held:
    """Vmemmap pages that are not on their shared frame, one element each: `row` and `column` in the
    matrices, and what they map.

    `frame`: int64; `state`: see `hvo.audit.frames`; `links`: of the struct pages in it; `rule`:
    uint8, the rule that it breaks as its place in `HELD_RULES`, 0 for none.
    """

    row: Indices
    column: Indices
    frame: Pfns
    state: NDArray[np.uint8]
    links: WrongLinks
    rule: NDArray[np.uint8]

    def breaking(self, rule: str) -> Indices:
        """The elements that break `rule`."""
        return np.flatnonzero(self.rule == HELD_RULES.index(rule))


@dataclass(frozen=True)
class Classified:
    """HugeTLB pages of one size and what their vmemmap pages are; `shared`, `own`: matrices,
    `state`: uint8, one a HugeTLB page.
    """

    pages: HugePages
    expected: Expected
    shared: Matrix
    own: Matrix
    held: Held
    state: NDArray[np.uint8]

    @cached_property
    def own_tails(self) -> NDArray[np.int64]:
        """How many vmemmap pages behind the kept ones have frames of their own, for each HugeTLB
        page.
        """
        return row_count(self.own[:, self.expected.kept :])

    @cached_property
    def shared_tails(self) -> NDArray[np.int64]:
        """How many are on a shared frame."""
        return row_count(self.shared)

    @cached_property
    def writable_tails(self) -> NDArray[np.int64]:
        """How many of those may be written."""
        return row_count(self.shared & self.pages.writable)

    @property
    def lacking(self) -> Matrix:
        """Which vmemmap pages nothing is mapped at."""
        known = np.uint8(BEYOND | BROKEN | MISSING)
        return ~self.pages.valid & (self.pages.bits & known == 0)

    @property
    def frames(self) -> int:
        """How many different frames are mapped; 0 where the struct pages fill no whole one."""
        if not self.pages.vmemmap_pages:
            return 0
        held_there = (
            self.pages.frame[:, self.expected.kept - 1] == self.expected.frame
        )  # it is among those that are held already
        shared = self.expected.frame[row_any(self.shared) & ~held_there]
        return _different(np.concatenate((self.held.frame, shared)))

    @property
    def own_frames(self) -> Pfns:
        """The frames that hold struct pages of one HugeTLB page only."""
        return self.held.frame[self.own[self.held.row, self.held.column]]


def classify(
    pages: HugePages,
    expected: Expected,
    vmemmap: VmemmapPages,
    frames: Frames,
    links: Links,
    first: PendingLinks,
) -> Classified:
    """Judge every vmemmap page of `pages`; `first` are the links in the first one of each."""
    valid, writable = pages.valid, pages.writable
    tail = np.arange(pages.vmemmap_pages) >= expected.kept
    shared = valid & (pages.frame == expected.frame[:, None]) & tail
    row, column = _not_shared(valid, shared, expected.kept)
    frame = pages.frame[row, column]
    states = frames.states(frame)
    found = _links(pages, row, column, vmemmap, links, first)
    held = Held(row, column, frame, states, found, np.zeros(len(row), np.uint8))
    _judge(held, pages, writable[row, column], tail[column], row_any(shared)[row], links.structs)
    own = valid & ~shared
    foreign = (held.rule >= HELD_RULES.index("tail-frame")) & tail[column]
    own[row[foreign], column[foreign]] = False
    return Classified(pages, expected, shared, own, held, _state(shared, own & tail))


def _not_shared(valid: Matrix, shared: Matrix, kept: int) -> tuple[Indices, Indices]:
    """Rows and columns of what is mapped and not shared: usually the kept ones of all rows."""
    if shared[:, kept:].all() and valid[:, :kept].all():
        rows, columns = np.indices((len(valid), min(kept, valid.shape[1])))
        return rows.reshape(-1), columns.reshape(-1)
    row, column = np.nonzero(valid & ~shared)
    return row, column


def first_links(pages: HugePages, vmemmap: VmemmapPages, links: Links) -> PendingLinks:
    """Begin to look at the links in the first vmemmap page of each of `pages`."""
    if not pages.vmemmap_pages:
        return links.begin(pages.pfn[:0], pages.flags[:0], pages.flags[:0])
    heads = vmemmap.address(pages.index)
    return links.begin(pages.frame[:, 0], heads, heads)


def _links(
    pages: HugePages,
    row: Indices,
    column: Indices,
    vmemmap: VmemmapPages,
    links: Links,
    first: PendingLinks,
) -> WrongLinks:
    """The links in the vmemmap pages at `row` and `column`; `first`: those in the first ones."""
    rest = np.flatnonzero(column)
    if not len(rest) and len(row) == len(pages.pfn):
        return first.result()
    heads = vmemmap.address(pages.index)[row[rest]]
    offset = column[rest].astype(np.uint64) * np.uint64(vmemmap.image.page_size)
    others = links.wrong(pages.frame[row[rest], column[rest]], heads, heads + offset)
    wrong, which, found, head = first.result()
    out = WrongLinks(wrong[row], which[row], found[row], head[row])
    for array, other in zip(out, others, strict=True):
        array[rest] = other
    return out


def _judge(
    held: Held,
    pages: HugePages,
    writable: Matrix,
    tail: Matrix,
    beside_shared: Matrix,
    structs: int,
) -> None:
    """Fill in `held.rule`, the gravest last."""
    wrong, rule = held.links.wrong, held.rule

    def breaks(name: str, where: Matrix) -> None:
        rule[where] = HELD_RULES.index(name)

    breaks("own-read-only", ~writable)
    breaks("tail-link", wrong > 0)
    breaks("frame-foreign", (held.state == COMPOUND) | (held.state == TYPED))
    breaks("frame-shared", _used_before(held))
    breaks("tail-frame", (wrong == structs) & (held.column > 0))
    flagged = pages.flagged[held.row]
    breaks("tail-frame", ~writable & tail & (beside_shared | (wrong > 0) | flagged))
    breaks("frame-free", held.state == FREE)


def _used_before(held: Held) -> Matrix:
    """Which frames another vmemmap page has, of an earlier HugeTLB page or of the same one."""
    if (held.frame[1:] > held.frame[:-1]).all():
        return np.zeros(len(held.frame), np.bool_)
    order = np.argsort(held.frame, kind="stable")
    frame = held.frame[order]
    used = np.zeros(len(frame), np.bool_)
    used[order[1:]] = frame[1:] == frame[:-1]
    return used


def _different(frames: Pfns) -> int:
    """How many different ones."""
    frames = np.sort(frames)
    return int(np.count_nonzero(frames[1:] != frames[:-1])) + min(1, len(frames))


def _state(shared: Matrix, own_tails: Matrix) -> NDArray[np.uint8]:
    some, plain = row_any(shared), row_any(own_tails)
    return np.where(some, np.where(plain, PARTLY, OPTIMISED), PLAIN).astype(np.uint8)
