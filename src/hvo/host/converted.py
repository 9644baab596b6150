"""The note that a conversion leaves behind: which pages it could not rebuild.

The counters say how many pages are not optimised, never which. After a conversion they are those
that were in use or reserved; without the note `hvo status` would go on advising to rebuild the free
ones. It is a hint, and holds only while the pool has not changed since.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from hvo.errors import HvoError
from hvo.host.journal import OWN, boot_id
from hvo.host.optimized import Estimate
from hvo.host.pools import Pool
from hvo.host.progress import path as progress_path
from hvo.host.tree import Tree


@dataclass(frozen=True)
class Converted:
    """A pool as a conversion of all its free pages left it."""

    boot_id: str
    pages: int
    busy: int
    """Pages in use or reserved, which were left as they were."""
    missing: int
    """Pages that were not optimised, at most."""
    kept: int = 0
    """Free pages that were left as they were, so that so many stayed free."""

    def still_says(self, pool: Pool, known: Estimate) -> bool:
        """Whether nothing speaks against the pages that are not optimised being in use still: no
        fewer are in use, no more are missing.
        """
        fits = known.exact is None or pool.pages - known.exact <= self.missing
        return fits and (pool.pages, pool.surplus) == (self.pages, 0) and pool.busy >= self.busy


def note(tree: Tree, pool: Pool, known: Estimate, kept: int) -> None:
    """Note that every free page of `pool` that is not reserved has been rebuilt, but for `kept`."""
    missing = pool.busy + kept if known.exact is None else pool.pages - known.exact
    _save(tree, pool.size, Converted(boot_id(tree), pool.pages, pool.busy, missing, kept))


def carry_over(tree: Tree, size: int, found: Converted, pages: int) -> None:
    """Note the same of the pool with so many pages: only free or optimised pages have come and
    gone.
    """
    _save(tree, size, replace(found, pages=pages))


def forget(tree: Tree, size: int) -> None:
    """Remove the note, and that of an interrupted conversion: the pool is being changed."""
    tree.remove(_path(size))
    tree.remove(progress_path(size))


def noted(tree: Tree, size: int) -> Converted | None:
    """The note of this boot; `None` when there is none that can be read."""
    try:
        fields = json.loads(tree.read_or(_path(size), "null"))
        found = Converted(**fields)
    except (ValueError, TypeError, RecursionError):
        return None
    if not all(isinstance(value, int) for name, value in fields.items() if name != "boot_id"):
        return None
    return found if found.boot_id == boot_id(tree) else None


def _save(tree: Tree, size: int, found: Converted) -> None:
    """Write the note, if that can be done: without one the advice is less exact, and no more."""
    with suppress(HvoError):
        tree.replace(_path(size), f"{json.dumps(asdict(found))}\n", durable=False)


def _path(size: int) -> str:
    return f"{OWN}/converted-{size >> 10}kB.json"
