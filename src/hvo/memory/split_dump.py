"""Dumps in several files (`makedumpfile --split`), made one again.

Every part has the headers and the bitmaps of the whole dump, and the page descriptors and pages of
a range of frames of its own (`split`, `start_pfn_64` and `end_pfn_64` of its sub-header).
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.memory.kdump import (
    PAGE_DESCRIPTOR,
    SPLIT_OFFSET,
    Header,
    dumped,
    read_descriptors,
    read_header,
)

KDUMP = b"KDUMP   "
_CHUNK = 1 << 22


class _Part(NamedTuple):
    """A file of the dump: its frames, its page descriptors, and where its pages begin."""

    path: Path
    file: BinaryIO
    header: Header
    frames: tuple[int, int]
    table: NDArray[np.void]
    pages: int


@contextmanager
def joined(paths: list[Path], announce: Callable[[str], None]) -> Generator[Path]:
    """The parts `paths`, in any order, as one temporary core, gone when the block ends.

    Raises `HvoError` when one of them is no part of a split dump, they are not of one dump, some
    are missing, or there is no room.
    """
    with ExitStack() as files, tempfile.TemporaryDirectory(prefix="hvo-") as directory:
        parts = sorted((_open(path, files) for path in paths), key=lambda part: part.frames)
        _check(parts)
        target = Path(directory) / paths[0].name
        announce(f"joining {len(parts)} parts of a dump")
        try:
            with target.open("wb") as file:
                _write(parts, file)
        except OSError as error:
            raise HvoError(
                f"{paths[0]}: cannot join the parts in {directory}: {error.strerror}"
            ) from None
        yield target


def _open(path: Path, files: ExitStack) -> _Part:
    try:
        file = files.enter_context(path.open("rb"))
    except OSError as error:
        raise HvoError(f"{path}: cannot open the core: {error.strerror}") from None
    found = file.read(len(KDUMP))
    if found != KDUMP:
        raise HvoError(
            f"{path}: starts with {found!r}: several files must be the parts of one dump, as"
            " makedumpfile --split writes them"
        )
    header = read_header(path, file)
    if header.part is None:
        raise HvoError(f"{path}: a whole dump, not a part of a split one: give it alone")
    first, end = header.part
    count = int(np.count_nonzero(dumped(file, header)[first:end]))
    table = read_descriptors(file, header, count)
    if len(table) < count:
        raise HvoError(f"{path}: truncated: it has {len(table)} of {count} page descriptors")
    at = header.descriptors + count * PAGE_DESCRIPTOR.itemsize
    return _Part(path, file, header, header.part, table, at)


def _check(parts: list[_Part]) -> None:
    """Raise `HvoError` unless `parts` (ascending) are all parts of one dump."""
    first = parts[0]
    whole = dumped(first.file, first.header)
    for part in parts[1:]:
        if not np.array_equal(whole, dumped(part.file, part.header)):
            raise HvoError(f"{part.path}: a part of another dump than {first.path}")
    end = int(np.flatnonzero(whole)[-1]) + 1 if whole.any() else 0
    edges = [(0, 0), *(part.frames for part in parts), (end, end)]
    for (_, before), (after, _) in pairwise(edges):
        if whole[before:after].any():
            raise HvoError(
                f"{first.path}: frames {before:#x} to {after:#x} are in none of the {len(parts)}"
                " files: give all parts of the dump together"
            )
        if after < before and after != end:
            raise HvoError(f"{first.path}: two files have frame {after:#x}: give each part once")


def _write(parts: list[_Part], target: BinaryIO) -> None:
    """Headers and bitmaps of the first part, which then is no part, all descriptors, all pages."""
    first = parts[0]
    first.file.seek(0)
    target.write(first.file.read(first.header.descriptors))
    end = target.tell() + sum(part.table.nbytes for part in parts)
    for table in _moved(parts, end):
        target.write(table.tobytes())
    for part in parts:
        part.file.seek(part.pages)
        shutil.copyfileobj(part.file, target, _CHUNK)
    target.seek(first.header.page_size + SPLIT_OFFSET)
    target.write(struct.pack("<i", 0))


def _moved(parts: list[_Part], start: int) -> Iterator[NDArray[np.void]]:
    """The descriptors of each part with the places that its pages have from `start` on."""
    for part in parts:
        table = part.table.copy()
        there = table["offset"] > 0
        table["offset"][there] += np.uint64(start) - np.uint64(part.pages)
        yield table
        part.file.seek(0, 2)
        start += max(part.file.tell() - part.pages, 0)
