"""A core of the reference material in other containers: kdump-compressed, and as /proc/kcore has
it.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

from hvo.memory.core import open_core
from hvo.memory.elf import MACHINES

_PAGE = 4096


def note(info: str) -> bytes:
    """VMCOREINFO as an ELF note."""
    text = info.encode("latin-1")
    return (
        struct.pack("<III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text + b"\0" * (-len(text) % 4)
    )


def to_kdump(source: Path, target: Path, leave_out: frozenset[int] = frozenset()) -> None:
    """Write the x86-64 ELF core `source` as a kdump-compressed one without the frames `leave_out`
    (makedumpfile's IMPLEMENTATION).
    """
    memory = open_core(source)
    spans = zip(
        (memory.segments.starts // _PAGE).tolist(),
        (memory.segments.ends // _PAGE).tolist(),
        strict=True,
    )
    frames = [
        frame for first, last in spans for frame in range(first, last) if frame not in leave_out
    ]
    bitmap = np.zeros(-(-(frames[-1] + 1) // (8 * _PAGE)) * 8 * _PAGE, np.uint8)
    bitmap[frames] = 1
    packed = np.packbits(bitmap, bitorder="little").tobytes()
    info = memory.vmcoreinfo.to_text()
    notes = note(info)
    sub_pages = -(-(200 + len(notes)) // _PAGE)
    header = struct.pack("<8si", b"KDUMP   ", 6)
    header += b"".join(
        name.ljust(65, b"\0") for name in (b"Linux", b"host", b"6", b"#1", b"x86_64", b"")
    )
    top = frames[-1] + 1
    header += bytes(6 + 16) + struct.pack(
        "<IiiIIIIIii", 1, _PAGE, sub_pages, 2 * len(packed) // _PAGE, top, 0, 0, 0, 0, 1
    )
    at = (1 + sub_pages) * _PAGE - len(notes)
    sub = struct.pack(
        "<Qii11Q", 0, 0, 0, 0, top, at + 24, len(info), at, len(notes), 0, 0, 0, top, top
    )
    head = (
        header.ljust(_PAGE, b"\0")
        + sub.ljust(sub_pages * _PAGE - len(notes), b"\0")
        + notes
        + packed * 2
    )
    _write_pages(
        target, head, [zlib.compress(memory.read(frame * _PAGE, _PAGE), 1) for frame in frames]
    )


def _write_pages(target: Path, head: bytes, pages: list[bytes]) -> None:
    position, table = len(head) + 24 * len(pages), bytearray()
    for data in pages:
        table += struct.pack("<QIIQ", position, len(data), 1, 0)
        position += len(data)
    target.write_bytes(head + table + b"".join(pages))


def to_kcore(source: Path, target: Path) -> None:
    """Write the ELF core `source` as /proc/kcore would be: with a segment that is no RAM, and notes
    of other names before VMCOREINFO.
    """
    memory = open_core(source)
    segments = memory.segments
    notes = (
        struct.pack("<III", 5, 8, 1)
        + b"CORE\0\0\0\0"
        + bytes(8)
        + note(memory.vmcoreinfo.to_text())
    )
    count = len(segments.starts) + 2
    start = 64 + 56 * count + len(notes)
    start += -start % 4096
    rows = [struct.pack("<IIQQQQQQ", 4, 0, 64 + 56 * count, 0, 0, len(notes), len(notes), 4)]
    rows.append(
        struct.pack(
            "<IIQQQQQQ", 1, 7, 1 << 40, 0xFFFFC90000000000, (1 << 64) - 1, 1 << 45, 1 << 45, 4096
        )
    )
    with target.open("wb") as file:
        file.seek(start)
        for first, last in zip(segments.starts.tolist(), segments.ends.tolist(), strict=True):
            size = last - first
            rows.append(
                struct.pack(
                    "<IIQQQQQQ",
                    1,
                    7,
                    file.tell(),
                    0xFFFF888000000000 + first,
                    first,
                    size,
                    size,
                    4096,
                )
            )
            file.write(memory.read(first, size))
        file.seek(0)
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        file.write(
            struct.pack(
                "<16sHHIQQQIHHHHHH",
                ident,
                4,
                MACHINES[memory.arch],
                1,
                0,
                64,
                0,
                0,
                64,
                56,
                count,
                0,
                0,
                0,
            )
        )
        file.write(b"".join(rows) + notes)
