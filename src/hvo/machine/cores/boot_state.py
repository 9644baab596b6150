"""Take a machine loaded from a core back to what its kernel was before it had any HugeTLB page.

At boot, leaves (or pages, where no leaf maps the vmemmap) map frames that were reserved before the
page allocator existed. Optimising gives those frames to the allocator, which drops the mark, and
restoring takes others: so whatever still maps a reserved frame shows where its leaf's frames were,
and leaves of which nothing is left lie in line with their neighbours. The vmemmap of memory that
was added later has frames from the page allocator.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.kernel.zone_layout import zone_number
from hvo.kernel.zones import Zones
from hvo.memory.interface import Words
from hvo.mmu.walk import entry_locations, walk
from hvo.steps.struct_pages import StorePage
from hvo.world.pools import free_sound
from hvo.world.state import World
from hvo.world.struct_pages import store_page

Frames = NDArray[np.int64]
_UNKNOWN = -1


@dataclass(frozen=True)
class _Mapped:
    """How the vmemmap is mapped now, in units of what one leaf maps: arrays of shape (units,
    pages).

    `pfn`: first frame whose struct page is in each vmemmap page; `frame` that it maps; `split`:
    which units a table of pages maps; `added`: which units are of memory that was not there at
    boot: no page of a range of it maps a reserved frame.
    """

    pfn: Frames
    frame: Frames
    writable: NDArray[np.bool_]
    location: Words
    split: NDArray[np.bool_]
    added: NDArray[np.bool_]


def unmake_pools(world: World, leaf: int | None) -> None:
    """Free every HugeTLB page and map the whole vmemmap as at boot, with leaves of `leaf` bytes
    (None: pages), from reserved frames; raises `HvoError` when there is no room.
    """
    now = _mapped(world, leaf)
    huge = _huge(world, now.pfn)
    tables = _tables(world, now)
    _free_pages(world)
    own = _own_frames(world.zones, now)
    _move_contents(world, now, own, huge)
    if leaf:
        _map_leaves(world, now, own)
    else:
        changed = (now.frame != own) | ~now.writable
        entries = world.vmemmap.leaf_entry(own[changed], writable=True)
        world.memory.write_words(now.location[changed], entries)
    _free_others(world.zones, now, own, tables)
    _reserve(world.zones, own[~now.added].ravel())
    _take(world.zones, own[now.added].ravel())
    _free_small_pages(world)
    world.zones.drain()


def _mapped(world: World, leaf: int | None) -> _Mapped:
    v = world.vmemmap
    present = [zone.present for zone in world.zones.zones]
    ranges = [
        span
        for part in present
        for span in zip(part.starts.tolist(), part.ends.tolist(), strict=True)
    ]
    pfns = np.concatenate(
        [np.arange(start, end, v.structs_per_page, dtype=np.int64) for start, end in ranges]
    )
    pfns = pfns.reshape(-1, leaf // v.page_size if leaf else 1)
    found = walk(world.memory, v.format, world.root, v.address(pfns))
    frames = (found.address // np.uint64(v.page_size)).astype(np.int64)
    reserved = world.zones.is_reserved(frames.ravel()).reshape(frames.shape)
    added = np.zeros(len(pfns), np.bool_)
    for start, end in ranges:
        inside = (pfns[:, 0] >= start) & (pfns[:, 0] < end)
        added[inside] = not reserved[inside].any()
    split = (found.level[:, 0] == 0) & bool(leaf)
    return _Mapped(pfns, frames, found.writable, found.location, split, added)


def _huge(world: World, pfns: Frames) -> NDArray[np.bool_]:
    """Which vmemmap pages are all a HugeTLB page's."""
    out, flat = np.zeros(pfns.size, np.bool_), pfns.ravel()
    for pool in world.pools.values():
        pages = world.vmemmap.vmemmap_pages(pool.order)
        if pages:
            out[np.searchsorted(flat, pool.heads())[:, None] + np.arange(pages, dtype=np.int64)] = (
                True
            )
    return out.reshape(pfns.shape)


def _tables(world: World, now: _Mapped) -> Frames:
    """The frames of the last-level tables of the units that were split."""
    return now.location[now.split, 0].astype(np.int64) // world.vmemmap.page_size


def _free_pages(world: World) -> None:
    """Give the HugeTLB pages whose struct pages fill whole vmemmap pages to the page allocator."""
    for pool in world.pools.values():
        if world.vmemmap.vmemmap_pages(pool.order):
            heads = pool.heads()
            pool.clear()
            world.zones.free(heads, pool.order)


def _free_small_pages(world: World) -> None:
    """Unmake and free the others, whose struct pages are among those of their neighbours."""
    for pool in world.pools.values():
        heads = pool.heads()
        if heads.size:
            pool.clear()
            store_page(world, StorePage(heads, "hugetlb", 0))
            free_sound(world, heads, pool.order)


# -- where the frames were --


def _own_frames(zones: Zones, now: _Mapped) -> Frames:
    """The frames that the vmemmap had at boot."""
    pages = now.pfn.shape[1]
    index = np.arange(pages, dtype=np.int64)
    first = _in_line(zones, _shown_firsts(zones, now), pages)
    for unit in np.flatnonzero(first == _UNKNOWN).tolist():
        first[unit] = _fresh(zones, pages)
    return first[:, None] + index


def _shown_firsts(zones: Zones, now: _Mapped) -> Frames:
    """The first frame of each unit as its entries show it: where most of those agree that map a
    reserved frame (any, in memory that was added), and no other maps.
    """
    pages = now.pfn.shape[1]
    reserved = zones.is_reserved(now.frame.ravel()).reshape(now.frame.shape) & now.writable
    _, which, times = np.unique(now.frame, return_inverse=True, return_counts=True)
    alone = times[which.reshape(now.frame.shape)] == 1
    reserved = (reserved | now.added[:, None]) & alone
    firsts = now.frame - np.arange(pages, dtype=np.int64)
    out = np.where(reserved[:, 0] & ~now.split, firsts[:, 0], _UNKNOWN)
    for unit in np.flatnonzero(now.split).tolist():
        values, counts = np.unique(
            firsts[unit][reserved[unit] & (firsts[unit] % pages == 0)], return_counts=True
        )
        out[unit] = values[np.argmax(counts)] if len(values) else _UNKNOWN
    return out


def _in_line(zones: Zones, first: Frames, pages: int) -> Frames:
    """`first` with the unknown ones filled in that lie in line, upwards or downwards, with the
    known ones on both sides.
    """
    out, known = first.copy(), np.flatnonzero(first != _UNKNOWN)
    gaps = np.flatnonzero(np.diff(known) > 1)
    for left, right in zip(known[gaps].tolist(), known[gaps + 1].tolist(), strict=True):
        step = (first[right] - first[left]) // (right - left)
        line = first[left] + step * np.arange(1, right - left, dtype=np.int64)
        frames = (line[:, None] + np.arange(pages, dtype=np.int64)).ravel()
        if (
            abs(step) == pages
            and first[right] == line[-1] + step
            and not zones.is_reserved(frames).any()
        ):
            out[left + 1 : right] = line
    return out


def _fresh(zones: Zones, pages: int) -> int:
    """The first of `pages` neighbouring free frames, taken, for a unit whose own cannot be
    known.
    """
    got = zones.allocate(pages.bit_length() - 1, 1, 0)
    if not got.size:
        raise HvoError(
            f"too little free memory to take this core back to boot: its struct pages need {pages}"
            " neighbouring frames"
        )
    return int(got[0])


# -- putting them back --


def _move_contents(world: World, now: _Mapped, own: Frames, huge: NDArray[np.bool_]) -> None:
    """Fill the boot frames: struct pages of HugeTLB pages become those of free pages, all others
    are kept.
    """
    moved = ~huge & (now.frame != own)
    world.memory.write_frames(own[moved], world.memory.read_frames(now.frame[moved]))
    zones = np.asarray(world.vmemmap.zone_of(now.pfn[huge]))
    for index in (int(index) for index in np.unique(zones)):
        zone = world.zones.zones[index]
        number = zone_number(world.vmemmap.format.arch, zone.name)
        world.memory.fill_rows(own[huge][zones == index], world.layout.free_row(zone.node, number))


def _map_leaves(world: World, now: _Mapped, own: Frames) -> None:
    v = world.vmemmap
    firsts = v.address(now.pfn[:, 0])
    locations = entry_locations(world.memory, v.format, world.root, firsts, 1)
    like = (
        int(world.memory.read_words(locations[~now.split][:1])[0])
        if not now.split.all()
        else v.format.make_leaf(0, 1)
    )
    physical = own[now.split, 0].astype(np.uint64) * np.uint64(v.page_size)
    leaves = np.asarray(
        v.format.with_output(np.full(physical.shape, like, np.uint64), physical, 1), np.uint64
    )
    world.memory.write_words(locations[now.split], leaves)


def _free_others(zones: Zones, now: _Mapped, own: Frames, tables: Frames) -> None:
    """Free the frames that came after boot: moved heads, shared tails, restored pages, and the
    tables of split leaves.
    """
    later = np.setdiff1d(now.frame, own)
    zones.free_reserved(np.union1d(later, tables))


def _take(zones: Zones, frames: Frames) -> None:
    """Allocate those of `frames` that are free."""
    zones.take(np.sort(frames[zones.is_free(frames)]))


def _reserve(zones: Zones, frames: Frames) -> None:
    """Reserve `frames`, whatever they are now."""
    frames = frames[~zones.is_reserved(frames)]
    zones.free_frames(frames[~zones.is_free(frames)])
    zones.reserve(np.sort(frames))
