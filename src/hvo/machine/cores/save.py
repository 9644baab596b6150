"""Save a machine as an ELF core that dump readers open like a kernel's.

The core holds what the machine keeps contents of: page tables, struct pages, mem_section[] and the
list heads of its pools; in struct pages what the allocator and the pools say is worked in. Frames
whose contents do not matter to the mechanism are absent, as in a filtered dump.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvo.errors import HvoError
from hvo.machine.boot.kernel_data import KernelData
from hvo.machine.cores.saved_pages import SavedPages
from hvo.machine.cores.vmcoreinfo import vmcoreinfo
from hvo.machine.machine import Machine
from hvo.memory.core import CoreMemory
from hvo.memory.elf import Run, write_elf_core
from hvo.memory.interface import Words

Frames = NDArray[np.int64]
_AT_A_TIME = 1 << 24  # bytes read, worked on and written at once
_SECTION_FLAGS = 0b1111
"""Marked present, has memmap, online, early (include/linux/mmzone.h)."""


def save_core(machine: Machine, path: str | Path) -> None:
    """Write `machine` as the ELF core `path`, which appears when it is complete.

    Raises `HvoError` when the file cannot be written.
    """
    data = machine.plan.data
    if data is None:
        _save(machine, Path(path), _backing(machine).vmcoreinfo.to_text(), None)
        return
    _write_mem_section(machine, data)
    text = vmcoreinfo(machine.world, machine.plan, data).to_text()
    _save(machine, Path(path), text, data.virtual(data.frame * data.page_size))


def _backing(machine: Machine) -> CoreMemory:
    backing = machine.world.memory.backing
    if not isinstance(backing, CoreMemory):
        raise HvoError("a machine that was neither built nor loaded from a core cannot be saved")
    return backing


def _save(machine: Machine, path: Path, text: str, lists: int | None) -> None:
    frames = machine.world.memory.written() if lists is not None else _all_frames(machine)
    runs = _runs(SavedPages(machine, lists), frames, machine.plan.geometry.page_size)
    write_elf_core(path, machine.plan.geometry.arch, text, runs)


def _all_frames(machine: Machine) -> Frames:
    """The frames that the machine has written, and those that its core has."""
    segments, size = _backing(machine).segments, machine.plan.geometry.page_size
    spans = zip(
        (segments.starts // np.uint64(size)).tolist(),
        (segments.ends // np.uint64(size)).tolist(),
        strict=True,
    )
    there = [np.arange(start, end, dtype=np.int64) for start, end in spans]
    frames = np.unique(np.concatenate([machine.world.memory.written(), *there]))
    return frames[machine.world.memory.readable(frames.astype(np.uint64) * np.uint64(size))]


def _runs(pages: SavedPages, frames: Frames, page_size: int) -> Iterator[Run]:
    """`frames` as runs of neighbours; the words of many are made at once."""
    for start in range(0, len(frames), _AT_A_TIME // page_size):
        part = frames[start : start + _AT_A_TIME // page_size]
        words = pages.frames(part)
        cuts = [0, *(np.flatnonzero(np.diff(part) != 1) + 1).tolist(), len(part)]
        for first, last in pairwise(cuts):
            chunk = partial(_chunk, words[first:last])
            yield Run(int(part[first]) * page_size, (last - first) * page_size, chunk)


def _chunk(words: Words) -> Iterator[bytes]:
    yield words.tobytes()


def _write_mem_section(machine: Machine, data: KernelData) -> None:
    """Write `mem_section[]`: every section that a zone has, with the (encoded) address of its
    struct pages.
    """
    memory, per_root = machine.world.memory, data.sections_per_root
    numbers = _sections(machine, data)
    if len(numbers) and numbers[-1] >= data.sections:
        raise HvoError(
            f"section {numbers[-1]} is beyond the {data.sections} that this machine can describe:"
            " add memory further down"
        )
    memory.write_frames(np.arange(data.frame, data.frame + data.pages), 0)
    arrays = np.unique(numbers // per_root)
    pointers = np.array(
        [data.virtual(data.arrays + int(i) * data.page_size) for i in arrays], np.uint64
    )
    memory.write_words(np.uint64(data.roots) + arrays.astype(np.uint64) * np.uint64(8), pointers)
    # The address is encoded so that adding a frame number times sizeof(struct page) gives that
    # frame's (sparse_encode_mem_map).
    places = np.uint64(data.arrays) + numbers.astype(np.uint64) * np.uint64(16)
    memory.write_words(places, machine.world.vmemmap.base | _SECTION_FLAGS)


def _sections(machine: Machine, data: KernelData) -> Frames:
    """Numbers of the sections that have memory, ascending."""
    pages = (1 << data.section_bits) // data.page_size
    ranges = [zone.present for zone in machine.world.zones.zones]
    spans = [
        span
        for part in ranges
        for span in zip(part.starts.tolist(), part.ends.tolist(), strict=True)
    ]
    parts = [np.arange(start // pages, -(-end // pages), dtype=np.int64) for start, end in spans]
    return np.unique(np.concatenate(parts))
