"""The memory of the running kernel, through `/proc/kcore` (fs/proc/kcore.c).

It is an ELF core of the kernel's address space. Segments of the direct mapping, which is all RAM,
have a physical address; others (vmalloc, modules) have none. Since 5.0 it has VMCOREINFO as a note.
The kernel goes on while it is read: what it just changes may be seen so.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.memory.elf import MACHINES
from hvo.memory.interface import MemoryFault, Words
from hvo.memory.segments import Segments
from hvo.memory.vmcoreinfo import VmcoreInfo

KCORE = Path("/proc/kcore")
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_LOAD = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_PT_LOAD, _PT_NOTE = 1, 4
_NO_ADDRESS = (1 << 64) - 1
_RUN = 1024
"""Pages read at once at most."""


class LiveMemory:
    """The running kernel's memory as a `Memory`; `arch` as in cores, `vmcoreinfo` its constants,
    `segments` the RAM that can be read.
    """

    def __init__(
        self, path: Path, descriptor: int, arch: str, vmcoreinfo: VmcoreInfo, segments: Segments
    ) -> None:
        self.path = path
        self.arch = arch
        self.vmcoreinfo = vmcoreinfo
        self.segments = segments
        self.page_size = vmcoreinfo.page_size
        self._descriptor = descriptor
        self._one_reader = Lock()

    def __del__(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at physical `address`; raises `MemoryFault` when any of them is not
        RAM.
        """
        out = bytearray()
        while len(out) < length:
            place = np.array([address + len(out)], np.uint64)
            offset = self._offsets(place)[0]
            room = self.page_size - (address + len(out)) % self.page_size
            out += self._pread(int(offset), min(room, length - len(out)), place)
        return bytes(out)

    def read_words(self, addresses: Words) -> Words:
        """The 8-byte words at physical `addresses` (multiples of 8, any shape); each page is read
        once, neighbours together.
        """
        flat = np.ascontiguousarray(addresses, np.uint64).reshape(-1)
        size = np.uint64(self.page_size)
        pages, which = np.unique(flat // size, return_inverse=True)
        inside = (flat % size >> np.uint64(3)).astype(np.intp)
        order = np.argsort(which, kind="stable")
        borders = np.searchsorted(which[order], np.arange(len(pages) + 1))
        words = np.empty_like(flat)
        for first, last in _runs(pages, self._offsets(pages * size), self.page_size):
            mine = order[borders[first] : borders[last]]
            words[mine] = self._pages(pages[first:last])[
                (which[mine] - first) * (self.page_size // 8) + inside[mine]
            ]
        return words.reshape(addresses.shape)

    def readable(self, addresses: Words) -> NDArray[np.bool_]:
        """Which of the physical `addresses` (any shape) are RAM."""
        return self.segments.locate(addresses).present

    def _pages(self, pages: Words) -> Words:
        """The words of `pages`, which lie one behind the other in the file."""
        start = pages[:1] * np.uint64(self.page_size)
        return np.frombuffer(
            self._pread(int(self._offsets(start)[0]), len(pages) * self.page_size, start), "<u8"
        )

    def _offsets(self, addresses: Words) -> Words:
        offsets, present = self.segments.locate(addresses)
        if not present.all():
            missing = addresses[~present]
            raise MemoryFault(
                f"{self.path}: no RAM at physical address {int(missing[0]):#x}", missing
            )
        return offsets

    def _pread(self, offset: int, length: int, place: Words) -> bytes:
        """Every open /proc/kcore has one buffer that all its reads go through (`read_kcore_iter`)
        and no lock: two threads that read it at once get bytes of each other's pages.
        """
        try:
            with self._one_reader:
                data = os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise MemoryFault(
                f"{self.path}: cannot read physical address {int(place[0]):#x}: {error.strerror}",
                place,
            ) from None
        if len(data) < length:
            raise MemoryFault(
                f"{self.path}: physical address {int(place[0]):#x} is not all there", place
            )
        return data


def _runs(pages: Words, offsets: Words, page_size: int) -> list[tuple[int, int]]:
    """First and one behind the last of runs of `pages` that follow each other in the file, `_RUN`
    of them at most.
    """
    if not len(pages):
        return []
    follows = (np.diff(pages) == 1) & (np.diff(offsets) == np.uint64(page_size))
    starts = np.concatenate((np.zeros(1, np.intp), np.flatnonzero(~follows) + 1)).tolist()
    runs = zip(starts, [*starts[1:], len(pages)], strict=True)
    return [(at, min(at + _RUN, last)) for first, last in runs for at in range(first, last, _RUN)]


def open_live(path: Path = KCORE) -> LiveMemory:
    """The running kernel's memory; raises `HvoError` when there is none to be had, with what to do
    instead.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise HvoError(
            f"{path}: this kernel has none (CONFIG_PROC_KCORE), or hides it: audit a core of it"
            " instead"
        ) from None
    except PermissionError as error:
        why = "the kernel is locked down" if os.geteuid() == 0 else "it takes root"
        raise HvoError(f"{path}: {error.strerror}: {why}; audit a core of it instead") from None
    except OSError as error:
        raise HvoError(f"{path}: cannot open: {error.strerror}") from None
    try:
        return _parse(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _parse(path: Path, descriptor: int) -> LiveMemory:
    try:
        header = os.pread(descriptor, _HEADER.size, 0)
    except OSError as error:
        raise HvoError(
            f"{path}: cannot read: {error.strerror}: the kernel may be locked down; audit a core of"
            " it instead"
        ) from None
    if len(header) < _HEADER.size or not header.startswith(b"\x7fELF"):
        raise HvoError(f"{path}: not an ELF core, expected one as /proc/kcore is")
    _, _, machine, _, _, phoff, _, _, _, phentsize, phnum, *_ = _HEADER.unpack(header)
    arch = next((name for name, number in MACHINES.items() if number == machine), None)
    if arch is None or phentsize != _LOAD.size:
        raise HvoError(f"{path}: a kernel of ELF machine {machine}, expected {', '.join(MACHINES)}")
    table = os.pread(descriptor, phnum * _LOAD.size, phoff)
    rows = [
        _LOAD.unpack_from(table, at) for at in range(0, len(table) - _LOAD.size + 1, _LOAD.size)
    ]
    notes = [os.pread(descriptor, row[5], row[2]) for row in rows if row[0] == _PT_NOTE]
    return LiveMemory(
        path, descriptor, arch, VmcoreInfo.parse(_vmcoreinfo(path, notes)), _segments(path, rows)
    )


def _segments(path: Path, rows: list[tuple[int, ...]]) -> Segments:
    loads = [
        (row[4], row[5], row[2]) for row in rows if row[0] == _PT_LOAD and row[5] and _is_ram(row)
    ]
    if not loads:
        raise HvoError(
            f"{path}: no segment has a physical address (it has since 4.19): audit a core of this"
            " kernel instead"
        )
    starts, lengths, offsets = np.array(loads, np.uint64).T
    return Segments.of(starts, lengths, offsets)


def _is_ram(row: tuple[int, ...]) -> bool:
    """Segments that are no RAM have the physical address -1; before 5.0 some had 0, as RAM at 0 has
    on x86.
    """
    _, _, _, virtual, physical, size, *_ = row
    return (
        physical != _NO_ADDRESS
        and physical + size < 1 << 56
        and (physical != 0 or virtual & 0xFFFFFFF == 0)
    )


def _vmcoreinfo(path: Path, notes: list[bytes]) -> str:
    for note in notes:
        at = 0
        while at + _NOTE.size <= len(note):
            names, length, _ = _NOTE.unpack_from(note, at)
            name, at = (
                note[at + _NOTE.size : at + _NOTE.size + names].rstrip(b"\0"),
                at + _NOTE.size + (names + 3 & ~3),
            )
            if name == b"VMCOREINFO":
                return note[at : at + length].rstrip(b"\0").decode("latin-1")
            at += length + 3 & ~3
    raise HvoError(
        f"{path}: has no VMCOREINFO (kernels have it there since 5.0): audit a core of this kernel"
        " instead"
    )
