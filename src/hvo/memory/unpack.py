"""Unpacking a core that was compressed as a whole (`.xz`, `.gz`, `.zst`) or written as a stream
(the flattened format) to a temporary file.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from hvo.errors import HvoError
from hvo.layout.units import format_size
from hvo.memory import flattened
from hvo.memory.flattened import Piece

_CHUNK = 1 << 22
_TOLD_EVERY = 1 << 28


def is_packed(path: Path) -> bool:
    """Whether `path` begins as a file does that must be unpacked; raises `HvoError` when it cannot
    be read.
    """
    return _reader(path) is not None


def _reader(path: Path) -> Callable[[Path], Iterator[Piece]] | None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(flattened.SIGNATURE))
    except OSError as error:
        raise HvoError(f"{path}: cannot open the core: {error.strerror}") from None
    return next((reader for start, reader in _READERS.items() if magic.startswith(start)), None)


@contextmanager
def unpacked(path: Path, announce: Callable[[str], None]) -> Generator[Path]:
    """The contents of `path` as a temporary file, gone when the block ends (who has opened it keeps
    it).

    `announce` is told how far it is. Raises `HvoError` when the file is damaged, there is no room,
    or nothing here unpacks zstandard.
    """
    reader = _reader(path)
    assert reader is not None
    with tempfile.TemporaryDirectory(prefix="hvo-") as directory:
        target = Path(directory) / path.stem
        try:
            with target.open("wb") as file:
                _copy(
                    reader(path),
                    file,
                    lambda size: announce(f"unpacking {path.name}: {format_size(size)}"),
                )
        except OSError as error:
            raise HvoError(
                f"{path}: cannot unpack the core to {target.parent}: {error.strerror or error}"
            ) from None
        yield target


def _copy(pieces: Iterator[Piece], file: BinaryIO, tell: Callable[[int], None]) -> None:
    done = told = 0
    tell(done)
    for offset, data in pieces:
        if file.tell() != offset:
            file.seek(offset)
        done += file.write(data)
        if done - told >= _TOLD_EVERY:
            told = done
            tell(done)


def _in_order(packed: IO[bytes] | gzip.GzipFile) -> Iterator[Piece]:
    """All that `packed` gives, one behind the other."""
    offset = 0
    while data := packed.read(_CHUNK):
        yield Piece(offset, data)
        offset += len(data)


def _xz(path: Path) -> Iterator[Piece]:
    try:
        with lzma.open(path) as packed:
            yield from _in_order(packed)
    except (lzma.LZMAError, EOFError) as error:
        raise HvoError(f"{path}: not a whole xz file: {error}") from None


def _gz(path: Path) -> Iterator[Piece]:
    try:
        with gzip.open(path) as packed:
            yield from _in_order(packed)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise HvoError(f"{path}: not a whole gzip file: {error}") from None


def _zst(path: Path) -> Iterator[Piece]:
    """Through the program `zstd`: Python has a reader of its own from 3.14 on only."""
    program = shutil.which("zstd")
    if program is None:
        raise HvoError(
            f"{path}: nothing here unpacks zstandard: install the program zstd, or unpack the file"
            " first"
        )
    with subprocess.Popen(
        [program, "-dcq", "--", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        yield from _in_order(process.stdout)
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise HvoError(
            f"{path}: not a whole zstandard file: {said or f'zstd exits with {process.returncode}'}"
        )


_READERS: dict[bytes, Callable[[Path], Iterator[Piece]]] = {
    b"\xfd7zXZ\0": _xz,
    b"\x1f\x8b": _gz,
    b"\x28\xb5\x2f\xfd": _zst,
    flattened.SIGNATURE: flattened.pieces,
}
"""What reads a file, by how it begins."""
