"""How many pages a conversion rebuilds at once: the windows in which it holds pages.

To reach pages below those that are rebuilt already, those are held, and put back when the ones
below are off the list. A window that rebuilds one batch would hold every rebuilt page once a batch:
r*r/2b pages in all to rebuild r of them by b, and taking a page costs more than rebuilding it,
because the kernel zeroes it. So a window rebuilds at least three times as many pages as it had to
hold above them, if there are so many, and all windows together take at most 4/3 pages for each that
is rebuilt. It holds what is not yet rebuilt, a batch less each time; between windows nothing is
held.
"""

import math
from collections.abc import Iterable, Iterator

from hvo.host.free_list import FreeList, Old, Run

_GROWTH = 4
"""A window, but for the last one, is at least so many times as deep as the pages above it."""


def window(old: Old, batch: int) -> int:
    """How many of the pages that are not rebuilt the next window rebuilds: the depths of the
    windows from there to the end grow evenly.
    """
    if not old.depth:
        return min(batch, old.pages)
    growth = (old.depth + old.pages) / old.depth
    windows = max(1, math.floor(math.log(growth, _GROWTH)))
    return min(old.pages, max(batch, math.ceil(old.depth * (growth ** (1 / windows) - 1))))


def planned(runs: Iterable[Run], reach: int, batch: int) -> Iterator[int]:
    """Every batch of a conversion of the `reach` topmost pages of a free list while nobody else
    uses it.
    """
    known = FreeList(runs)
    while old := known.old(reach):
        lift = known.lift(window(old, batch), batch)
        held = known.pop(lift.above)
        known.pop(lift.first)
        yield lift.first
        for run in [Run(True, lift.first), *held]:
            known.push(Run(True, run.pages))
        for run in held:
            if not run.rebuilt:
                yield from (min(batch, run.pages - at) for at in range(0, run.pages, batch))
