"""The words of a core's memory: gathered from the mapped file, or from pages that drgn unpacks."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import MemoryFault, Words
from hvo.memory.segments import Segments

Read = Callable[[int, int], bytes]
"""Bytes at a physical address, so many; raises `MemoryFault`."""
_PAGES_AT_A_TIME = 1024


class MappedWords:
    """Words of an uncompressed core, gathered from the mapped file."""

    def __init__(self, path: Path, mapped: mmap.mmap, segments: Segments) -> None:
        self._path = path
        self._segments = segments
        # QEMU puts memory right behind the notes, at any offset: one view for each remainder of 8
        # that occurs.
        self._views = {
            shift: np.frombuffer(mapped, "<u8", (len(mapped) - shift) // 8, shift)
            for shift in np.unique((segments.offsets - segments.starts) % np.uint64(8)).tolist()
        }

    def __call__(self, addresses: Words) -> Words:
        offsets, present = self._segments.locate(addresses)
        _require(self._path, addresses, present)
        if len(self._views) == 1:
            ((shift, view),) = self._views.items()
            return view[(offsets - np.uint64(shift)) >> np.uint64(3)]
        words = np.empty_like(addresses)
        for shift, view in self._views.items():
            here = offsets % np.uint64(8) == shift
            words[here] = view[(offsets[here] - np.uint64(shift)) >> np.uint64(3)]
        return words

    def bytes(self, address: int, length: int) -> bytes:
        """`length` bytes at `address`, word by word."""
        first, end = address & ~7, address + length
        words = self(np.arange(first, end, 8, dtype=np.uint64))
        return words.tobytes()[address - first : end - first]

    def strided(self, starts: Words, count: int, step: int) -> Words:
        """`count` words from each of `starts` on, where only the starts must be looked up: whole
        rows are copied.
        """
        offsets, present = self._segments.locate(starts)
        _require(self._path, starts, present)
        if len(self._views) > 1:
            addresses = starts[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(step)
            return self(addresses.reshape(-1)).reshape(addresses.shape)
        ((shift, view),) = self._views.items()
        rows = len(view) - (count - 1) * (step // 8)
        if rows <= 0 or not len(starts):
            return np.zeros((len(starts), count), np.uint64)
        table = np.lib.stride_tricks.as_strided(view, (rows, count), (8, step), writeable=False)
        return table[((offsets - np.uint64(shift)) >> np.uint64(3)).view(np.int64)]


class PackedWords:
    """Words of a compressed core: each page is read once through drgn, and the words gathered from
    it. `bad` are the numbers of pages that could not be unpacked.
    """

    def __init__(self, path: Path, read: Read, segments: Segments, page_size: int) -> None:
        self._path = path
        self._read_bytes = read
        self._segments = segments
        self._page_size = page_size
        self._one_reader = Lock()
        self._good = set[int]()
        self.bad = set[int]()

    def __call__(self, addresses: Words) -> Words:
        _require(self._path, addresses, self._segments.locate(addresses).present)
        pages, which = np.unique(addresses // np.uint64(self._page_size), return_inverse=True)
        inside = (addresses % np.uint64(self._page_size)) >> np.uint64(3)
        words = np.empty_like(addresses)
        for start in range(0, len(pages), _PAGES_AT_A_TIME):
            here = (which >= start) & (which < start + _PAGES_AT_A_TIME)
            words[here] = self._read(pages[start : start + _PAGES_AT_A_TIME])[
                which[here] - start, inside[here]
            ]
        return words

    def _read(self, pages: Words) -> Words:
        size = self._page_size
        found = [self._page(page) for page in pages.tolist()]
        data = [page for page in found if page is not None]
        if len(data) < len(found):
            lost = np.array([page is None for page in found])
            missing = pages[lost] * np.uint64(size)
            raise MemoryFault(
                f"{self._path}: the page of physical address {int(missing[0]):#x} is damaged"
                f" (with it {len(missing)})",
                missing,
            )
        return np.frombuffer(b"".join(data), "<u8").reshape(len(pages), size // 8)

    def _page(self, page: int) -> bytes | None:
        """The bytes of a page, None if it cannot be unpacked."""
        if page in self.bad:
            return None
        try:
            with self._one_reader:  # libkdumpfile takes one at a time
                return self._read_bytes(page * self._page_size, self._page_size)
        except MemoryFault:
            self.bad.add(page)
            return None

    def unpackable(self, addresses: Words, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of `addresses` lie in pages that can be unpacked, of those `asked` for: each is
        tried once.
        """
        pages = addresses // np.uint64(self._page_size)
        for page in np.unique(pages[asked]).tolist():
            if page not in self._good and self._page(page) is not None:
                self._good.add(page)
        return ~np.isin(pages, np.array(sorted(self.bad), np.uint64))


def _require(path: Path, addresses: Words, present: NDArray[np.bool_]) -> None:
    if present.all():
        return
    missing = addresses[~present]
    more = f" and at {len(missing) - 1} more" if len(missing) > 1 else ""
    raise MemoryFault(f"{path}: no memory at physical address {int(missing[0]):#x}{more}", missing)
