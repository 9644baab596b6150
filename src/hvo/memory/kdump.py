"""Which pages a kdump-compressed core has (`IMPLEMENTATION` and `diskdump_mod.h` of makedumpfile);
drgn unpacks them.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from hvo.errors import HvoError
from hvo.memory.segments import Segments

_HEADER = struct.Struct("<428xiiI")
"""Of struct disk_dump_header: block_size, sub_hdr_size and bitmap_blocks (all sizes in blocks)."""


def read_segments(path: Path) -> Segments:
    """The physical ranges that the kdump-compressed core at `path` has; their offsets are 0, for
    the pages are packed.

    Raises `HvoError` when the file is shorter than its header and bitmap.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise HvoError(
                f"{path}: truncated: the kdump header needs {_HEADER.size} bytes, the file has"
                f" {size}"
            )
        block, sub_blocks, bitmap_blocks = _HEADER.unpack(header)
        start, length = (1 + sub_blocks) * block, bitmap_blocks * block
        if block not in (4096, 16384, 65536) or sub_blocks < 0:
            raise HvoError(
                f"{path}: kdump blocks of {block} bytes at offset 428, expected 4096, 16384 or"
                " 65536"
            )
        if start + length > size:
            raise HvoError(
                f"{path}: truncated: the kdump bitmap ends at offset {start + length}, the file at"
                f" {size}"
            )
        # Two bitmaps of equal size: the pages that exist, then the pages that were dumped.
        file.seek(start + length // 2)
        return _runs(np.frombuffer(file.read(length // 2), np.uint8), block)


def _runs(bitmap: np.ndarray[tuple[int], np.dtype[np.uint8]], page_size: int) -> Segments:
    bits = np.unpackbits(bitmap, bitorder="little")
    changes = np.flatnonzero(np.diff(bits, prepend=np.uint8(0), append=np.uint8(0)))
    edges = changes.astype(np.uint64) * np.uint64(page_size)
    return Segments(edges[::2], edges[1::2], np.zeros(len(edges) // 2, np.uint64))
