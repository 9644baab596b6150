"""Cut a core to what an audit reads, for tests: `python tools/cut_core.py CORE OUT.elf.xz`.

Kept are the page tables on the way to the vmemmap, mem_section[], and the frames of the vmemmap. In
struct pages that are not the first of a HugeTLB page only flags, links, counts and the order of
free blocks are kept; pointers to whatever else the kernel had there are zeros. All that is left is
the kernel's own.
"""

import lzma
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvo.audit.audit import audit
from hvo.audit.tables import read_tables
from hvo.audit.vmemmap import VmemmapPages
from hvo.kernel.image import KernelImage
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Sections
from hvo.memory.core import CoreMemory, open_core
from hvo.memory.elf import Run, write_elf_core
from hvo.memory.interface import Words

_FIRST = 4
"""Struct pages of a HugeTLB page that are kept whole."""


class Recorded:
    """A core that notes which frames are read."""

    def __init__(self, core: CoreMemory) -> None:
        self.core, self.frames = core, set[int]()
        self.arch, self.vmcoreinfo, self.page_size = core.arch, core.vmcoreinfo, core.page_size

    def read(self, address: int, length: int) -> bytes:
        """Bytes at `address`."""
        last = (address + length - 1) // self.page_size
        self.frames |= set(range(address // self.page_size, last + 1))
        return self.core.read(address, length)

    def read_words(self, addresses: Words) -> Words:
        """Words at `addresses`."""
        self.frames |= set(np.unique(addresses // np.uint64(self.page_size)).tolist())
        return self.core.read_words(addresses)

    def readable(self, addresses: Words) -> NDArray[np.bool_]:
        """Which of `addresses` are there."""
        return self.core.readable(addresses)


def cut(source: Path, target: Path) -> None:
    """Write what is left of the core `source` to `target`."""
    memory = Recorded(open_core(source))
    found = audit(memory)
    image = KernelImage.of(memory)
    sections = Sections.of(image)
    vmemmap = VmemmapPages.read(image, sections, read_tables(image, sections))
    struct_pages = set(vmemmap.frame[vmemmap.frame >= 0].tolist())
    heads = np.concatenate([np.zeros(0, np.int64), *(pool.pfn for pool in found.pools)])
    kept = sections.struct_page_address((heads[:, None] + np.arange(_FIRST)).reshape(-1))
    bytes_kept = kept[:, None] + np.arange(0, sections.struct_page_size, 8, dtype=np.uint64)
    whole = set(image.physical(bytes_kept).reshape(-1).tolist())
    members = PageMembers.of(image, sections)
    clean = _Cleaner(vmemmap, members, whole)
    runs = [
        Run(frame * image.page_size, image.page_size, lambda frame=frame: clean.chunks(frame))
        for frame in sorted(memory.frames | struct_pages)
    ]
    with tempfile.NamedTemporaryFile(suffix=".elf") as file:
        write_elf_core(Path(file.name), memory.arch, memory.vmcoreinfo.to_text(), runs)
        packed = lzma.compress(Path(file.name).read_bytes(), preset=9 | lzma.PRESET_EXTREME)
        target.write_bytes(packed)
    print(f"{target}: {len(runs)} frames, {target.stat().st_size >> 10} KiB")


class _Cleaner:
    """Reads frames, and clears in struct pages what is not kept; `whole`: physical addresses of
    words that are.
    """

    def __init__(self, vmemmap: VmemmapPages, members: PageMembers, whole: set[int]) -> None:
        self._members, self._whole = members, whole
        self._size = vmemmap.image.page_size
        order = np.argsort(vmemmap.frame, kind="stable")
        self._index = dict(zip(vmemmap.frame[order].tolist(), order.tolist(), strict=True))
        self._vmemmap = vmemmap

    def chunks(self, frame: int) -> Iterator[bytes]:
        """The frame's bytes."""
        data = self._members.image.memory.read(frame * self._size, self._size)
        words = np.frombuffer(data, np.uint64).copy()
        if frame in self._index:
            self._clean(words, frame)
        yield words.tobytes()

    def _clean(self, words: Words, frame: int) -> None:
        of, size = self._members, self._vmemmap.sections.struct_page_size
        index = np.array([self._index[frame]], np.intp)
        first = int(self._vmemmap.address(index)[0]) - int(self._vmemmap.sections.memmap[0])
        place = (np.arange(len(words)) * 8 + first) % size
        keep = np.isin(place, (of.flags.offset, of.mapcount.offset & ~7))
        link = place == of.link.offset
        keep |= link & (words & np.uint64(1) != 0)
        where = np.arange(frame * self._size, (frame + 1) * self._size, 8)
        keep |= np.isin(where, np.fromiter(self._whole, np.int64))
        keep |= (place == of.private.offset) & (words < np.uint64(16))
        words[~keep] = 0


if __name__ == "__main__":
    cut(Path(sys.argv[1]), Path(sys.argv[2]))
