"""Keeping converted pages out of the way, by using them.

A pool's free list is a stack: the page that came last leaves first. A second batch would therefore
be the first batch again, unless the pages of the first one are in use meanwhile. They are mapped
here, and fall back into the pool when the mapping goes, also when the process is killed: nothing
that a crash could leave behind. Sources: mm/hugetlb.c `enqueue_hugetlb_folio()`, mmap(2),
madvise(2), set_mempolicy(2).
"""

import ctypes
import mmap
import os
import platform
from typing import Protocol

from hvo.errors import HvoError
from hvo.layout.units import format_size

_MAP_HUGETLB, _MAP_HUGE_SHIFT = 0x40000, 26
_MADV_POPULATE_WRITE = 23  # from 5.14: allocates now, and reports it when it cannot
_MPOL_DEFAULT, _MPOL_BIND = 0, 2
_SET_MEMPOLICY = {"x86_64": 238}.get(platform.machine(), 237)
_MAX_NODES = 1024


class Hold(Protocol):
    """Something that takes free pages out of a pool for a while."""

    def take(self, size: int, pages: int, node: int | None) -> None:
        """Use `pages` free pages of `size` bytes of `node`, the ones on top of its free list;
        raises `HvoError` when it cannot.
        """
        ...

    def release(self) -> None:
        """Give them all back to their pools."""
        ...


class MappedPages:
    """Holds pages of the running kernel by mapping and filling them."""

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []

    def take(self, size: int, pages: int, node: int | None) -> None:
        """See `Hold.take`."""
        flags = (
            mmap.MAP_PRIVATE
            | mmap.MAP_ANONYMOUS
            | _MAP_HUGETLB
            | (size.bit_length() - 1) << _MAP_HUGE_SHIFT
        )
        try:
            with _Bound(node):
                held = mmap.mmap(-1, size * pages, flags=flags)
                self._maps.append(held)
                held.madvise(_MADV_POPULATE_WRITE)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            what = f"cannot hold {pages} converted pages of {format_size(size)}"
            raise HvoError(f"{what} ({why}): others took them, or a cgroup limits them") from error

    def release(self) -> None:
        """See `Hold.release`."""
        while self._maps:
            self._maps.pop().close()


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
