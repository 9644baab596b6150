"""Physical memory of a dumped kernel: ELF and kdump-compressed cores, without debug symbols.

drgn reads both and gives VMCOREINFO. The words of an ELF core, whose pages lie in the file as they
were, are gathered from the mapped file instead: a scattered read through drgn costs 1.5 us, and an
audit of 1 TiB reads millions of words.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from pathlib import Path

import drgn
import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.memory import kdump
from hvo.memory.elf import MACHINES, read_layout
from hvo.memory.interface import MemoryFault, Words
from hvo.memory.segments import Segments
from hvo.memory.vmcoreinfo import VmcoreInfo

_DRGN_ARCH = {
    drgn.Architecture.X86_64: "x86_64",
    drgn.Architecture.AARCH64: "arm64",
    drgn.Architecture.RISCV64: "riscv64",
    drgn.Architecture.LOONGARCH64: "loongarch64",
}
_CHUNK = 1 << 18
"""Addresses gathered at a time: the temporaries stay in cache and bounded."""
_PAGES_AT_A_TIME = 1024

Gather = Callable[[Words], Words]
"""Words at addresses (one dimension), all of them present."""


class CoreMemory:
    """A core file as a `Memory`; `segments` are the physical ranges it has, `arch` "x86_64",
    "arm64", "riscv64" or "loongarch64".
    """

    def __init__(
        self,
        path: Path,
        program: drgn.Program,
        arch: str,
        vmcoreinfo: VmcoreInfo,
        segments: Segments,
        gather: Gather,
    ) -> None:
        self.path = path
        self.arch = arch
        self.vmcoreinfo = vmcoreinfo
        self.segments = segments
        self.page_size = vmcoreinfo.page_size
        self._program = program
        self._gather = gather

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at physical `address`, through drgn; raises `MemoryFault` when any of them
        is missing.
        """
        return _read(self.path, self._program, address, length)

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
        if isinstance(self._gather, _MappedWords):
            return self._gather.strided(starts, count, step)
        return self.read_words(
            starts[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(step)
        )

    def readable(self, addresses: Words) -> NDArray[np.bool_]:
        """Which of the physical `addresses` (any shape) the core has."""
        return self.segments.locate(addresses).present


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
    found = "is empty" if not magic else f"starts with {magic!r}"
    raise HvoError(f"{path}: {found}, expected an ELF or kdump-compressed core of a Linux kernel")


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise HvoError(f"{path}: cannot open the core: {error.strerror}") from None


def _open_elf(path: Path) -> CoreMemory:
    layout = read_layout(path)
    mapped = _map(path)
    program = _program(path, None)
    if program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        text = _vmcoreinfo(program)
    else:
        text = _search_vmcoreinfo(path, mapped)
        program = _program(path, text)
    gather = _MappedWords(path, mapped, layout.segments)
    return CoreMemory(path, program, layout.arch, VmcoreInfo.parse(text), layout.segments, gather)


def _open_kdump(path: Path) -> CoreMemory:
    segments = kdump.read_segments(path)
    program = _program(path, None)
    platform = program.platform
    arch = _DRGN_ARCH.get(platform.arch) if platform else None
    if arch is None:
        raise HvoError(f"{path}: a core of another architecture, expected {', '.join(MACHINES)}")
    info = VmcoreInfo.parse(_vmcoreinfo(program))
    return CoreMemory(
        path, program, arch, info, segments, _PackedWords(path, program, segments, info.page_size)
    )


def _program(path: Path, vmcoreinfo: str | None) -> drgn.Program:
    program = drgn.Program(vmcoreinfo=vmcoreinfo)
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


class _MappedWords:
    """Words of an uncompressed core, gathered from the mapped file."""

    def __init__(self, path: Path, mapped: mmap.mmap, segments: Segments) -> None:
        self._path = path
        self._segments = segments
        # QEMU puts memory right behind the notes, at any offset: one view for each remainder of 8
        # that occurs.
        self._views = {
            shift: np.frombuffer(mapped, "<u8", (len(mapped) - shift) // 8, shift)
            for shift in np.unique((segments.offsets - segments.starts) % np.uint64(8)).tolist()
        }

    def __call__(self, addresses: Words) -> Words:
        offsets, present = self._segments.locate(addresses)
        _require(self._path, addresses, present)
        if len(self._views) == 1:
            ((shift, view),) = self._views.items()
            return view[(offsets - np.uint64(shift)) >> np.uint64(3)]
        words = np.empty_like(addresses)
        for shift, view in self._views.items():
            here = offsets % np.uint64(8) == shift
            words[here] = view[(offsets[here] - np.uint64(shift)) >> np.uint64(3)]
        return words

    def strided(self, starts: Words, count: int, step: int) -> Words:
        """`count` words from each of `starts` on, where only the starts must be looked up: whole
        rows are copied.
        """
        offsets, present = self._segments.locate(starts)
        _require(self._path, starts, present)
        if len(self._views) > 1:
            addresses = starts[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(step)
            return self(addresses.reshape(-1)).reshape(addresses.shape)
        ((shift, view),) = self._views.items()
        rows = len(view) - (count - 1) * (step // 8)
        if rows <= 0 or not len(starts):
            return np.zeros((len(starts), count), np.uint64)
        table = np.lib.stride_tricks.as_strided(view, (rows, count), (8, step), writeable=False)
        return table[((offsets - np.uint64(shift)) >> np.uint64(3)).view(np.int64)]


class _PackedWords:
    """Words of a compressed core: each page is read once through drgn, and the words gathered from
    it.
    """

    def __init__(
        self, path: Path, program: drgn.Program, segments: Segments, page_size: int
    ) -> None:
        self._path = path
        self._program = program
        self._segments = segments
        self._page_size = page_size

    def __call__(self, addresses: Words) -> Words:
        _require(self._path, addresses, self._segments.locate(addresses).present)
        pages, which = np.unique(addresses // np.uint64(self._page_size), return_inverse=True)
        inside = (addresses % np.uint64(self._page_size)) >> np.uint64(3)
        words = np.empty_like(addresses)
        for start in range(0, len(pages), _PAGES_AT_A_TIME):
            here = (which >= start) & (which < start + _PAGES_AT_A_TIME)
            words[here] = self._read(pages[start : start + _PAGES_AT_A_TIME])[
                which[here] - start, inside[here]
            ]
        return words

    def _read(self, pages: Words) -> Words:
        size = self._page_size
        data = b"".join(
            _read(self._path, self._program, page * size, size) for page in pages.tolist()
        )
        return np.frombuffer(data, "<u8").reshape(len(pages), size // 8)


def _require(path: Path, addresses: Words, present: NDArray[np.bool_]) -> None:
    if present.all():
        return
    missing = addresses[~present]
    more = f" and at {len(missing) - 1} more" if len(missing) > 1 else ""
    raise MemoryFault(f"{path}: no memory at physical address {int(missing[0]):#x}{more}", missing)
