"""ELF cores: finding their segments, and writing one (System V ABI, chapters 4 and 5;
`fs/proc/vmcore.c`).
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from hvo.errors import HvoError
from hvo.memory.segments import Segments
from hvo.memory.whole_file import whole_file

MACHINES = {"x86_64": 62, "arm64": 183, "riscv64": 243, "loongarch64": 258}
"""`e_machine` of each architecture."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = np.dtype(
    [
        ("type", "<u4"),
        ("flags", "<u4"),
        ("offset", "<u8"),
        ("vaddr", "<u8"),
        ("paddr", "<u8"),
        ("filesz", "<u8"),
        ("memsz", "<u8"),
        ("align", "<u8"),
    ]
)
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
_ET_CORE, _PT_LOAD, _PT_NOTE, _PN_XNUM = 4, 1, 4, 0xFFFF
_INCOMPLETE = 1
"""DUMP_ELF_INCOMPLETE in `e_flags`: makedumpfile ran out of room."""
_NOTE = struct.Struct("<III")
_MOST, _MOST_NOTES = 1 << 43, 1 << 24
_ALIGN = 4096


class Run(NamedTuple):
    """A physically contiguous piece of memory: `chunks()` yields its `length` bytes from `address`
    on.
    """

    address: int
    length: int
    chunks: Callable[[], Iterable[bytes]]


class ElfLayout(NamedTuple):
    """What a core's headers say: its architecture, where its memory is, its notes one behind the
    other, and, of a dump that makedumpfile says it could not finish, how many bytes are missing.
    """

    arch: str
    segments: Segments
    notes: bytes
    missing: int | None


def read_layout(path: Path) -> ElfLayout:
    """The headers of the ELF core at `path`.

    Raises `HvoError` when it is no 64-bit little-endian ELF core of a known architecture, or
    shorter than its headers say.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise HvoError(
                f"{path}: truncated: the ELF header needs {_HEADER.size} bytes, the file has {size}"
            )
        ident, kind, machine, _, _, phoff, shoff, flags, _, phentsize, phnum, *_ = _HEADER.unpack(
            header
        )
        arch = _checked_arch(path, ident, kind, machine)
        if phentsize != _PROGRAM_HEADER.itemsize:
            raise HvoError(
                f"{path}: program headers of {phentsize} bytes, expected {_PROGRAM_HEADER.itemsize}"
            )
        count = phnum if phnum != _PN_XNUM else _extended_count(path, file, shoff)
        headers = _program_header_table(path, file, phoff, count, size)
        complete = not flags & _INCOMPLETE
        loads, missing = _loads(path, headers[headers["type"] == _PT_LOAD], size, complete)
        notes = b"".join(
            _read_at(file, *place)
            for place in headers[headers["type"] == _PT_NOTE][["offset", "filesz"]].tolist()
        )
        return ElfLayout(arch, _segments(loads), notes, None if complete else missing)


def _checked_arch(path: Path, ident: bytes, kind: int, machine: int) -> str:
    if ident[4] != 2 or ident[5] != 1:
        raise HvoError(
            f"{path}: not a 64-bit little-endian ELF file, expected a core of {', '.join(MACHINES)}"
        )
    if kind != _ET_CORE:
        raise HvoError(f"{path}: an ELF file of type {kind}, expected a core (type {_ET_CORE})")
    for arch, number in MACHINES.items():
        if number == machine:
            return arch
    accepted = ", ".join(f"{arch} ({number})" for arch, number in MACHINES.items())
    raise HvoError(f"{path}: a core of ELF machine {machine}, expected {accepted}")


def _extended_count(path: Path, file: BinaryIO, shoff: int) -> int:
    """Number of program headers where it does not fit 16 bits: `sh_info` of section header 0."""
    file.seek(shoff)
    section = file.read(_SECTION_HEADER.size)
    if len(section) < _SECTION_HEADER.size:
        raise HvoError(
            f"{path}: truncated: no section header at offset {shoff}, which counts the segments"
        )
    return _SECTION_HEADER.unpack(section)[7]


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(min(offset, _MOST))
    return file.read(min(length, _MOST_NOTES))


def vmcoreinfo_note(notes: bytes) -> str | None:
    """The text of the note VMCOREINFO; None if there is none."""
    at = 0
    while at + _NOTE.size <= len(notes):
        names, length, _ = _NOTE.unpack_from(notes, at)
        at += _NOTE.size
        name = notes[at : at + names].rstrip(b"\0")
        at += names + 3 & ~3
        if name == b"VMCOREINFO":
            return notes[at : at + length].rstrip(b"\0").decode("latin-1")
        at += length + 3 & ~3
    return None


def _program_header_table(
    path: Path, file: BinaryIO, phoff: int, count: int, size: int
) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    end = phoff + count * _PROGRAM_HEADER.itemsize
    if end > size:
        raise HvoError(
            f"{path}: truncated: {count} program headers end at offset {end}, the file at {size}"
        )
    file.seek(phoff)
    return np.frombuffer(file.read(end - phoff), _PROGRAM_HEADER)


def _loads(
    path: Path, loads: np.ndarray[tuple[int], np.dtype[np.void]], size: int, complete: bool
) -> tuple[np.ndarray[tuple[int], np.dtype[np.void]], int]:
    """The segments as far as a file of `size` bytes has them, and how many bytes it lacks; raises
    `HvoError` for a dump that should be complete and is not.
    """
    room = np.uint64(size) - np.minimum(loads["offset"], np.uint64(size))
    beyond = loads["filesz"] > room
    if complete and beyond.any():
        load = loads[np.argmax(beyond)]
        raise HvoError(
            f"{path}: truncated: the segment of physical address {int(load['paddr']):#x} ends at"
            f" offset {int(load['offset']) + int(load['filesz'])}, the file at {size}"
        )
    cut = loads.copy()
    cut["filesz"] = np.minimum(loads["filesz"], room)
    return cut, sum((loads["filesz"] - cut["filesz"]).tolist())


def _segments(loads: np.ndarray[tuple[int], np.dtype[np.void]]) -> Segments:
    """Bytes beyond p_filesz were left out of the dump; they are absent, not zero (so does drgn for
    kernels).
    """
    return Segments.of(*(loads[name].astype(np.uint64) for name in ("paddr", "filesz", "offset")))


def write_elf_core(path: Path, arch: str, vmcoreinfo: str, runs: Iterable[Run]) -> None:
    """Write the physical memory `runs` of a machine of `arch` as the ELF core `path`; only headers
    are held in memory.

    Runs that follow each other become one segment; there may be more than 65534 of them. The file
    appears when it is complete, never before. Raises `HvoError` when the architecture is unknown or
    `path` cannot be written, and `ValueError` when a run yields another number of bytes than its
    length.
    """
    if arch not in MACHINES:
        raise HvoError(f"cannot write a core of {arch}, expected {', '.join(MACHINES)}")
    try:
        with whole_file(path) as part, part.open("wb") as file:
            _write(file, MACHINES[arch], _note(vmcoreinfo), runs)
    except OSError as error:
        raise HvoError(f"{path}: cannot write the core: {error.strerror}") from error


def _note(vmcoreinfo: str) -> bytes:
    """The note as QEMU and `/proc/vmcore` have it: name `VMCOREINFO`, type 0."""
    text = vmcoreinfo.encode("latin-1")
    return (
        struct.pack("<III", 11, len(text), 0) + b"VMCOREINFO\0\0" + text + b"\0" * (-len(text) % 4)
    )


def _write(file: BinaryIO, machine: int, note: bytes, runs: Iterable[Run]) -> None:
    """Header, note, memory, then the tables that can only be known afterwards."""
    file.write(bytes(_HEADER.size) + note)
    file.write(bytes(-file.tell() % _ALIGN))
    loads = _write_runs(file, runs)
    phoff = file.tell()
    headers = _program_headers(note, loads)
    file.write(headers.tobytes())
    count, shoff, sections = len(headers), 0, 0
    if count >= _PN_XNUM:
        shoff, sections = file.tell(), 1
        file.write(_SECTION_HEADER.pack(0, 0, 0, 0, 0, 1, 0, count, 0, 0))
        count = _PN_XNUM
    file.seek(0)
    file.write(
        _HEADER.pack(
            _IDENT,
            _ET_CORE,
            machine,
            1,
            0,
            phoff,
            shoff,
            0,
            _HEADER.size,
            _PROGRAM_HEADER.itemsize,
            count,
            _SECTION_HEADER.size,
            sections,
            0,
        )
    )


def _write_runs(file: BinaryIO, runs: Iterable[Run]) -> array[int]:
    """Write the bytes of all runs; address, length and file offset of each segment, one after the
    other.
    """
    loads = array("Q")
    for run in runs:
        start = file.tell()
        file.writelines(run.chunks())
        if file.tell() - start != run.length:
            raise ValueError(
                f"the run at {run.address:#x} yielded {file.tell() - start} bytes, not {run.length}"
            )
        if loads and loads[-3] + loads[-2] == run.address:
            loads[-2] += run.length
        else:
            loads.extend((run.address, run.length, start))
    return loads


def _program_headers(note: bytes, loads: array[int]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    address, length, offset = np.array(loads, np.uint64).reshape(-1, 3).T
    headers = np.zeros(1 + len(address), _PROGRAM_HEADER)
    headers[0] = (_PT_NOTE, 0, _HEADER.size, 0, 0, len(note), len(note), 4)
    memory = headers[1:]
    memory["type"], memory["flags"], memory["align"] = _PT_LOAD, 6, _ALIGN
    memory["paddr"], memory["filesz"], memory["memsz"], memory["offset"] = (
        address,
        length,
        length,
        offset,
    )
    return headers
