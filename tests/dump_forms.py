"""A kdump-compressed core in the forms that dumps have: flattened, split, incomplete, with a bad
page.
"""

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np

PAGE = 4096
_STATUS = 424


def flattened(data: bytes) -> bytes:
    """`data` as `makedumpfile -F` writes it, out of order: its first page comes last."""
    records = [(PAGE, data[PAGE:]), (0, data[:PAGE])]
    body = b"".join(struct.pack(">qq", at, len(part)) + part for at, part in records)
    head = (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 1, 1)).ljust(PAGE, b"\0")
    return head + body + struct.pack(">qq", -1, -1)


def places(data: bytes) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    """Where the page descriptors of a kdump core begin, and one bit a frame."""
    sub_blocks, blocks = struct.unpack_from("<iI", data, 432)
    start, length = (1 + sub_blocks) * PAGE, blocks * PAGE
    bitmap = np.frombuffer(data, np.uint8, length // 2, start + length // 2)
    return start + length, np.unpackbits(bitmap, bitorder="little")


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` as the parts that `makedumpfile --split` writes, cut at the frames `cuts`."""
    table, bits = places(data)
    edges = [0, *cuts, len(bits)]
    return [_part(data, table, bits, first, end) for first, end in pairwise(edges)]


def _part(
    data: bytes,
    table: int,
    bits: np.ndarray[tuple[int], np.dtype[np.uint8]],
    first: int,
    end: int,
) -> bytes:
    before, mine = int(bits[:first].sum()), int(bits[first:end].sum())
    head = bytearray(data[:table])
    struct.pack_into("<i", head, PAGE + 12, 1)
    struct.pack_into("<QQ", head, PAGE + 80, first, end)
    at, rows, pages = table + 24 * mine, bytearray(), bytearray()
    for number in range(before, before + mine):
        offset, size, flags, page_flags = struct.unpack_from("<QIIQ", data, table + 24 * number)
        rows += struct.pack("<QIIQ", at + len(pages), size, flags, page_flags)
        pages += data[offset : offset + size]
    return bytes(head + rows + pages)


def incomplete(data: bytes, frames: range = range(0)) -> bytes:
    """`data` as makedumpfile leaves it when there is no room: flagged, and without the pages of
    `frames`.
    """
    out = bytearray(data)
    (status,) = struct.unpack_from("<I", out, _STATUS)
    struct.pack_into("<I", out, _STATUS, status | 8)
    table, bits = places(data)
    for frame in frames:
        if bits[frame]:
            row = table + 24 * int(bits[:frame].sum())
            out[row : row + 24] = bytes(24)
    return bytes(out)


def with_bad_page(data: bytes, frame: int) -> bytes:
    """`data` with a page that cannot be unpacked."""
    table, bits = places(data)
    row = table + 24 * int(bits[:frame].sum())
    offset, size = struct.unpack_from("<QI", data, row)
    return data[:offset] + b"\xff" * size + data[offset + size :]


def write(directory: Path, name: str, data: bytes) -> Path:
    """The file `name` with `data`."""
    (directory / name).write_bytes(data)
    return directory / name
