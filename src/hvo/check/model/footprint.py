"""What a step touches, so that steps which nobody else can tell from one another are not
interleaved.

Each actor's footprint is learned: a search begins with what earlier ones saw. A step is *local*
when nothing that it touches is in the footprint of another actor in a way that does not commute;
local steps go along with the next step that is not. When a search meets a touch that no footprint
had, it is done again with it. (The first step of any run that leaves the footprints has a prefix
within them; commuting that prefix's local steps leads to a run of the reduced search, which then
meets the same step: its touches depend on its actor alone, and on memory that the footprints
cover.)
"""

from typing import TypeAlias

TRANSLATION, PHYSICAL, FRAME, LOCK, STRUCT_PAGE, ALLOCATOR, WHOLE = range(7)
"""Kinds of things: how a vmemmap page is translated, a word of memory, a frame's fate, a lock, a
struct page, the allocator, all of it.
"""

Touch: TypeAlias = tuple[int, int, int]
"""Kind, which one, and how: 0 reads, 1 changes, 2 drops translations (which commutes with itself).
"""
Touched: TypeAlias = list[Touch]

_COMMUTES = {(0, 0), (2, 2)}


class Footprints:
    """What each actor was seen to touch."""

    def __init__(self, actors: int) -> None:
        self._seen: list[set[Touch]] = [set() for _ in range(actors)]
        self.grown = False

    def add(self, actor: int, touched: Touched) -> None:
        """Remember what a step of `actor` touched; `grown` when steps of others that were taken for
        local would not be any more.
        """
        seen = self._seen[actor]
        for touch in touched:
            if touch not in seen:
                seen.add(touch)
                self.grown = self.grown or not self.is_local(actor, [touch])

    def is_local(self, actor: int, touched: Touched) -> bool:
        """Whether no other actor was ever seen to touch the same in a way that does not commute;
        WHOLE never is.
        """
        if touched and touched[0][0] == WHOLE:
            return False
        for other, seen in enumerate(self._seen):
            if other != actor and any(
                (kind, what, how) in seen for kind, what, mine in touched for how in _CLASHES[mine]
            ):
                return False
        return True


_CLASHES = tuple(
    tuple(how for how in range(3) if (mine, how) not in _COMMUTES) for mine in range(3)
)
