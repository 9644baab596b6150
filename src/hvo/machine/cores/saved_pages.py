"""What struct pages say in a saved machine: the state of allocator and pools, which a running
machine keeps elsewhere.

A machine keeps in arrays what is free, reserved or queued, and the lists of its pools; a kernel
keeps that in the struct pages. It is worked in while frames of struct pages are written out, so
that nothing has to be done about it while the machine runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.struct_page import COUNTS, FLAGS, LINK, NOT_MAPPED, PRIVATE, WORDS
from hvo.kernel.vmcore import HPG_FREED
from hvo.machine.machine import Machine
from hvo.memory.interface import Words
from hvo.mmu.walk import walk

Frames = NDArray[np.int64]
_WALKED = 1 << 20  # vmemmap pages walked at once
_ONE_REFERENCE = np.uint64(1 << 32 | NOT_MAPPED)


class _Owned(NamedTuple):
    """Frames (ascending) that hold struct pages, and of which frames: `pfn` is the first."""

    frame: Frames
    pfn: Frames


class _Words(NamedTuple):
    """Single words to write: in which frame (ascending), which word of it, and what."""

    frame: Frames
    word: Frames
    value: Words


class SavedPages:
    """The frames of `machine` as they are saved; its state must not change meanwhile.

    `lists` is the virtual address of the list heads of its pools (None: lists are left as they
    are).
    """

    def __init__(self, machine: Machine, lists: int | None) -> None:
        self._machine, self._memory = machine, machine.world.memory
        self._owned = _ordinary_pages(machine)
        self._heads = _head_words(machine, lists)
        blocks = [zone.free_blocks() for zone in machine.world.zones.zones]
        starts, orders = (np.concatenate(column) for column in zip(*blocks, strict=True))
        by_address = np.argsort(starts, kind="stable")
        self._starts, self._orders = starts[by_address], orders[by_address]
        self._small = _small_pages(machine)

    def frames(self, frames: Frames) -> Words:
        """The words of `frames` (ascending), shape (frames, words of a frame)."""
        words = self._memory.read_frames(frames)
        at, mine = _find(self._owned.frame, frames)
        if mine.any():
            count = words.shape[1] // WORDS
            pfns = self._owned.pfn[at[mine]][:, None] + np.arange(count, dtype=np.int64)
            words[mine] = self._overlaid(words[mine].reshape(-1, WORDS), pfns.ravel()).reshape(
                -1, words.shape[1]
            )
        first, last = np.searchsorted(self._heads.frame, [frames[0], frames[-1] + 1])
        row, there = _find(frames, self._heads.frame[first:last])
        words[row[there], self._heads.word[first:last][there]] = self._heads.value[first:last][
            there
        ]
        return words

    def _overlaid(self, pages: Words, pfns: Frames) -> Words:
        """The struct pages `pages` (rows) of `pfns`, none of an optimisable HugeTLB page, with what
        the allocator says of each.
        """
        zones, layout = self._machine.world.zones, self._machine.world.layout
        free, reserved, single = (
            zones.is_free(pfns),
            zones.is_reserved(pfns),
            ~_find(self._small, pfns)[1],
        )
        buddy = pages[:, COUNTS] & np.uint64(NOT_MAPPED) == np.uint64(layout.buddy)
        unowned = (pages[:, COUNTS] >> np.uint64(32) == 0) & (pages[:, LINK] & np.uint64(1) == 0)
        pages[:, FLAGS] &= ~np.uint64(1 << layout.reserved_bit)
        pages[reserved, FLAGS] |= np.uint64(1 << layout.reserved_bit)
        pages[free | buddy, PRIVATE] = 0
        pages[free | buddy, COUNTS] = NOT_MAPPED
        pages[~free & (buddy | unowned) & single, COUNTS] = _ONE_REFERENCE
        at, head = _find(self._starts, pfns)
        pages[head, PRIVATE] = self._orders[at[head]].astype(np.uint64)
        pages[head, COUNTS] = layout.buddy
        return pages


def _find(ascending: Frames, wanted: Frames) -> tuple[Frames, NDArray[np.bool_]]:
    """Where each of `wanted` is in `ascending`, and whether it is there."""
    if not len(ascending):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return at, ascending[at] == wanted


def _ordinary_pages(machine: Machine) -> _Owned:
    """The frames of the struct pages that are no optimisable HugeTLB page's."""
    world = machine.world
    step, page_size = world.vmemmap.structs_per_page, np.uint64(world.vmemmap.page_size)
    spans = _spans(machine)
    pfns: list[Frames] = []
    frames: list[Frames] = []
    for zone in world.zones.zones:
        for start, end in zip(
            zone.present.starts.tolist(), zone.present.ends.tolist(), strict=True
        ):
            for first in range(start, end, _WALKED * step):
                part = np.arange(first, min(first + _WALKED * step, end), step, dtype=np.int64)
                part = part[~_inside(spans, part)]
                found = walk(
                    world.memory, world.vmemmap.format, world.root, world.vmemmap.address(part)
                )
                pfns.append(part[found.valid])
                frames.append((found.address[found.valid] // page_size).astype(np.int64))
    frame = np.concatenate(frames)
    order = np.argsort(frame, kind="stable")
    return _Owned(frame[order], np.concatenate(pfns)[order])


def _spans(machine: Machine) -> tuple[Frames, Frames]:
    """First frames and ends of the HugeTLB pages whose struct pages fill vmemmap pages,
    ascending.
    """
    pools = [
        pool for pool in machine.pools.values() if machine.world.vmemmap.vmemmap_pages(pool.order)
    ]
    starts = np.concatenate([pool.heads() for pool in pools])
    ends = np.concatenate([pool.heads() + (1 << pool.order) for pool in pools])
    return np.sort(starts), np.sort(ends)


def _inside(spans: tuple[Frames, Frames], pfns: Frames) -> NDArray[np.bool_]:
    starts, ends = spans
    return np.searchsorted(starts, pfns, side="right") > np.searchsorted(ends, pfns, side="right")


def _small_pages(machine: Machine) -> Frames:
    """The frames of the other HugeTLB pages."""
    pools = [
        pool
        for pool in machine.pools.values()
        if not machine.world.vmemmap.vmemmap_pages(pool.order)
    ]
    parts = [(pool.heads()[:, None] + np.arange(1 << pool.order)).ravel() for pool in pools]
    return np.sort(np.concatenate([*parts, np.zeros(0, np.int64)]))


# -- heads of HugeTLB pages --


def _head_words(machine: Machine, lists: int | None) -> _Words:
    """Flags and links that heads have by the list that they are on: each pool's free pages of a
    node, and its pages in use.
    """
    found: list[tuple[Frames, Words, Words]] = []  # heads; their next, their previous
    freed: list[NDArray[np.bool_]] = []
    place = lists or 0
    for pool in machine.pools.values():
        for stacks, free in ((pool.free, True), (pool.used, False)):
            for pages in (stack.pages()[::-1] for stack in stacks.values()):
                found.append((pages, *_links(machine, pages, place)))
                freed.append(np.full(pages.size, free))
                place += 16
    heads, following, preceding = (np.concatenate(column) for column in zip(*found, strict=True))
    physical = machine.world.translate(machine.world.vmemmap.address(heads))
    private = machine.world.memory.read_words(physical + np.uint64(8 * PRIVATE)) & ~np.uint64(
        1 << HPG_FREED
    )
    private |= np.concatenate(freed).astype(np.uint64) << np.uint64(HPG_FREED)
    columns = {PRIVATE: private} | ({} if lists is None else {LINK: following, LINK + 1: preceding})
    return _sorted_words(machine, physical, columns)


def _links(machine: Machine, pages: Frames, head: int) -> tuple[Words, Words]:
    """`next` and `prev` of the nodes of a list whose own head is at the virtual address `head`;
    `pages` from the front.
    """
    nodes = machine.world.vmemmap.address(pages) + np.uint64(8 * LINK)
    ring = np.concatenate(([np.uint64(head)], nodes, [np.uint64(head)]))
    return ring[2:], ring[:-2]


def _sorted_words(machine: Machine, pages: Words, columns: dict[int, Words]) -> _Words:
    """The words `columns` (word of a struct page to values) of the struct pages at the physical
    addresses `pages`.
    """
    size = np.uint64(machine.world.vmemmap.page_size)
    places = np.concatenate([pages + np.uint64(8 * word) for word in columns])
    order = np.argsort(places, kind="stable")
    places, values = places[order], np.concatenate(list(columns.values()))[order]
    return _Words(
        (places // size).astype(np.int64), (places % size // np.uint64(8)).astype(np.int64), values
    )
