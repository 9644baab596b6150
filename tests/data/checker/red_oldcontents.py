"""Reduction test: a frame is announced (in a word of the head) before it is filled; another CPU maps it when it finds it announced.

Derived verdict on riscv64/arm64: UNSAFE, old-contents: the other CPU can map the frame when the stores into it are done by the first CPU
but not visible yet (between the fill and the write barrier).
"""
import numpy as np
from hvo.protocol import FillTails, Flush
from hvo.protocol import AllocateFrame, FreeFrame, LoadPage, ReadEntry, StorePage, WriteBarrier, WriteEntry
from hvo.vmemmap.remap import pte_of
from hvo.vmemmap.split import split_vmemmap_huge_pmd
MACHINE = "riscv64"
GEOMETRY = {"pages": 1, "used": 3, "group": 4, "leaf": 4}

def _where(v, order, head):
    address = v.address(head) + np.uint64((v.vmemmap_pages(order) - 1) * v.page_size)
    table = yield from pte_of(v, address)
    return table, address

def optimize(v, order, head):
    if (yield from split_vmemmap_huge_pmd(v, v.address(head), v.node_of(head), flush=True)):
        return
    frame = yield from AllocateFrame(v.node_of(head), memmap=True)
    if frame is None:
        return
    location, address = yield from _where(v, order, head)
    old = yield from ReadEntry(location, 0)
    yield from StorePage(head, "private", int(frame) << 16)
    yield from FillTails(frame, head, order, v.structs_per_page)
    yield from WriteBarrier()
    yield from WriteEntry(location, v.leaf_entry(frame, writable=True), 0, address)
    yield from Flush(address, address + np.uint64(v.page_size))
    yield from FreeFrame(v.pfn(old.value), memmap=True)

def mapper(v, order, head):
    word = yield from LoadPage(head, "private")
    frame = int(word) >> 16
    if frame:
        location, address = yield from _where(v, order, head)
        yield from WriteEntry(location, v.leaf_entry(frame, writable=True), 0, address)
