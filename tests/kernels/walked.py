"""What a kernel's memory says about its HugeTLB pages, by our rooms alone; prints it as JSON when run on a core or on /proc/kcore."""

import json
import struct
import sys
from pathlib import Path
from typing import NamedTuple

import drgn
import numpy as np

from hvo.kernel.image import KernelImage, KernelMemory
from hvo.kernel.sections import Sections
from hvo.kernel.vmcore import HugetlbHeads, hugetlb_heads
from hvo.memory.core import open_core
from hvo.memory.segments import Segments
from hvo.memory.vmcoreinfo import VmcoreInfo
from hvo.mmu.walk import Walk, walk


class Pool(NamedTuple):
    """HugeTLB pages of one size: how many, optimised ones by their mapping, flagged ones by the kernel, and frames behind their vmemmap."""

    size: int
    pages: int
    optimized: int
    flagged: int
    backing_frames: int


class Walked(NamedTuple):
    """The kernel's release, its pools by size, read-only pages of its whole vmemmap, and frames whose struct pages are not there."""

    release: str
    pools: list[Pool]
    read_only: int
    unreadable: int


def walked(memory: KernelMemory) -> Walked:
    """Find the HugeTLB pages of the kernel in `memory` and walk the vmemmap."""
    image = KernelImage.of(memory)
    sections = Sections.of(image)
    heads = hugetlb_heads(image, sections)
    everywhere = _walk_vmemmap(image, sections.memmap, sections.pages * sections.struct_page_size)
    return Walked(
        release=memory.vmcoreinfo.text("OSRELEASE"),
        pools=[_pool(image, sections, heads, order) for order in np.unique(heads.order).tolist()],
        read_only=int(np.count_nonzero(everywhere.valid & ~everywhere.writable)),
        unreadable=len(heads.unreadable),
    )


def _walk_vmemmap(image: KernelImage, starts: np.ndarray, length: int) -> Walk:
    """The walk of every page of the ranges of `length` bytes at `starts`; shape (starts, pages)."""
    pages = np.arange(0, length, image.page_size, dtype=np.uint64)
    return walk(image.memory, image.format, image.root, starts[:, None] + pages)


def _pool(image: KernelImage, sections: Sections, heads: HugetlbHeads, order: int) -> Pool:
    mine = heads.order == order
    starts = sections.struct_page_address(heads.pfn[mine])
    found = _walk_vmemmap(image, starts, sections.struct_page_size << order)
    shared = (found.address[:, 1:] == found.address[:, -1:]).all(axis=1)
    optimized = found.valid.all(axis=1) & ~found.writable[:, 1:].any(axis=1) & shared
    return Pool(
        size=image.page_size << order,
        pages=len(starts),
        optimized=int(np.count_nonzero(optimized)),
        flagged=int(np.count_nonzero(heads.flagged[mine])),
        backing_frames=len(np.unique(found.address[found.valid])),
    )


class Live:
    """The physical memory of the running kernel: /proc/kcore through drgn, which needs no debug symbols for it."""

    def __init__(self) -> None:
        self._program = drgn.Program()
        self._program.set_kernel()
        self.vmcoreinfo = VmcoreInfo.parse(self._program["VMCOREINFO"].string_().decode())
        self.page_size = self.vmcoreinfo.page_size
        self.arch = {drgn.Architecture.X86_64: "x86_64", drgn.Architecture.AARCH64: "arm64"}[self._program.platform.arch]
        self._segments = _segments(Path("/proc/kcore"))

    def read(self, address: int, length: int) -> bytes:
        """`length` bytes at physical `address`."""
        return self._program.read(address, length, physical=True)

    def read_words(self, addresses: np.ndarray) -> np.ndarray:
        """The 8-byte words at physical `addresses`; every page is read once."""
        pages, which = np.unique(addresses // np.uint64(self.page_size), return_inverse=True)
        data = b"".join(self.read(page * self.page_size, self.page_size) for page in pages.tolist())
        words = np.frombuffer(data, "<u8").reshape(len(pages), -1)
        return words[which.reshape(addresses.shape), addresses % np.uint64(self.page_size) // np.uint64(8)]

    def readable(self, addresses: np.ndarray) -> np.ndarray:
        """Which of the physical `addresses` are memory."""
        return self._segments.locate(addresses).present


def _segments(kcore: Path) -> Segments:
    """The physical ranges in `kcore`; the physical address of what is outside the direct map is -1 (kcore_update_ram, fs/proc/kcore.c)."""
    with kcore.open("rb") as file:
        header = file.read(64)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(*struct.unpack_from("<Q", header, 32))
        loads = np.frombuffer(file.read(size * count), np.uint64).reshape(count, 7)
    loads = loads[(loads[:, 0] & np.uint64(0xFFFF_FFFF) == 1) & (loads[:, 3] != np.uint64(0xFFFF_FFFF_FFFF_FFFF))]
    return Segments.of(loads[:, 3], loads[:, 5], np.zeros(len(loads), np.uint64))


def main() -> None:
    """Print what the kernel of the core named on the command line says, or the running one for `live`."""
    memory = Live() if sys.argv[1] == "live" else open_core(Path(sys.argv[1]))
    print(json.dumps(walked(memory)._asdict(), default=int))


if __name__ == "__main__":
    main()
