"""How a run of many pages ends early, what earlier runs showed, and what pages have behind them."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hvo.machine.batch.conflicts import Lanes
from hvo.steps.entries import Entry


class Abort(Exception):
    """The run would differ from page by page: only its first `pages` can go at once (0: none)."""

    def __init__(self, pages: int) -> None:
        super().__init__(f"only {pages} pages can go at once")
        self.pages = pages


class NeedsFrameShares(Exception):
    """Frames must be shared out beforehand: to each page `counts` of its node's of `nodes`."""

    def __init__(self, counts: Lanes, nodes: Lanes) -> None:
        super().__init__("frames were not taken in the order of the pages")
        self.counts, self.nodes = counts, nodes


@dataclass(frozen=True)
class BatchHints:
    """What earlier runs of a block showed: it frees frames; words that pages share must be read
    with care; how frames are given as frame shares.
    """

    frees: bool
    check_shared_words: bool = True
    shares: tuple[Lanes, Lanes] | None = None


@dataclass
class Past:
    """What pages that go together have behind them: the results that they received, how often they
    parted from others, and how many primitive steps they did.
    """

    results: list[Any]
    rounds: int
    clock: int

    def of(self, pages: NDArray[np.bool_]) -> "Past":
        """The same for some of the pages, which part from the others."""
        kept = [_select(result, pages) for result in self.results]
        return Past(kept, self.rounds + 1, self.clock)


def _select(result: Any, pages: NDArray[np.bool_]) -> Any:
    """What the chosen pages received."""
    if isinstance(result, Entry):
        return Entry(result.kind, _select(result.value, pages))
    if isinstance(result, np.ndarray):
        values = cast("NDArray[Any]", result)
        return values[pages] if values.ndim and len(values) == len(pages) else values
    return result
