"""The links of tails: in every frame that holds struct pages of a HugeTLB page, they lead to its
head.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns
from hvo.kernel.vmcore import compound_head, is_mask
from hvo.memory.interface import Words
from hvo.memory.strided import Strides, read_what_is_there

_WORDS_AT_A_TIME = 1 << 17
_THREADS = 2
"""Reading links is waiting for memory, and numpy lets go of the interpreter meanwhile; pieces are
of different rows.
"""


class WrongLinks(NamedTuple):
    """For each frame looked at: how many links are `wrong` (-1: the frame is not in the memory),
    `which` one is the first, its `value` and what was `expected` there (uint64; for a link that is
    a mask, the head's address)."""

    wrong: NDArray[np.int64]
    which: NDArray[np.int64]
    value: Words
    expected: Words


@dataclass(frozen=True)
class PendingLinks:
    """Links that threads are looking at: reading them is waiting for memory, and there is other
    work meanwhile.
    """

    out: WrongLinks
    pieces: tuple[Future[None], ...]

    def result(self) -> WrongLinks:
        """What is wrong, when all are looked at."""
        for piece in self.pieces:
            piece.result()
        return self.out


@dataclass(frozen=True)
class Links:
    """The links in struct pages of the kernel of `members`; `structs` of them fill a vmemmap
    page.
    """

    members: PageMembers
    structs: int

    def wrong(self, frames: Pfns, heads: Words, pages: Words) -> WrongLinks:
        """Look at `frames`, which hold the struct pages from virtual address `pages` on, of HugeTLB
        pages with their heads at `heads`.

        Where both addresses are equal the first struct page is the head itself, and is left out.
        """
        return self.begin(frames, heads, pages).result()

    def begin(self, frames: Pfns, heads: Words, pages: Words) -> PendingLinks:
        """The same, while the caller goes on."""
        zeros = np.zeros(len(frames), np.int64)
        out = WrongLinks(
            zeros, zeros.copy(), np.zeros(len(frames), np.uint64), np.zeros(len(frames), np.uint64)
        )
        if self.members.image.page_size % self.members.sections.struct_page_size:
            return PendingLinks(
                out, ()
            )  # one straddles two frames: `hvo.audit.tail_links` reads them
        step = max(1, _WORDS_AT_A_TIME // self.structs)
        pieces = [
            np.arange(first, min(first + step, len(frames)))
            for first in range(0, len(frames), step)
        ]
        threads = ThreadPoolExecutor(_THREADS)
        looked_at = [
            threads.submit(self._look_at, rows, frames, heads, pages, out) for rows in pieces
        ]
        threads.shutdown(wait=False)
        return PendingLinks(out, tuple(looked_at))

    def _look_at(
        self, rows: NDArray[np.intp], frames: Pfns, heads: Words, pages: Words, out: WrongLinks
    ) -> None:
        """Put into `out` at `rows` what is wrong with the struct pages there."""
        links, there = self._read(frames[rows])
        out.wrong[rows[~there]] = -1
        if not there.all():
            rows, links = rows[there], links[there]
        self._look(rows, links, heads[rows], pages[rows], out)

    def _start(self, frames: Pfns) -> Words:
        return frames.astype(np.uint64) * np.uint64(self.members.image.page_size) + np.uint64(
            self.members.link.offset
        )

    def _read(self, frames: Pfns) -> Strides:
        return read_what_is_there(
            self.members.image.memory,
            self._start(frames),
            self.structs,
            self.members.sections.struct_page_size,
        )

    def _look(
        self, rows: NDArray[np.intp], links: Words, heads: Words, pages: Words, out: WrongLinks
    ) -> None:
        """Put into `out` at `rows` what is wrong with `links`, one row for each of them."""
        usual = links[:, -1]
        same = links == usual[:, None]
        own = heads == pages
        same[own, 0] = True  # the head's own word is no link
        led = self._heads(
            usual, pages + np.uint64((self.structs - 1) * self.members.sections.struct_page_size)
        )
        odd = np.flatnonzero(~same.all(axis=1) | (led != heads))
        if odd.size:
            self._judge(rows[odd], links[odd], heads[odd], pages[odd], out)

    def _judge(
        self, rows: NDArray[np.intp], links: Words, heads: Words, pages: Words, out: WrongLinks
    ) -> None:
        inside = np.arange(self.structs, dtype=np.uint64) * np.uint64(
            self.members.sections.struct_page_size
        )
        wrong = self._heads(links, pages[:, None] + inside) != heads[:, None]
        wrong[heads == pages, 0] = False
        first = np.argmax(wrong, axis=1)
        out.wrong[rows] = np.count_nonzero(wrong, axis=1)
        out.which[rows] = first
        out.value[rows] = links[np.arange(len(first)), first]
        out.expected[rows] = heads

    @staticmethod
    def _heads(links: Words, pages: Words) -> Words:
        """Where the struct pages at `pages` find their head; 0 for those that are no tails. A mask
        that leads nowhere near is no mask.
        """
        return np.where(links & np.uint64(1) != 0, compound_head(pages, links), np.uint64(0))

    def masks(self, frames: Pfns, order: int) -> NDArray[np.bool_]:
        """Which of `frames`, each shared by many HugeTLB pages of `order`, hold tails of such pages
        only; True where not readable.
        """
        sound = np.ones(len(frames), np.bool_)
        links, there = self._read(frames)
        rows, links = np.flatnonzero(there), links[there]
        span = np.uint64(self.members.sections.struct_page_size << order)
        sound[rows] = (links == ~span + np.uint64(2)).all(axis=1) & is_mask(
            links - np.uint64(1)
        ).all(axis=1)
        return sound
