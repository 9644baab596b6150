"""The flattened format: a dump written as a stream, to be rearranged (`makedumpfile -F`, QEMU's
`dump-guest-memory` in the kdump formats).

A page that begins with the signature, then records of a place, a length (both 64 bits, big-endian)
and that many bytes to be written there; a record of place and length -1 is the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hvo.errors import HvoError

SIGNATURE = b"makedumpfile\0\0\0\0"
_HEADER_SIZE = 4096
_RECORD = struct.Struct(">qq")
_END = -1
_CHUNK = 1 << 22
_MOST = 1 << 44
"""Bytes of a file that a file system takes."""


class Piece(NamedTuple):
    """Bytes, and where in the rearranged file they belong."""

    offset: int
    data: bytes


def pieces(path: Path) -> Iterator[Piece]:
    """What the flattened dump `path` holds, as it comes; raises `HvoError` when it is not whole."""
    with path.open("rb") as file:
        file.seek(_HEADER_SIZE)
        while True:
            at = file.tell()
            record = file.read(_RECORD.size)
            if len(record) < _RECORD.size:
                raise HvoError(
                    f"{path}: not a whole flattened dump: it ends at {at} with no end mark"
                )
            offset, length = _RECORD.unpack(record)
            if offset == _END or length == _END:
                return
            if offset < 0 or length < 0 or offset + length > _MOST:
                raise HvoError(
                    f"{path}: not a flattened dump: the record at {at} is for {length} bytes at"
                    f" {offset}"
                )
            yield from _data(path, file, offset, length)


def _data(path: Path, file: BinaryIO, offset: int, length: int) -> Iterator[Piece]:
    while length:
        data = file.read(min(length, _CHUNK))
        if not data:
            raise HvoError(
                f"{path}: not a whole flattened dump: it ends {length} bytes before its last record"
                " does"
            )
        yield Piece(offset, data)
        offset, length = offset + len(data), length - len(data)
