"""Memory hotplug: blocks of memory that are added and removed, with their part of the vmemmap.

mm/memory_hotplug.c, mm/sparse-vmemmap.c; arch/arm64/mm/mmu.c and arch/x86/mm/init_64.c free what
was mapped. A block may be removed once every HugeTLB page in it was migrated or dissolved: then its
vmemmap is its own again, whole. Blocks are onlined movable, the one way in which the kernel
promises that they can leave again.
"""

from typing import NamedTuple

import numpy as np

from hvo.actors.unmap import vmemmap_free
from hvo.layout.geometry import geometry
from hvo.steps.base import Steps
from hvo.steps.entries import EntryKind, FillTable, ReadEntry, WriteEntry
from hvo.steps.frames import AllocateBlock, AllocateFrame, Count, Counter
from hvo.steps.hotplug import AddMemory, OfflinePages, OnlinePages, RemoveMemory
from hvo.steps.ordering import Acquire, Lock, Release, WriteBarrier
from hvo.steps.struct_pages import InitPages, StorePage
from hvo.vmemmap.context import ENOMEM, Vmemmap

EBUSY = -16
"""Some of the memory is in use: nothing was taken away."""


class Block(NamedTuple):
    """A memory block: `pages` frames from pfn `start` on `node`, whole sections.

    `hosts_memmap`: its first frames hold its struct pages (`memmap_on_memory`).
    """

    start: int
    pages: int
    node: int = 0
    hosts_memmap: bool = False

    @property
    def end(self) -> int:
        """The first frame number behind it."""
        return self.start + self.pages


def memmap_pages(v: Vmemmap, block: Block) -> int:
    """Frames that the struct pages of `block` take."""
    return block.pages * v.struct_page_size // v.page_size


def supports_memmap_on_memory(v: Vmemmap, block: Block) -> bool:
    """Whether `block` can hold its own struct pages: they must fill leaves
    (`mhp_supports_memmap_on_memory`), as with 4 KiB pages only.
    """
    return memmap_pages(v, block) * v.page_size % v.leaf == 0


def hosted_pages(v: Vmemmap, block: Block) -> int:
    """Frames at the start of `block` that hold its struct pages: none unless it was asked for and
    can be.
    """
    return (
        memmap_pages(v, block) if block.hosts_memmap and supports_memmap_on_memory(v, block) else 0
    )


def add_memory(v: Vmemmap, root: int, block: Block) -> Steps[int]:
    """Add `block`, and bring it online -> 0, or ENOMEM: then nothing is left of it
    (`add_memory_resource`).
    """
    yield from Acquire(Lock.HOTPLUG)
    error = yield from arch_add_memory(v, root, block)
    yield from Release(Lock.HOTPLUG)
    if not error:
        yield from online_pages(v, block)
    return error


def remove_memory(v: Vmemmap, root: int, block: Block) -> Steps[int]:
    """Take `block` offline and away -> 0, or EBUSY: then it stays (`offline_and_remove_memory`)."""
    error = yield from offline_pages(v, block)
    if error:
        return error
    yield from Acquire(Lock.HOTPLUG)
    yield from arch_remove_memory(v, root, block)
    yield from Release(Lock.HOTPLUG)
    return 0


def arch_add_memory(v: Vmemmap, root: int, block: Block) -> Steps[int]:
    """Make `block` RAM that has struct pages, under the hotplug lock -> 0, or ENOMEM and nothing
    changed.
    """
    yield from AddMemory(block.start, block.end)
    hosted = hosted_pages(v, block)
    start, end = _memmap(v, block)
    error = yield from vmemmap_populate(
        v, root, (start, end), _Source(block.node, block.start, hosted)
    )
    yield from Count(Counter.MEMMAP, hosted)
    if error:
        yield from arch_remove_memory(v, root, block)
    return error


def arch_remove_memory(v: Vmemmap, root: int, block: Block) -> Steps[None]:
    """Take the struct pages of `block` away, and then its memory, under the hotplug lock ->
    None.
    """
    hosted = hosted_pages(v, block)
    yield from vmemmap_free(v, root, *_memmap(v, block), hosted=bool(hosted))
    yield from Count(Counter.MEMMAP, -hosted)
    yield from RemoveMemory(block.start, block.end)


def online_pages(v: Vmemmap, block: Block) -> Steps[None]:
    """Give the frames of `block` to the page allocator -> None (`memory_block_online`)."""
    hosted = hosted_pages(v, block)
    yield from Acquire(Lock.HOTPLUG)
    yield from InitPages(block.start, block.end, block.node)
    if hosted:
        yield from StorePage(block.start + np.arange(hosted), "self_hosted", 1)
    yield from OnlinePages(block.start, block.end, block.node, hosted)
    yield from Release(Lock.HOTPLUG)


def offline_pages(v: Vmemmap, block: Block) -> Steps[int]:
    """Take the frames of `block` out of the page allocator -> 0, or EBUSY when some are in use
    (`memory_block_offline`).
    """
    yield from Acquire(Lock.HOTPLUG)
    taken = yield from OfflinePages(block.start, block.end, hosted_pages(v, block))
    yield from Release(Lock.HOTPLUG)
    return 0 if taken else EBUSY


def _memmap(v: Vmemmap, block: Block) -> tuple[int, int]:
    return int(v.address(block.start)), int(v.address(block.end))


# -- populate --


class _Source(NamedTuple):
    """Where frames for struct pages come from: the page allocator on `node`, or the first `hosted`
    frames of a block at `first`.
    """

    node: int
    first: int
    hosted: int


def vmemmap_populate(v: Vmemmap, root: int, span: tuple[int, int], source: _Source) -> Steps[int]:
    """Map the vmemmap addresses `span` (start, end), with leaves where the architecture has them ->
    0, or ENOMEM half-way.
    """
    leaves = geometry(v.format.arch, v.page_size).vmemmap_leaf is not None
    return (yield from _populate(v, root, span, source, 1 if leaves else 0))


def _populate(
    v: Vmemmap, root: int, span: tuple[int, int], source: _Source, level: int
) -> Steps[int]:
    """Map `span` with entries of `level` (`vmemmap_populate_hugepages`,
    `vmemmap_populate_basepages`) -> 0 or ENOMEM.
    """
    start, end = span
    for address in range(start, end, v.format.span(level)):
        location = yield from _entry_for(v, root, address, level, source.node)
        if location is None:
            return ENOMEM
        entry = yield from ReadEntry(location, level)
        if entry.kind is not EntryKind.NONE:
            continue
        frame = yield from _frames_for(v, source, address - start, level)
        if frame is not None:
            yield from WriteEntry(
                location, v.format.make_leaf(frame * v.page_size, level), level, address
            )
        elif (
            level == 0
            or source.hosted
            or (yield from _populate(v, root, (address, address + v.format.span(level)), source, 0))
        ):
            # Without a free block, pages would do, but not for a block that hosts its struct pages.
            return ENOMEM
    return 0


def _frames_for(v: Vmemmap, source: _Source, offset: int, level: int) -> Steps[int | None]:
    """Frames for one entry of `level` (`vmemmap_alloc_block_buf`) -> the first, or None; in a block
    that hosts them they lie in order.
    """
    if source.hosted:
        return source.first + offset // v.page_size
    if level == 0:
        frame = yield from AllocateFrame(source.node, memmap=True)
        return None if frame is None else int(frame)
    return (
        yield from AllocateBlock(
            (v.format.span(level) // v.page_size).bit_length() - 1, source.node
        )
    )


def _entry_for(v: Vmemmap, root: int, address: int, level: int, node: int) -> Steps[int | None]:
    """The location of the entry of `level` for `address`, after making the tables on the way ->
    None when there is no frame for one.
    """
    table = root
    for above in range(v.format.top, level, -1):
        location = table + 8 * v.format.index(address, above)
        entry = yield from ReadEntry(location, above)
        table = int(v.format.output_address(int(entry.value), above))
        if entry.kind is EntryKind.NONE:
            frame = yield from AllocateFrame(node)
            if frame is None:
                return None
            table = int(frame) * v.page_size
            yield from FillTable(frame, np.zeros(v.format.table_entries(above - 1), np.uint64))
            yield from WriteBarrier()  # an empty table must be seen before it is reached
            yield from WriteEntry(location, v.format.make_table(table), above, address)
    return table + 8 * v.format.index(address, level)
