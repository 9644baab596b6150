"""Unpacking a core that was compressed as a whole, `.xz` or `.zst`, to a temporary file."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hvo.errors import HvoError
from hvo.layout.units import format_size

_XZ, _ZST = b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 22
_TOLD_EVERY = 1 << 28


def is_packed(path: Path) -> bool:
    """Whether `path` begins as an xz or zstandard file does; raises `HvoError` when it cannot be
    read.
    """
    return _magic(path).startswith((_XZ, _ZST))


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(6)
    except OSError as error:
        raise HvoError(f"{path}: cannot open the core: {error.strerror}") from None


@contextmanager
def unpacked(path: Path, announce: Callable[[str], None]) -> Generator[Path]:
    """The contents of `path` as a temporary file, gone when the block ends (who has opened it keeps
    it).

    `announce` is told how far it is. Raises `HvoError` when the file is damaged, there is no room,
    or nothing here unpacks zstandard.
    """
    chunks = _xz(path) if _magic(path).startswith(_XZ) else _zst(path)
    with tempfile.TemporaryDirectory(prefix="hvo-") as directory:
        target = Path(directory) / path.stem
        try:
            with target.open("wb") as file:
                _copy(
                    chunks,
                    file,
                    lambda size: announce(f"unpacking {path.name}: {format_size(size)}"),
                )
        except OSError as error:
            raise HvoError(
                f"{path}: cannot unpack the core to {target.parent}: {error.strerror or error}"
            ) from None
        yield target


def _copy(chunks: Iterator[bytes], file: BinaryIO, tell: Callable[[int], None]) -> None:
    done = told = 0
    tell(done)
    for chunk in chunks:
        done += file.write(chunk)
        if done - told >= _TOLD_EVERY:
            told = done
            tell(done)


def _xz(path: Path) -> Iterator[bytes]:
    try:
        with lzma.open(path) as packed:
            while chunk := packed.read(_CHUNK):
                yield chunk
    except (lzma.LZMAError, EOFError) as error:
        raise HvoError(f"{path}: not a whole xz file: {error}") from None


def _zst(path: Path) -> Iterator[bytes]:
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
        while chunk := process.stdout.read(_CHUNK):
            yield chunk
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise HvoError(
            f"{path}: not a whole zstandard file: {said or f'zstd exits with {process.returncode}'}"
        )
