"""Which pages a kdump-compressed core has (`IMPLEMENTATION` and `diskdump_mod.h` of makedumpfile);
drgn unpacks them.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.memory.segments import Segments

Bits = NDArray[np.uint8]

PAGE_DESCRIPTOR = np.dtype(
    [("offset", "<u8"), ("size", "<u4"), ("flags", "<u4"), ("page_flags", "<u8")]
)
"""`page_desc_t`: where the data of a page lies in the file, and how long it is."""
SPLIT_OFFSET = 12
"""Where in the sub-header its word `split` is, before two words of the frames of old versions."""
_HEADER = struct.Struct("<272x65s87xIiiI")
"""Of struct disk_dump_header: utsname.machine, status, block_size, sub_hdr_size and bitmap_blocks
(both in blocks).
"""
_ARCHITECTURES = {
    b"x86_64": "x86_64",
    b"aarch64": "arm64",
    b"riscv64": "riscv64",
    b"loongarch64": "loongarch64",
}
_SUB_HEADER = struct.Struct("<8xii64xQQQ")
"""Of struct kdump_sub_header: dump_level, split, start_pfn_64, end_pfn_64 and max_mapnr_64."""
_INCOMPLETE = 1 << 3
"""DUMP_DH_COMPRESSED_INCOMPLETE in `status`: makedumpfile ran out of room."""
_PAGE_SIZES = (4096, 16384, 65536)


class Header(NamedTuple):
    """What the headers of a core say: the architecture, bytes of a page, where its bitmap of dumped
    pages and its page descriptors begin, bytes of the bitmap, whether the dump is complete, and the
    frames (first, one behind the last) that this part of a split dump has (None: it is whole).
    """

    arch: str
    page_size: int
    bitmap: int
    descriptors: int
    bitmap_bytes: int
    complete: bool
    part: tuple[int, int] | None


class Contents(NamedTuple):
    """The architecture, the physical ranges that can be read, with offsets 0, for the pages are
    packed; and how many pages the dump should have and lacks.
    """

    arch: str
    segments: Segments
    lacking: int
    complete: bool


def read_contents(path: Path) -> Contents:
    """What the kdump-compressed core at `path` has.

    Raises `HvoError` when the file is shorter than its header and bitmap, or one part of several.
    """
    with path.open("rb") as file:
        header = read_header(path, file)
        if header.part is not None:
            raise HvoError(
                f"{path}: a part of a split dump, with frames {header.part[0]:#x} to"
                f" {header.part[1]:#x}: give all its parts together"
            )
        bits = dumped(file, header)
        table = read_descriptors(file, header, int(np.count_nonzero(bits)))
        size = os.fstat(file.fileno()).st_size
    there = _within(table, size)
    pages = np.flatnonzero(bits)
    bits[pages[: len(there)][~there]] = 0
    bits[pages[len(there) :]] = 0
    lacking = len(pages) - int(np.count_nonzero(there))
    return Contents(header.arch, _runs(bits, header.page_size), lacking, header.complete)


def read_header(path: Path, file: BinaryIO) -> Header:
    """The headers of the core `file`; raises `HvoError` when they make no sense."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise HvoError(
            f"{path}: truncated: the kdump header needs {_HEADER.size} bytes, the file has {size}"
        )
    machine, status, block, sub_blocks, bitmap_blocks = _HEADER.unpack(head)
    arch = _ARCHITECTURES.get(machine.rstrip(b"\0"))
    start, length = (1 + sub_blocks) * block, bitmap_blocks * block
    if block not in _PAGE_SIZES or sub_blocks < 0:
        raise HvoError(
            f"{path}: kdump blocks of {block} bytes at offset 428, expected 4096, 16384 or 65536"
        )
    if start + length > size:
        raise HvoError(
            f"{path}: truncated: the kdump bitmap ends at offset {start + length}, the file at"
            f" {size}"
        )
    if arch is None:
        raise HvoError(
            f"{path}: a core of machine {machine.rstrip(bytes(1))!r}, expected"
            f" {', '.join(name.decode() for name in _ARCHITECTURES)}"
        )
    file.seek(block)
    sub = file.read(_SUB_HEADER.size if sub_blocks else 0).ljust(_SUB_HEADER.size, b"\0")
    _, split, first, end, _ = _SUB_HEADER.unpack(sub)
    # Two bitmaps of equal size: the pages that exist, then the pages that were dumped.
    return Header(
        arch,
        block,
        start + length // 2,
        start + length,
        length // 2,
        not status & _INCOMPLETE,
        (first, end) if split else None,
    )


def dumped(file: BinaryIO, header: Header) -> Bits:
    """One element a frame: 1 where the dump should have it."""
    file.seek(header.bitmap)
    bitmap = np.frombuffer(file.read(header.bitmap_bytes), np.uint8)
    return np.unpackbits(bitmap, bitorder="little")


def read_descriptors(file: BinaryIO, header: Header, count: int) -> NDArray[np.void]:
    """The first `count` page descriptors, or those that the file has."""
    file.seek(header.descriptors)
    data = file.read(count * PAGE_DESCRIPTOR.itemsize)
    whole = len(data) // PAGE_DESCRIPTOR.itemsize
    return np.frombuffer(data, PAGE_DESCRIPTOR, whole)


def _within(table: NDArray[np.void], size: int) -> NDArray[np.bool_]:
    """Which descriptors have data that lies in a file of `size` bytes."""
    offset, length = table["offset"], table["size"].astype(np.uint64)
    room = np.uint64(size) - np.minimum(offset, np.uint64(size))
    return (offset > 0) & (length > 0) & (length <= room)


def _runs(bits: Bits, page_size: int) -> Segments:
    changes = np.flatnonzero(np.diff(bits, prepend=np.uint8(0), append=np.uint8(0)))
    edges = changes.astype(np.uint64) * np.uint64(page_size)
    return Segments(edges[::2], edges[1::2], np.zeros(len(edges) // 2, np.uint64))
