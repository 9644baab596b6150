"""Simulated physical memory: only what was written exists, and a frame of struct pages is kept as a
template plus exceptions.

A TiB of RAM has 16 GiB of struct pages; nearly all frames of them hold 64 copies of one 64-byte row
that differ, from frame to frame, in one word (the link of a tail to its head). Such a frame is kept
as (row, link) and, for the frame of a head, its first two struct pages as they are. Anything else
is kept as plain words. What is read is the same either way: the true bytes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hvo.memory.frames import Slab, SlotTable
from hvo.memory.interface import Memory, MemoryFault, Words

Pfns = NDArray[np.int64]
ROW_WORDS = 8
"""Words of a struct page: rows are 64 bytes."""
LINK_WORD = 1
"""The word of a row that may differ from frame to frame."""
_PREFIX_WORDS = 2 * ROW_WORDS
_AT_ONCE = 1 << 18  # frames worked on at once: temporaries of a few MB


class SimulatedMemory:
    """Writable memory over `ranges` of RAM (physical start and end in bytes); frames never written
    read as `backing`, else as zeros.
    """

    def __init__(
        self, page_size: int, ranges: Sequence[tuple[int, int]], *, backing: Memory | None = None
    ) -> None:
        self.page_size = page_size
        self.backing = backing
        self._shift = page_size.bit_length() - 1
        self._words = page_size // 8
        self._slots = (
            SlotTable()
        )  # 0: never written, n: plain words in slot n-1, -n: a frame of rows in slot n-1
        frames = sum(end - start for start, end in ranges) // page_size
        templates = (
            frames * 72 // page_size
        )  # frames of struct pages, and an eighth more for copies of heads
        self._plain = Slab(self._words, np.uint64, frames // 4096)
        self._row = Slab(1, np.int32, templates)
        self._link = Slab(1, np.uint64, templates)
        self._prefix_of = Slab(1, np.int32, templates)
        self._prefix = Slab(_PREFIX_WORDS, np.uint64, templates // 4)
        self._table = np.zeros((0, ROW_WORDS), np.uint64)
        self._linked = np.zeros(0, np.bool_)
        self._row_ids: dict[tuple[bytes, bool], int] = {}
        self.set_ranges(ranges)

    # -- RAM that is there --

    def set_ranges(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Say which physical ranges hold RAM from now on (memory hotplug)."""
        self.ranges = sorted(ranges)
        self._starts = np.array([start for start, _ in self.ranges], np.uint64)
        self._ends = np.array([end for _, end in self.ranges], np.uint64)

    def readable(self, addresses: Words) -> NDArray[np.bool_]:
        """Which of `addresses` lie in RAM."""
        if len(self.ranges) == 1:
            return (addresses >= self._starts[0]) & (addresses < self._ends[0])
        index = np.searchsorted(self._starts, addresses, side="right") - 1
        return (index >= 0) & (addresses < self._ends[np.maximum(index, 0)])

    def _check(self, addresses: Words) -> None:
        if (
            addresses.size
            and len(self.ranges) == 1
            and addresses.min() >= self._starts[0]
            and addresses.max() < self._ends[0]
        ):
            return
        bad = addresses[~self.readable(addresses)] if addresses.size else addresses
        if bad.size:
            raise MemoryFault(f"no RAM at physical address {int(bad.flat[0]):#x}", bad.ravel())

    # -- reading --

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at `address`."""
        first, last = address & ~7, (address + length + 7) & ~7
        words = self.read_words(np.arange(first, last, 8, dtype=np.uint64))
        return words.tobytes()[address - first : address - first + length]

    def read_words(self, addresses: Words) -> Words:
        """The words at `addresses` (multiples of 8, any shape)."""
        addresses = np.asarray(addresses, np.uint64)
        flat = addresses.ravel()
        codes = self._slots.get((flat >> np.uint64(self._shift)).view(np.int64))
        word = ((flat & np.uint64(self.page_size - 1)) >> np.uint64(3)).view(np.int64)
        if flat.size and codes.min() > 0:
            return (
                self._plain.rows.reshape(-1)
                .take(self._places(codes, word))
                .reshape(addresses.shape)
            )
        self._check(flat[codes == 0])
        out = np.zeros(flat.size, np.uint64)
        plain, rows = codes > 0, codes < 0
        out[plain] = self._plain.rows[codes[plain] - 1, word[plain]]
        out[rows] = self._read_rows(-codes[rows] - 1, word[rows])
        if self.backing is not None and (absent := codes == 0).any():
            out[absent] = self._read_backing(flat[absent])
        return out.reshape(addresses.shape)

    def _places(self, codes: NDArray[np.int32], word: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where words of plain frames stand among all of them."""
        places = np.multiply(codes, self._words, dtype=np.int64)
        places += word
        places -= self._words
        return places

    def _read_rows(self, slots: NDArray[np.int32], word: NDArray[np.int64]) -> Words:
        row = self._row.rows[slots, 0]
        column = word % ROW_WORDS
        out = self._table[row, column]
        linked = (column == LINK_WORD) & self._linked[row]
        out[linked] = self._link.rows[slots[linked], 0]
        prefix = self._prefix_of.rows[slots, 0]
        own = (word < _PREFIX_WORDS) & (prefix >= 0)
        out[own] = self._prefix.rows[prefix[own], word[own]]
        return out

    def _read_backing(self, addresses: Words) -> Words:
        assert self.backing is not None
        there = self.backing.readable(addresses)
        out = np.zeros(addresses.size, np.uint64)
        out[there] = self.backing.read_words(addresses[there])
        return out

    # -- writing --

    def write(self, address: int, data: bytes) -> None:
        """Store `data` at `address`."""
        first, last = address & ~7, (address + len(data) + 7) & ~7
        addresses = np.arange(first, last, 8, dtype=np.uint64)
        old = bytearray(self.read_words(addresses).tobytes())
        old[address - first : address - first + len(data)] = data
        self.write_words(addresses, np.frombuffer(bytes(old), np.uint64))

    def write_words(self, addresses: Words, values: Words | int) -> None:
        """Store `values` (broadcast) at `addresses`; a later duplicate wins."""
        addresses = np.asarray(addresses, np.uint64)
        flat = addresses.ravel()
        data = np.broadcast_to(np.asarray(values, np.uint64), addresses.shape).ravel()
        pfns = (flat >> np.uint64(self._shift)).view(np.int64)
        word = ((flat & np.uint64(self.page_size - 1)) >> np.uint64(3)).view(np.int64)
        codes = self._slots.get(pfns)
        if flat.size and codes.min() > 0:
            self._plain.rows.reshape(-1)[self._places(codes, word)] = data
            return
        odd = (codes == 0) | ((codes < 0) & (word >= _PREFIX_WORDS))
        if odd.any():
            self._check(flat[codes == 0])
            self._make_plain(np.unique(pfns[odd]))
            codes = self._slots.get(pfns)
        plain, rows = codes > 0, codes < 0
        self._plain.rows[codes[plain] - 1, word[plain]] = data[plain]
        if rows.any():
            own = self._own_prefix(-codes[rows] - 1)
            self._prefix.rows[own, word[rows]] = data[rows]

    def _own_prefix(self, slots: NDArray[np.int32]) -> NDArray[np.int32]:
        lacking = np.unique(slots[self._prefix_of.rows[slots, 0] < 0])
        if lacking.size:
            prefix = self._prefix.take(lacking.size)
            self._prefix.rows[prefix] = np.tile(self._row_words(lacking), 2)
            self._prefix_of.rows[lacking, 0] = prefix
        return self._prefix_of.rows[slots, 0]

    def _row_words(self, slots: NDArray[np.int32]) -> Words:
        row = self._row.rows[slots, 0]
        words = self._table[row]
        linked = self._linked[row]
        words[linked, LINK_WORD] = self._link.rows[slots[linked], 0]
        return words

    def _make_plain(self, pfns: Pfns) -> None:
        words = self.read_frames(pfns)
        self.forget(pfns)
        slots = self._plain.take(pfns.size)
        self._plain.rows[slots] = words
        self._slots.set(pfns, slots + 1)

    # -- whole frames --

    def read_frames(self, pfns: Pfns) -> Words:
        """The words of the frames `pfns`, shape (frames, words of a frame)."""
        self._check(pfns.astype(np.uint64) << np.uint64(self._shift))
        codes = self._slots.get(pfns)
        out = np.zeros((pfns.size, self._words), np.uint64)
        plain, rows = codes > 0, codes < 0
        out[plain] = self._plain.rows[codes[plain] - 1]
        out[rows] = self._whole_rows(-codes[rows] - 1)
        if self.backing is not None and (absent := codes == 0).any():
            starts = pfns[absent].astype(np.uint64) << np.uint64(self._shift)
            words = self._read_backing(
                (starts[:, None] + np.arange(0, self.page_size, 8, dtype=np.uint64)).ravel()
            )
            out[absent] = words.reshape(-1, self._words)
        return out

    def _whole_rows(self, slots: NDArray[np.int32]) -> Words:
        """Whole frames of rows, shape (frames, words of a frame)."""
        row, prefix = self._row.rows[slots, 0], self._prefix_of.rows[slots, 0]
        out = np.empty((slots.size, self._words // ROW_WORDS, ROW_WORDS), np.uint64)
        out[:] = self._table[row][:, None]
        linked, own = self._linked[row], prefix >= 0
        out[linked, :, LINK_WORD] = self._link.rows[slots[linked]]
        out = out.reshape(slots.size, self._words)
        out[own, :_PREFIX_WORDS] = self._prefix.rows[prefix[own]]
        return out

    def write_frames(self, pfns: Pfns, words: Words | int) -> None:
        """Store whole frames; `words` has shape (frames, words of a frame) or broadcasts to it."""
        self._check(pfns.astype(np.uint64) << np.uint64(self._shift))
        codes = self._slots.get(pfns)
        fresh = pfns[codes <= 0]
        self.forget(fresh)
        self._slots.set(fresh, self._plain.take(fresh.size) + 1)
        self._plain.rows[self._slots.get(pfns) - 1] = words

    def written(self) -> Pfns:
        """Numbers of the frames that were written, ascending."""
        return self._slots.items()[0]

    def forget(self, pfns: Pfns) -> None:
        """Drop what the frames `pfns` hold; they read as never written."""
        codes = self._slots.get(pfns)
        self._plain.give_back(codes[codes > 0] - 1)
        slots = -codes[codes < 0] - 1
        prefix = self._prefix_of.rows[slots, 0]
        self._prefix.give_back(prefix[prefix >= 0])
        for slab in (self._row, self._link, self._prefix_of):
            slab.give_back(slots)
        self._slots.set(pfns[codes != 0], 0)

    # -- frames of struct pages --

    def fill_rows(self, pfns: Pfns, row: Words, links: Words | None = None) -> None:
        """Make every struct page of the frames `pfns` equal `row` (8 words), with word 1 from
        `links` (one a frame) where given.
        """
        for start in range(0, len(pfns), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            self._fill_rows(pfns[piece], row, None if links is None else links[piece])

    def _fill_rows(self, pfns: Pfns, row: Words, links: Words | None) -> None:
        codes = self._slots.get(pfns)
        self.forget(pfns[codes > 0])
        fresh = pfns[codes >= 0]
        slots = self._row.take(fresh.size)
        self._same_slots(slots, fresh.size)
        self._slots.set(fresh, -slots - 1)
        every = -self._slots.get(pfns) - 1
        prefix = self._prefix_of.rows[every, 0][codes < 0]
        self._prefix.give_back(prefix[prefix >= 0])
        self._prefix_of.rows[every, 0] = -1
        self._row.rows[every, 0] = self._row_id(row, links is not None)
        self._link.rows[every, 0] = 0 if links is None else links

    def _same_slots(self, slots: NDArray[np.int32], count: int) -> None:
        # the three columns of a frame of rows are taken and given back together, so they hand out
        # equal indices
        assert np.array_equal(self._link.take(count), slots)
        assert np.array_equal(self._prefix_of.take(count), slots)

    def _row_id(self, row: Words, linked: bool) -> int:
        key = (row.astype(np.uint64).tobytes(), linked)
        if key not in self._row_ids:
            self._row_ids[key] = len(self._table)
            self._table = np.concatenate([self._table, np.asarray(row, np.uint64)[None]])
            self._linked = np.append(self._linked, linked)
        return self._row_ids[key]

    def update_rows(
        self, pfns: Pfns, values: Mapping[int, int], links: Words | None = None
    ) -> None:
        """In every struct page of the frames `pfns` set the words `values` (word index to value),
        and word 1 to `links` where given.
        """
        codes = self._slots.get(pfns)
        rows = codes < 0
        if not rows.all():
            self._update_plain(pfns[~rows], values, None if links is None else links[~rows])
        slots = -codes[rows] - 1
        chosen = links[rows] if links is not None else None
        for old in np.unique(self._row.rows[slots, 0]).tolist():
            self._update_like(slots, self._row.rows[slots, 0] == old, old, values, chosen)

    def _update_like(
        self,
        slots: NDArray[np.int32],
        same: NDArray[np.bool_],
        old: int,
        values: Mapping[int, int],
        links: Words | None,
    ) -> None:
        chosen = slots if same.all() else slots[same]
        row = self._table[old].copy()
        row[list(values)] = list(values.values())
        linked = links is not None or (bool(self._linked[old]) and LINK_WORD not in values)
        self._row.rows[chosen, 0] = self._row_id(row, linked)
        if links is not None:
            self._link.rows[chosen, 0] = links if chosen is slots else links[same]
        prefix = self._prefix_of.rows[chosen, 0]
        own = prefix >= 0
        if own.any():
            self._update_prefix(
                prefix[own], values, None if links is None else self._link.rows[chosen[own], 0]
            )

    def _update_prefix(
        self, prefix: NDArray[np.int32], values: Mapping[int, int], links: Words | None
    ) -> None:
        for start in (0, ROW_WORDS):
            for word, value in values.items():
                self._prefix.rows[prefix, start + word] = value
            if links is not None:
                self._prefix.rows[prefix, start + LINK_WORD] = links

    def _update_plain(self, pfns: Pfns, values: Mapping[int, int], links: Words | None) -> None:
        self._make_plain(pfns[self._slots.get(pfns) <= 0])
        frames = self._slots.get(pfns) - 1
        for word, value in values.items():
            self._plain.rows[frames, word::ROW_WORDS] = value
        if links is not None:
            self._plain.rows[frames, LINK_WORD::ROW_WORDS] = links[:, None]

    def rows_hold(
        self, pfns: Pfns, word: int, values: Words, *, but_first: bool = False
    ) -> NDArray[np.bool_]:
        """Whether `word` of every struct page of each of the frames `pfns` is that frame's one of
        `values`.

        `but_first`: the first struct page of the frame does not matter.
        """
        codes = self._slots.get(pfns)
        out = np.zeros(pfns.shape, np.bool_)
        rows = codes < 0
        out[rows] = self._templates_hold(-codes[rows] - 1, word, values[rows], but_first)
        if not rows.all():
            words = self.read_frames(pfns[~rows])[:, word + but_first * ROW_WORDS :: ROW_WORDS]
            out[~rows] = (words == values[~rows, None]).all(axis=1)
        return out

    def _templates_hold(
        self, slots: NDArray[np.int32], word: int, values: Words, but_first: bool
    ) -> NDArray[np.bool_]:
        row = self._row.rows[slots, 0]
        found: Words = self._table[row, word]
        if word == LINK_WORD:
            found = np.where(self._linked[row], self._link.rows[slots, 0], found)
        same = found == values
        prefix = self._prefix_of.rows[slots, 0]
        own = prefix >= 0
        for start in range(but_first * ROW_WORDS, _PREFIX_WORDS, ROW_WORDS):
            same[own] &= self._prefix.rows[prefix[own], start + word] == values[own]
        return same

    def copy_frames(self, sources: Pfns, targets: Pfns, *, reset: int = 0) -> None:
        """Make the frames `targets` hold what `sources` hold (pairs; no target is a source).

        With `reset`, struct pages `reset` to `2 * reset - 1` of each copy are then copied over the
        first `reset`.
        """
        codes = self._slots.get(sources)
        rows = codes < 0
        if rows.all():
            self._copy_rows(-codes - 1, targets, reset)
            return
        self._copy_rows(-codes[rows] - 1, targets[rows], reset)
        words = self.read_frames(sources[~rows])
        words[:, : reset * ROW_WORDS] = words[:, reset * ROW_WORDS : 2 * reset * ROW_WORDS]
        self.write_frames(targets[~rows], words)

    def _copy_rows(self, slots: NDArray[np.int32], targets: Pfns, reset: int) -> None:
        self.forget(targets)
        own = self._row.take(targets.size)
        self._same_slots(own, targets.size)
        self._slots.set(targets, -own - 1)
        self._row.rows[own] = self._row.rows[slots]
        self._link.rows[own] = self._link.rows[slots]
        self._prefix_of.rows[own, 0] = -1
        if reset * ROW_WORDS >= _PREFIX_WORDS:
            return  # what is copied over them are struct pages of the template
        assert reset == 0, "a reset of part of the first struct pages is not kept as a template"
        prefix = self._prefix_of.rows[slots, 0]
        has = prefix >= 0
        copies = self._prefix.take(int(has.sum()))
        self._prefix.rows[copies] = self._prefix.rows[prefix[has]]
        self._prefix_of.rows[own[has], 0] = copies
