"""The frames behind the vmemmap of online memory outside HugeTLB pages: each is used once, and for
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvo.audit.findings import Spot
from hvo.audit.frames import COMPOUND, FREE, TYPED, Frames
from hvo.audit.outside import Outside, shared_rows
from hvo.audit.vmemmap import PAGE, VALID, WRITABLE

Indices = NDArray[np.intp]


def outside_frame_spots(outside: Outside, frames: Frames) -> Iterator[Spot]:
    """Vmemmap pages, mapped one by one, whose frames are free, something else, or another vmemmap
    page's as well.
    """
    vmemmap = outside.vmemmap
    mapped = outside.has(VALID) & outside.has(PAGE) & outside.has(WRITABLE)
    index = outside.index[mapped & outside.online & ~shared_rows(outside)]
    states = frames.states(vmemmap.frame[index])
    twice = np.isin(index, _used_twice(outside)) & (states != FREE)
    foreign = ((states == COMPOUND) | (states == TYPED)) & ~twice
    wanted = (
        ("frame-free", states == FREE, "a frame that is allocated"),
        ("frame-shared", twice, "a frame of its own"),
        ("frame-foreign", foreign, "a frame that only holds struct pages"),
    )
    for rule, where, expected in wanted:
        for at in index[where].tolist():
            frame = int(vmemmap.frame[at])
            what = f"the vmemmap page maps frame {frame:#x}, {frames.whose(frame, at)},"
            yield Spot(rule, int(vmemmap.pfn(np.array([at], np.intp))[0]), at, what, expected)


def _used_twice(outside: Outside) -> Indices:
    """Vmemmap pages whose frame another one has, too, which is the right one: the frame before or
    behind it is its neighbour's.
    """
    index = outside.index[outside.has(VALID) & outside.online]
    frame = outside.vmemmap.frame
    order = index[np.argsort(frame[index], kind="stable")]
    same = frame[order[1:]] == frame[order[:-1]]
    if not same.any():
        return order[:0]
    again = np.concatenate(([False], same))
    several = again | np.concatenate((same, [False]))
    last = len(frame) - 1
    in_line = (frame[np.maximum(order - 1, 0)] == frame[order] - 1) | (
        frame[np.minimum(order + 1, last)] == frame[order] + 1
    )
    alike = np.cumsum(~again)  # a number for each frame
    right = np.isin(alike, alike[several & in_line])
    return order[np.where(right, several & ~in_line, again)]
