"""A core with faults of our own: single words changed in a copy of a real kernel's memory."""

import shutil
import struct
from pathlib import Path

import numpy as np

from hvo.audit.audit import audit
from hvo.kernel.image import KernelImage
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Sections
from hvo.memory.core import open_core
from hvo.memory.elf import read_layout
from hvo.mmu.walk import path, walk
from shared_files import core

WORD = (1 << 64) - 1


class Planted:
    """A copy of the core `name` in `directory`, in which words can be changed; addresses are
    physical unless said to be virtual.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.path = directory / f"{name}.elf"
        shutil.copyfile(core(name), self.path)
        self._segments = read_layout(self.path).segments
        self.original = open_core(core(name))  # found as it was, before anything is changed
        self.image = KernelImage.of(self.original)
        self.sections = Sections.of(self.image)
        self.members = PageMembers.of(self.image, self.sections)
        self.format = self.image.format

    def audit(self):
        """The audit of the core as it is now."""
        return audit(open_core(self.path))

    def found(self) -> list[tuple[str, int]]:
        """Rule and frame of everything that is wrong."""
        findings = self.audit().findings
        return [(each.id, each.pfn) for each in findings if each.severity != "info"]

    # -- words --

    def word(self, address: int) -> int:
        """The word at `address` as it is now."""
        with self.path.open("rb") as file:
            file.seek(self._offset(address))
            return struct.unpack("<Q", file.read(8))[0]

    def write(self, address: int, value: int) -> None:
        """Change the word at `address`."""
        with self.path.open("r+b") as file:
            file.seek(self._offset(address))
            file.write(struct.pack("<Q", value & WORD))

    def write_bytes(self, address: int, data: bytes) -> None:
        """Change the bytes at `address`."""
        with self.path.open("r+b") as file:
            file.seek(self._offset(address))
            file.write(data)

    def _offset(self, address: int) -> int:
        located = self._segments.locate(np.array([address], np.uint64))
        assert located.present[0], f"the core lacks {address:#x}"
        return int(located.offsets[0])

    # -- the vmemmap --

    def struct_page(self, pfn: int) -> int:
        """Virtual address of the struct page of `pfn`."""
        return int(self.sections.struct_page_address(np.array([pfn]))[0])

    def page_of(self, pfn: int, number: int) -> int:
        """Virtual address of the vmemmap page `number` of the HugeTLB page at `pfn`."""
        return self.struct_page(pfn) + number * self.image.page_size

    def entry(self, virtual: int, level: int = 0) -> int:
        """Where the entry of `level` for the virtual address lies."""
        return path(self.original, self.format, self.image.root, virtual)[
            self.format.top - level
        ].location

    def frame(self, virtual: int) -> int:
        """The frame behind a virtual address, as the core was at first."""
        found = walk(self.original, self.format, self.image.root, np.array([virtual], np.uint64))
        assert found.valid[0]
        return int(found.address[0]) // self.image.page_size

    def map(self, virtual: int, frame: int, *, writable: bool) -> None:
        """Let the last-level entry for a virtual address lead to `frame`."""
        where = self.entry(virtual)
        entry = self.format.with_output(self.word(where), frame * self.image.page_size, 0)
        self.write(where, self.format.writable(entry) if writable else self._read_only(entry))

    def _read_only(self, entry: int) -> int:
        """The leaf so that hardware refuses to write, also where PAGE_KERNEL_RO does not."""
        made = self.format.read_only(entry)
        return made if self.format.protects else made & ~self.format.write_bit

    def change(self, pfn: int, member, change) -> None:
        """Let `change` make a new word of the one that holds `member` of the struct page of
        `pfn`.
        """
        self.change_at(self.struct_page(pfn), member, change)

    def free(self, pfn: int, order: int = 0) -> None:
        """Let the frames from `pfn` on, `1 << order` of them, be a free block of the buddy
        allocator: no reference and not reserved; the first is PageBuddy and tells the order.
        """
        info = self.image.info
        buddy = info.number("PAGE_BUDDY_MAPCOUNT_VALUE")
        reserved = 1 << (info.number("PG_private") - 1)
        for frame in range(pfn, pfn + (1 << order)):
            self.change(frame, self.members.flags, lambda word: word & ~reserved)
            self.set(frame, self.members.refcount, 0)
        self.set(pfn, self.members.mapcount, buddy)
        self.set(pfn, self.members.private, order)

    def set(self, pfn: int, member, value: int) -> None:
        """Let `member` of the struct page of `pfn` have `value`."""
        shift, mask = member.offset % 8 * 8, (1 << 8 * member.size) - 1
        self.change(pfn, member, lambda word: word & ~(mask << shift) | (value & mask) << shift)

    def change_at(self, virtual: int, member, change) -> None:
        """The same for the struct page at a virtual address."""
        at = virtual + member.offset & ~7
        physical = self.frame(at) * self.image.page_size + at % self.image.page_size
        self.write(physical, change(self.word(physical)))
