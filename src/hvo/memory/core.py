"""Physical memory of a dumped kernel: ELF and kdump-compressed cores, without debug symbols.

drgn reads both, but for ELF cores without a VMCOREINFO note. The words of an ELF core, whose pages
lie in the file as they were, are gathered from the mapped file instead: a scattered read through
drgn costs 1.5 us, and an audit of 1 TiB reads millions of words.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import drgn
import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.memory import kdump
from hvo.memory.core_words import MappedWords, PackedWords, Read
from hvo.memory.elf import read_layout, vmcoreinfo_note
from hvo.memory.interface import MemoryFault, Words
from hvo.memory.segments import Segments
from hvo.memory.vmcoreinfo import VmcoreInfo

_DRGN_ARCH = {
    "x86_64": drgn.Architecture.X86_64,
    "arm64": drgn.Architecture.AARCH64,
    "riscv64": drgn.Architecture.RISCV64,
    "loongarch64": drgn.Architecture.LOONGARCH64,
}
_CHUNK = 1 << 18
"""Addresses gathered at a time: the temporaries stay in cache and bounded."""

Gather = Callable[[Words], Words]
"""Words at addresses (one dimension), all of them present."""


class CoreMemory:
    """A core file as a `Memory`; `segments` are the physical ranges it has, `arch` "x86_64",
    "arm64", "riscv64" or "loongarch64".
    """

    def __init__(
        self,
        path: Path,
        read: Read,
        arch: str,
        vmcoreinfo: VmcoreInfo,
        segments: Segments,
        gather: Gather,
        lacks: list[str],
    ) -> None:
        self.path = path
        self.arch = arch
        self.vmcoreinfo = vmcoreinfo
        self.segments = segments
        self.page_size = vmcoreinfo.page_size
        self._read = read
        self._gather = gather
        self._lacks = lacks

    def lacks(self) -> list[str]:
        """What the dump should have and has not, as far as it is known by now, in words."""
        bad = self._gather.bad if isinstance(self._gather, PackedWords) else set[int]()
        said = f"{len(bad)} pages of the dump are damaged and cannot be unpacked"
        return [*self._lacks, *([said] if bad else [])]

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at physical `address`; raises `MemoryFault` when any of them is
        missing.
        """
        return self._read(address, length)

    def read_words(self, addresses: Words) -> Words:
        """The 8-byte words at physical `addresses` (multiples of 8, any shape); `MemoryFault` names
        those missing.
        """
        flat = np.ascontiguousarray(addresses, np.uint64).reshape(-1)
        words = np.empty_like(flat)
        for start in range(0, len(flat), _CHUNK):
            words[start : start + _CHUNK] = self._gather(flat[start : start + _CHUNK])
        return words.reshape(addresses.shape)

    def read_strided(self, starts: Words, count: int, step: int) -> Words:
        """The words at `starts[i] + j * step`, j < `count`, each row of which lies in one frame
        (see `hvo.memory.strided`).
        """
        if isinstance(self._gather, MappedWords):
            return self._gather.strided(starts, count, step)
        return self.read_words(
            starts[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(step)
        )

    def readable(self, addresses: Words) -> NDArray[np.bool_]:
        """Which of the physical `addresses` (any shape) the core has."""
        present = self.segments.locate(addresses).present
        if isinstance(self._gather, PackedWords):
            present &= self._gather.unpackable(addresses, present)
        return present


def open_core(path: str | Path) -> CoreMemory:
    """Open an ELF or kdump-compressed core.

    Raises `HvoError` when `path` cannot be read, is no such core, is truncated, or has no
    VMCOREINFO anywhere.
    """
    path = Path(path)
    magic = _magic(path)
    if magic.startswith(b"\x7fELF"):
        return _open_elf(path)
    if magic == b"KDUMP   ":
        return _open_kdump(path)
    raise HvoError(f"{path}: {_named(magic)}")


_OTHERS = {
    b"EMiL": "is a LiME image of memory",
    b"AVML": "is an AVML image of memory",
    b"DISKDUMP": "is a diskdump of a kernel before 2.6.20",
    b"PAGEDU64": "is a crash dump of Windows",
}
_INSTEAD = (
    "expected an ELF or kdump-compressed core of a Linux kernel: take one with kdump, or of a guest"
    " with virsh dump --memory-only or QEMU's dump-guest-memory"
)


def _named(magic: bytes) -> str:
    """What a file that is no core is, by how it begins, and what to do."""
    if not magic:
        return f"is empty, {_INSTEAD}"
    for start, what in _OTHERS.items():
        if magic.startswith(start):
            return f"{what}, {_INSTEAD}"
    return (
        f"starts with {magic!r}, as a raw image of memory may, which does not say where in memory"
        f" its bytes lie; {_INSTEAD}"
    )


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise HvoError(f"{path}: cannot open the core: {error.strerror}") from None


def _open_elf(path: Path) -> CoreMemory:
    layout = read_layout(path)
    mapped = _map(path)
    gather = MappedWords(path, mapped, layout.segments)
    text = vmcoreinfo_note(layout.notes)
    if text is None:
        # drgn refuses QEMU's cores of x86-64 without this note, so their bytes are read here.
        text, read = _search_vmcoreinfo(path, mapped), gather.bytes
    else:
        read = partial(_read, path, _program(path))
    lacks = (
        []
        if layout.missing is None
        else [f"makedumpfile could not finish this dump: {layout.missing} bytes are missing"]
    )
    return CoreMemory(
        path, read, layout.arch, VmcoreInfo.parse(text), layout.segments, gather, lacks
    )


def _open_kdump(path: Path) -> CoreMemory:
    contents = kdump.read_contents(path)
    # QEMU leaves the names of the system out of the header, and drgn then the architecture.
    program = _program(path, drgn.Platform(_DRGN_ARCH[contents.arch]))
    info = VmcoreInfo.parse(_vmcoreinfo(program))
    read = partial(_read, path, program)
    gather = PackedWords(path, read, contents.segments, info.page_size)
    return CoreMemory(path, read, contents.arch, info, contents.segments, gather, _lacks(contents))


def _lacks(contents: kdump.Contents) -> list[str]:
    """What a kdump-compressed core should have and has not, in words."""
    if contents.complete and not contents.lacking:
        return []
    why = "" if contents.complete else "makedumpfile could not finish this dump: "
    return [f"{why}{contents.lacking} pages that it should have are not in the file"]


def _program(path: Path, platform: drgn.Platform | None = None) -> drgn.Program:
    program = drgn.Program(platform)
    try:
        program.set_core_dump(path)
    # drgn raises ValueError for what is no core, and a bare Exception for what libelf or
    # libkdumpfile cannot parse.
    except Exception as error:
        raise HvoError(f"{path}: drgn cannot open the core: {error}") from error
    return program


def _vmcoreinfo(program: drgn.Program) -> str:
    return program["VMCOREINFO"].string_().decode("latin-1")


def _read(path: Path, program: drgn.Program, address: int, length: int) -> bytes:
    try:
        return program.read(address, length, physical=True)
    except drgn.FaultError as fault:
        missing = np.array([fault.address], np.uint64)
        raise MemoryFault(
            f"{path}: cannot read physical address {fault.address:#x}: {fault.message}", missing
        ) from None
    # libkdumpfile's own errors, such as data that cannot be unpacked, have no type of their own.
    except Exception as error:
        missing = np.array([address], np.uint64)
        raise MemoryFault(
            f"{path}: cannot read physical address {address:#x}: {error}", missing
        ) from None


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def _search_vmcoreinfo(path: Path, mapped: mmap.mmap) -> str:
    """The kernel's own copy of VMCOREINFO in its memory: QEMU without `-device vmcoreinfo` leaves
    no note of it.

    The text starts with OSRELEASE (`crash_save_vmcoreinfo_init` in `kernel/vmcore_info.c`) and ends
    with a zero byte. The word stands elsewhere in memory too (its format string, logs), so the
    constants that every kernel exports must follow.
    """
    for found in re.finditer(rb"OSRELEASE=[0-9][^\0]{1,65536}", mapped):
        text = found.group()[: found.group().rfind(b"\n") + 1].decode("latin-1")
        if "\nPAGESIZE=" in text and "\nSYMBOL(swapper_pg_dir)=" in text:
            return text
    raise HvoError(
        f"{path}: no VMCOREINFO, neither as a note nor in memory; expected a core of a Linux kernel"
    )
