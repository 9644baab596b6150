"""Mounts of hugetlbfs on a machine, and their files: what takes huge pages into use and gives them
back (fs/hugetlbfs/inode.c).
"""

import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from posixpath import dirname, join, normpath

import numpy as np
from numpy.typing import NDArray

from hvo.machine.machine import Machine

_SUFFIX = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class WordError(Exception):
    """A word that the kernel refuses: the message is what a shell's user reads; the scenario goes
    on with status 1.
    """


@dataclass
class Mount:
    """One mount: the size of its pages, at most `limit` of them (None: all there are), and the
    pages of each file by their index.
    """

    point: str
    size: int
    limit: int | None
    files: dict[str, dict[int, int]] = field(default_factory=dict[str, dict[int, int]])

    @property
    def used(self) -> int:
        """Pages that its files hold."""
        return sum(map(len, self.files.values()))


class Hugetlbfs:
    """The hugetlbfs mounts of `machine`, the last mount of a place on top."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.mounts: list[Mount] = []

    def mount(self, source: str, point: str, options: str = "") -> None:
        """Mount on `point` with `options` (`pagesize=2M,size=64M`); raises WordError for an option
        the kernel refuses.
        """
        try:
            self.mounts.append(self._with_options(normpath(join("/", point)), options))
        except ValueError as error:
            raise WordError(
                f"mount: mounting {source} on {point} failed: Invalid argument ({error})"
            ) from None

    def _with_options(self, point: str, options: str) -> Mount:
        """A mount with its options, which the kernel takes in any order: `size` is rounded down to
        whole pages.
        """
        mount, limit = Mount(point, self.machine.default_size, None), None
        for option in filter(None, options.split(",")):
            name, _, value = option.partition("=")
            if name == "pagesize":
                mount = replace(mount, size=self._page_size(value))
            elif name == "size":
                limit = _memparse(value)
            elif name not in ("mode", "uid", "gid", "nr_inodes", "rw", "relatime", "noatime"):
                raise ValueError(f"{option}: expected pagesize=SIZE or size=SIZE")
        return replace(mount, limit=None if limit is None else limit // mount.size)

    def _page_size(self, text: str) -> int:
        size = _memparse(text)
        if size not in self.machine.pools:
            raise ValueError(
                f"pagesize={text}: expected one of"
                f" {', '.join(f'{known // 1024}K' for known in self.machine.pools)}"
            )
        return size

    def umount(self, point: str) -> None:
        """Unmount what is on top at `point`: it was the only one to hold its files, so their pages
        go.
        """
        for mount in reversed(self.mounts):
            if mount.point == normpath(join("/", point)):
                for name in list(mount.files):
                    self._release(mount, mount.files.pop(name))
                self.mounts.remove(mount)
                return
        raise WordError(f"umount: can't unmount {point}: Invalid argument")

    def fallocate(self, path: str, offset: int, length: int) -> None:
        """Give the file `path` the pages of `length` bytes from `offset` on, rounded up to whole
        pages, as far as there are free ones.

        Raises WordError when there are not enough: what it got it keeps.
        """
        mount = self._mount_of(path)
        if mount is None:
            raise WordError(
                f"fallocate: can't open '{path}': it is on no hugetlbfs that is mounted"
            )
        if length <= 0 or offset < 0:
            raise WordError(f"fallocate: fallocate '{path}': Invalid argument")
        pages = mount.files.setdefault(_normal(path), {})
        missing = [
            index
            for index in range(offset // mount.size, -(-(offset + length) // mount.size))
            if index not in pages
        ]
        room = len(missing) if mount.limit is None else min(mount.limit - mount.used, len(missing))
        pages |= zip(missing, self._take(mount.size, room).tolist(), strict=False)
        if missing and missing[-1] not in pages:
            raise WordError(f"fallocate: fallocate '{path}': No space left on device")

    def remove(self, path: str) -> None:
        """Remove the files that `path`, a name or a pattern, stands for; raises WordError when
        there is none.
        """
        mount = self._mount_of(path)
        wanted = _normal(path)
        names = (
            [name for name in mount.files if name == wanted or fnmatchcase(name, wanted)]
            if mount
            else []
        )
        if mount is None or not names:
            raise WordError(f"rm: can't remove '{path}': No such file or directory")
        for name in names:
            self._release(mount, mount.files.pop(name))

    def _mount_of(self, path: str) -> Mount | None:
        """The mount that `path` is a file of."""
        place = dirname(_normal(path))
        return next((mount for mount in reversed(self.mounts) if mount.point == place), None)

    def _take(self, size: int, count: int) -> NDArray[np.int64]:
        """Take up to `count` free pages into use -> their heads, in the order they were taken."""
        used = self.machine.pool(size).used
        before = {node: len(stack) for node, stack in used.items()}
        self.machine.use(size, count)
        return np.concatenate([stack.pages()[before[node] :] for node, stack in used.items()])

    def _release(self, mount: Mount, pages: dict[int, int]) -> None:
        """Take the pages of a file out of use, the first page of the file first
        (`remove_inode_hugepages`).
        """
        heads = np.array([head for _, head in sorted(pages.items())], np.int64)
        self.machine.release_heads(mount.size, heads)


def _normal(path: str) -> str:
    return normpath(join("/", path))


def _memparse(text: str) -> int:
    """Bytes of a size as the kernel reads it (`memparse`): a number and k, m, g or t; raises
    ValueError.
    """
    found = re.fullmatch(r"([0-9]+)([kmgt]?)", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text}: expected a size such as 2M")
    return int(found[1]) * _SUFFIX[found[2].lower()]
