"""What a step reads and changes, as sets of *cells*, so that steps which nobody else can tell from
one another are not interleaved.

A cell is the smallest part of a state that steps are told apart by: a word of memory, how a vmemmap
page is translated, the fate of a frame, a lock. A set of cells is the bits of a number; a cell gets
its bit when it is first touched.

Three ways to touch a cell: to read it, to change it, and to *add* to it, which commutes with itself
(invalidations of the same page, frames freed, counters). Two steps are independent when neither
changes what the other touches, nor adds to what it reads.

Each node of an actor's tree (`hvo.check.search.tree`) has the footprint of all that the actor can
do from there on, learned while searching. A step is *local* when it is independent of everything
that every other actor can still do; local steps go along with the next step of their actor that is
not.

Why nothing is lost (a persistent-set argument: Godefroid, Partial-Order Methods, 1996, chapter 4;
the blocks are Lipton's transactions): take a run to a violation, of least length, and in it the
first local step `t` of an actor behind which another goes on. That other step, and all behind it up
to the next step of the first actor, are among what those actors could still do when `t` was done,
so `t` commutes with each: it can be done later, right before its actor's next step, and when there
is none it can be left out, which would make the run shorter. This ends, in a run made of whole
blocks. Where a footprint grows so that a step was wrongly taken for local, every state in which
that happened is expanded again; in the end none is left.
"""

from typing import Final

WORDS_OF_FRAME: Final = 512
"""Cells of memory are numbered `frame * WORDS_OF_FRAME + word`: physical addresses in words."""
TRANSLATION, STALE, FRAME, STORES, BUFFERS, COPY, LOCK, _OTHER = (
    kind << 40 for kind in range(1, 9)
)
"""Added to a number: how a vmemmap page (or, above `hvo.check.model.state.LEVEL1`, a PMD slot) is
translated, what was added to what TLBs may still hold of it, a frame's fate and kind, whether what
was stored into a frame is visible to all, copies of struct pages into a frame, a lock;
`BUFFERS` is for an actor's store buffer.
"""
SECTIONS, RAW_ERRORS, REFUSALS, FREED, FAULTS, COUNTERS, KEY = (
    _OTHER + number for number in range(7)
)
"""Read-side sections, the records of broken pages, how many allocations may still fail, which
frames the page allocator can hand out, whether faults wait, what the kernel counts, the static key.
"""


class Cells(dict[int, int]):
    """The bit of each cell."""

    def __missing__(self, cell: int) -> int:
        bit = self[cell] = 1 << len(self)
        return bit

    def all_of(self, first: int, count: int) -> int:
        """The bits of `count` cells from `first` on."""
        bits = 0
        for cell in range(first, first + count):
            bits |= self[cell]
        return bits


class Footprint:
    """Sets of cells that are read, changed, and added to."""

    __slots__ = ("adds", "reads", "writes")

    def __init__(self, reads: int = 0, writes: int = 0, adds: int = 0) -> None:
        self.reads, self.writes, self.adds = reads, writes, adds

    def clear(self) -> None:
        """Touch nothing."""
        self.reads = self.writes = self.adds = 0

    def include(self, other: "Footprint") -> bool:
        """Add what `other` touches -> whether there was anything new."""
        if not (
            other.reads & ~self.reads or other.writes & ~self.writes or other.adds & ~self.adds
        ):
            return False
        self.reads |= other.reads
        self.writes |= other.writes
        self.adds |= other.adds
        return True

    def clashes(self, other: "Footprint") -> bool:
        """Whether the two are not independent."""
        writes, others = self.writes, other.writes
        return bool(
            writes & (other.reads | others | other.adds)
            or others & (self.reads | self.adds)
            or self.adds & other.reads
            or self.reads & other.adds
        )
