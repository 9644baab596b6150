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
from hvo.audit.links import Links, WrongLinks
from hvo.audit.pages import HugePages, Matrix, row_any, row_count
from hvo.audit.vmemmap import BEYOND, BROKEN, MISSING, VmemmapPages
from hvo.kernel.sections import Pfns

PLAIN, OPTIMISED, PARTLY = range(3)
"""States of a HugeTLB page: every vmemmap page on a frame of its own, all behind the kept ones on a
shared frame, or some.
"""
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Held:
    """Vmemmap pages that are not on their shared frame, one element each: `row` and `column` in the
    matrices, and what they map.

    `frame`: int64; `state`: see `hvo.audit.frames`; `links`: of the struct pages in it; `rule`: the
    id of the rule that it breaks, "" for none.
    """

    row: Indices
    column: Indices
    frame: Pfns
    state: NDArray[np.uint8]
    links: WrongLinks
    rule: NDArray[np.str_]


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
        return _different(
            np.concatenate((self.pages.frame[self.pages.valid & ~self.shared], shared))
        )


def classify(
    pages: HugePages, expected: Expected, vmemmap: VmemmapPages, frames: Frames, links: Links
) -> Classified:
    """Judge every vmemmap page of `pages`."""
    valid, writable = pages.valid, pages.writable
    tail = np.arange(pages.vmemmap_pages) >= expected.kept
    shared = valid & (pages.frame == expected.frame[:, None]) & tail
    row, column = np.nonzero(valid & ~shared)
    held = _held(pages, row, column, vmemmap, frames, links)
    _judge(held, pages, writable[row, column], tail[column], row_any(shared)[row], links.structs)
    own = valid & ~shared
    foreign = np.isin(held.rule, ("tail-frame", "frame-free")) & tail[column]
    own[row[foreign], column[foreign]] = False
    return Classified(pages, expected, shared, own, held, _state(shared, own & tail))


def _held(
    pages: HugePages,
    row: Indices,
    column: Indices,
    vmemmap: VmemmapPages,
    frames: Frames,
    links: Links,
) -> Held:
    frame = pages.frame[row, column]
    heads = vmemmap.address(pages.index)[row]
    size = np.uint64(vmemmap.image.page_size)
    found = links.wrong(frame, heads, heads + column.astype(np.uint64) * size)
    return Held(row, column, frame, frames.states(frame), found, np.zeros(len(row), "<U20"))


def _judge(
    held: Held,
    pages: HugePages,
    writable: Matrix,
    tail: Matrix,
    beside_shared: Matrix,
    structs: int,
) -> None:
    """Fill in `held.rule`, the gravest last."""
    wrong = held.links.wrong
    rule = held.rule
    rule[~writable] = "own-read-only"
    rule[wrong > 0] = "tail-link"
    rule[(held.state == COMPOUND) | (held.state == TYPED)] = "frame-foreign"
    rule[_used_before(held)] = "frame-shared"
    rule[(wrong == structs) & (held.column > 0)] = "tail-frame"
    rule[~writable & tail & (beside_shared | (wrong > 0) | pages.flagged[held.row])] = "tail-frame"
    rule[held.state == FREE] = "frame-free"


def _used_before(held: Held) -> Matrix:
    """Which frames another vmemmap page has, of an earlier HugeTLB page or of the same one."""
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
