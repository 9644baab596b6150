"""What a conversion knows of the free list of a node: which of its pages it has rebuilt.

The list is a stack. `dequeue_hugetlb_folio_node_exact()` for users and
`remove_pool_hugetlb_folio()` for shrinking both take its first page, `enqueue_hugetlb_folio()` puts
a page before it (mm/hugetlb.c). So a page leaves only when every page above it is off the list, and
the pages that are always free, those at the bottom, never leave. Kernels from 6.7 put the pages of
one write on the list in the reverse order of their allocation, earlier ones in that order: it makes
no difference here, because all of them are rebuilt.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Run(NamedTuple):
    """Neighbours on a free list."""

    rebuilt: bool
    pages: int


class Place(NamedTuple):
    """Pages on a free list."""

    depth: int
    """Pages above them."""
    pages: int


class FreeList:
    """The pages of a free list as runs; below those that are known it has pages that nobody has
    rebuilt, without end.

    Others take pages and put them back unseen. In doubt a page counts as not rebuilt: to rebuild it
    twice costs time only.
    """

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        """`runs` from the bottom to the top."""
        self._runs: list[Run] = []
        self.theirs = 0
        """Rebuilt pages that others have taken since."""
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
        if run.pages and self._runs and self._runs[-1].rebuilt == run.rebuilt:
            run = Run(run.rebuilt, run.pages + self._runs.pop().pages)
        if run.pages:
            self._runs.append(run)

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
        self.theirs += rebuilt(self.pop(pages))

    def others_freed(self, pages: int) -> None:
        """Others use so many fewer: the ones that they took last, as far as that explains it."""
        known = pages <= self.theirs
        self.theirs = self.theirs - pages if known else 0
        self.push(Run(known, pages))

    def next_old(self, reach: int) -> Place | None:
        """The first pages from the top that were not rebuilt, among the `reach` topmost ones;
        `None` if there are none.
        """
        depth = 0
        for run in reversed(self._runs):
            if not run.rebuilt:
                pages = min(run.pages, reach - depth)
                return Place(depth, pages) if pages > 0 else None
            depth += run.pages
        return Place(depth, reach - depth) if reach > depth else None


def rebuilt(runs: Iterable[Run]) -> int:
    """How many pages of the runs were rebuilt."""
    return sum(run.pages for run in runs if run.rebuilt)
