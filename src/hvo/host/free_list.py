"""What a conversion knows of the free list of a node: which of its pages it has rebuilt.

The list is a stack. `dequeue_hugetlb_folio_node_exact()` for users and
`remove_pool_hugetlb_folio()` for shrinking both take its first page, `enqueue_hugetlb_folio()` puts
a page before it (mm/hugetlb.c). So a page leaves only when every page above it is off the list, and
the pages that are always free, those at the bottom, never leave. Kernels from 6.7 put the pages of
one write on the list in the reverse order of their allocation, earlier ones in that order: it makes
no difference here, because all of them are rebuilt.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

_ENDLESS = 1 << 62


class Run(NamedTuple):
    """Neighbours on a free list."""

    rebuilt: bool
    pages: int


class Old(NamedTuple):
    """The pages on a free list that were not rebuilt."""

    depth: int
    """Rebuilt pages above the first of them."""
    pages: int


class Lift(NamedTuple):
    """What must leave a free list to reach pages."""

    above: int
    """Pages from the top on that are to be held."""
    first: int
    """Pages below them that can be given back straight from the list."""


class FreeList:
    """The pages of a free list as runs; below those that are known it has pages that nobody has
    rebuilt, without end.

    What others take and free is seen as a number. They are taken to free first what they took last,
    and pages that they had before were not rebuilt: so there are never more of those than at first.
    """

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        """`runs` from the bottom to the top."""
        self._runs: list[Run] = []
        self._theirs: list[Run] = []
        """What others have taken since, in the order of taking."""
        for run in runs:
            self.push(run)

    @property
    def runs(self) -> tuple[Run, ...]:
        """What is known, from the bottom to the top."""
        return tuple(self._runs)

    @property
    def rebuilt(self) -> int:
        """Pages on the list that were rebuilt."""
        return sum(run.pages for run in self._runs if run.rebuilt)

    def push(self, run: Run) -> None:
        """Put pages on top."""
        append(self._runs, run)

    def pop(self, pages: int) -> list[Run]:
        """Take so many pages off the top; their runs, the topmost first."""
        taken: list[Run] = []
        while pages > 0:
            run = self._runs.pop() if self._runs else Run(False, pages)
            part = min(pages, run.pages)
            self.push(Run(run.rebuilt, run.pages - part))
            taken.append(Run(run.rebuilt, part))
            pages -= part
        return taken

    def others_took(self, pages: int) -> None:
        """Others use so many more pages than before."""
        self._theirs += self.pop(pages)

    def others_freed(self, pages: int) -> None:
        """Others use so many fewer: who frees a mapping puts the page that it took first back
        first.
        """
        freed: list[Run] = []
        while pages > 0:
            run = self._theirs.pop() if self._theirs else Run(False, pages)
            part = min(pages, run.pages)
            if part < run.pages:
                self._theirs.append(Run(run.rebuilt, run.pages - part))
            freed.append(Run(run.rebuilt, part))
            pages -= part
        for run in reversed(freed):
            self.push(run)

    def old(self, reach: int) -> Old | None:
        """The pages that were not rebuilt among the `reach` topmost ones; `None` if there are
        none.
        """
        depth: int | None = None
        at = pages = 0
        for run in self._down(reach):
            if not run.rebuilt:
                depth = at if depth is None else depth
                pages += run.pages
            at += run.pages
        return None if depth is None else Old(depth, pages)

    def lift(self, pages: int, batch: int) -> Lift:
        """What to take to reach so many pages that were not rebuilt, the topmost ones; the last
        ones, at most a `batch`, need not be taken.
        """
        at = 0
        for run in self._down(None):
            part = 0 if run.rebuilt else min(run.pages, pages)
            at, pages = at + (part or run.pages), pages - part
            if part and not pages:
                first = min(part, batch)
                return Lift(at - first, first)
        raise AssertionError("unreachable: below what is known no page was rebuilt")

    def _down(self, reach: int | None) -> Iterator[Run]:
        """The runs from the top on, as far as `reach` pages down, or without end."""
        left = _ENDLESS if reach is None else reach
        for run in [*reversed(self._runs), Run(False, _ENDLESS)]:
            if left > 0:
                yield Run(run.rebuilt, min(run.pages, left))
            left -= run.pages


def append(runs: list[Run], run: Run) -> None:
    """Add neighbours of the last run."""
    if runs and runs[-1].rebuilt == run.rebuilt:
        run = Run(run.rebuilt, run.pages + runs.pop().pages)
    if run.pages:
        runs.append(run)


def rebuilt(runs: Iterable[Run]) -> int:
    """How many pages of the runs were rebuilt."""
    return sum(run.pages for run in runs if run.rebuilt)
