"""Keeping pages off a pool's free list for a while, by using them.

The list is a stack (`hvo.host.free_list`): to reach a page, those above it must be off the list.
They are mapped here, and fall back into the pool when the mapping goes, also when the process is
killed: nothing that a crash could leave behind. Nothing is reserved, so that a page that was
promised to somebody else is never taken. Sources: mm/hugetlb.c `alloc_hugetlb_folio()`, mmap(2),
madvise(2), set_mempolicy(2).
"""

import ctypes
import mmap
import os
import platform
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from hvo.errors import HvoError
from hvo.host.tree import Tree
from hvo.layout.units import format_size

_MAP_HUGETLB, _MAP_HUGE_SHIFT, _MAP_NORESERVE = 0x40000, 26, 0x4000
_MADV_POPULATE_WRITE = 23  # from 5.14: allocates now, and reports it when it cannot
_MPOL_DEFAULT, _MPOL_BIND = 0, 2
_SET_MEMPOLICY = {"x86_64": 238}.get(platform.machine(), 237)
_MAX_NODES = 1024


class Hold(Protocol):
    """Something that takes free pages out of a pool for a while."""

    @property
    def pages(self) -> int:
        """How many it holds."""
        ...

    def begin(self, size: int, most: int, node: int | None) -> None:
        """Prepare to take up to `most` pages of `size` bytes of `node`; takes none yet."""
        ...

    def take(self, pages: int) -> None:
        """Use `pages` more free pages, the ones on top of the free list; raises `HvoError` when
        fewer could be taken.
        """
        ...

    def give(self, pages: int) -> None:
        """Put those back that were taken first, in the order that they had."""
        ...

    def release(self) -> None:
        """Put all back, in the order that they had."""
        ...


class MappedPages:
    """Holds pages of the running kernel by mapping and filling them.

    The page that is taken first gets the highest address. A mapping is taken apart from its lowest
    address on, so that the pages are in their old order on the list afterwards, also when the
    process is killed.
    """

    def __init__(self) -> None:
        self._map: mmap.mmap | None = None
        self._size, self._node = 0, None
        self._low = self._high = 0

    @property
    def pages(self) -> int:
        """See `Hold.pages`."""
        return self._high - self._low

    def begin(self, size: int, most: int, node: int | None) -> None:
        """See `Hold.begin`."""
        self.release()
        if not most:
            return
        flags = (
            mmap.MAP_PRIVATE
            | mmap.MAP_ANONYMOUS
            | _MAP_NORESERVE
            | _MAP_HUGETLB
            | (size.bit_length() - 1) << _MAP_HUGE_SHIFT
        )
        self._size, self._node, self._low, self._high = size, node, most, most
        with self._failing(most):
            self._map = mmap.mmap(-1, size * most, flags=flags)

    def take(self, pages: int) -> None:
        """See `Hold.take`."""
        assert self._map is not None, "begin() comes first"
        assert pages <= self._low, "more than begin() was told"
        with self._failing(pages), _Bound(self._node):
            for _ in range(pages):
                self._map.madvise(_MADV_POPULATE_WRITE, (self._low - 1) * self._size, self._size)
                self._low -= 1

    def give(self, pages: int) -> None:
        """See `Hold.give`."""
        assert pages <= self.pages, "more than are held"
        if pages == self.pages:
            self.release()
        elif pages and self._map is not None:
            self._high -= pages
            self._map.resize(self._high * self._size)

    def release(self) -> None:
        """See `Hold.release`."""
        if self._map is not None:
            self._map.close()
        self._map, self._low, self._high = None, 0, 0

    @contextmanager
    def _failing(self, pages: int) -> Generator[None]:
        """Say what could not be done, instead of the number of an error."""
        try:
            yield
        except OSError as error:
            why = os.strerror(error.errno or 0)
            what = f"cannot hold {pages} more pages of {format_size(self._size)}"
            raise HvoError(f"{what} ({why}): others took them, or a cgroup limits them") from error


def mapped_pages(tree: Tree) -> MappedPages:
    """What holds pages of the host in `tree`; raises `HvoError` where that is not running here."""
    tree.require_running("a conversion maps HugeTLB pages of the running kernel")
    return MappedPages()


class _Bound:
    """While it is entered, the memory of this thread comes from one node (from any when `node` is
    `None`).
    """

    def __init__(self, node: int | None) -> None:
        self._node = node

    def __enter__(self) -> None:
        if self._node is not None:
            _set_mempolicy(_MPOL_BIND, 1 << self._node)

    def __exit__(self, *_: object) -> None:
        if self._node is not None:
            _set_mempolicy(_MPOL_DEFAULT, 0)


def _set_mempolicy(mode: int, nodes: int) -> None:
    word = 8 * ctypes.sizeof(ctypes.c_ulong)
    words = [nodes >> shift & ((1 << word) - 1) for shift in range(0, _MAX_NODES, word)]
    mask = (ctypes.c_ulong * len(words))(*words)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(
        ctypes.c_long(_SET_MEMPOLICY), ctypes.c_int(mode), mask, ctypes.c_ulong(_MAX_NODES)
    ):
        raise OSError(ctypes.get_errno(), "set_mempolicy")
