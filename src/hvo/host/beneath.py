"""Opening files below one directory, so that no link leads out of it.

A tree may come from somebody else: a recorded host, an image, a container's root. Its links are
followed as in a chroot(2): an absolute one starts at the tree's root, and `..` stays in it. Every
component is opened by itself, relative to the directory before it and without following links
(`O_PATH | O_NOFOLLOW`), and `..` goes back to the directory that was walked through; whoever
replaces a directory by a link meanwhile gains nothing. The same as openat2(2) with
`RESOLVE_IN_ROOT`, which kernels have since 5.6 and containers often forbid.

Only regular files are opened: a FIFO would block, and opening a device may do something.
"""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_MOST_LINKS = 40
"""As many as the kernel follows."""
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Beneath:
    """The files below `root`; names are relative to it, whether they begin with a slash or not.

    Methods raise `OSError`, as the calls do that they are named after.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self) -> None:
        """Close the directory."""
        if hasattr(self, "_root"):
            os.close(self._root)

    @contextmanager
    def at(self, name: str, *, make: bool = False) -> Generator[int]:
        """A descriptor (`O_PATH`) of what `name` leads to; with `make`, directories that are
        missing are made.
        """
        walked = [os.dup(self._root)]
        try:
            self._walk(walked, name, make)
            yield walked[-1]
        finally:
            for descriptor in walked:
                os.close(descriptor)

    @contextmanager
    def parent(self, name: str, *, make: bool = False) -> Generator[tuple[int, str]]:
        """The directory that `name` is in, and its name there, which is not followed if a link."""
        directory, _, leaf = name.rstrip("/").rpartition("/")
        with self.at(directory, make=make) as found:
            yield found, leaf

    def open(self, name: str, flags: int) -> int:
        """Open a regular file."""
        with self.at(name) as found:
            mode = os.fstat(found).st_mode
            if not stat.S_ISREG(mode):
                raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO, "no file")
            return os.open(f"/proc/self/fd/{found}", flags | os.O_CLOEXEC | os.O_NOCTTY)

    def listdir(self, name: str) -> list[str]:
        """The names in a directory."""
        with self.at(name) as found:
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
        try:
            return os.listdir(directory)
        finally:
            os.close(directory)

    def stat(self, name: str) -> os.stat_result:
        """What `name` leads to."""
        with self.at(name) as found:
            return os.fstat(found)

    def replace(self, name: str, data: bytes, *, durable: bool) -> None:
        """Write a whole file in the place of the one that is there; makes its directory."""
        with self.parent(name, make=True) as (parent, leaf):
            fresh = f".{leaf}.new"
            with suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=parent)  # left behind by a kill
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with open(os.open(fresh, flags, 0o644, dir_fd=parent), "wb") as file:
                    file.write(data)
                    file.flush()
                    if durable:
                        os.fsync(file.fileno())
                os.replace(fresh, leaf, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                with suppress(OSError):
                    os.unlink(fresh, dir_fd=parent)
                raise

    def unlink(self, name: str) -> None:
        """Remove a file; a link itself, not what it leads to."""
        with self.parent(name) as (parent, leaf):
            os.unlink(leaf, dir_fd=parent)

    def _walk(self, walked: list[int], name: str, make: bool) -> None:
        """Go on from the last of `walked`, and append every directory on the way."""
        ahead, links = name.split("/")[::-1], 0
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(walked) > 1:
                    os.close(walked.pop())
                continue
            found = _open(part, walked[-1], make)
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                walked.append(found)
                continue
            links += 1
            target = _target(found)
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            while target.startswith("/") and len(walked) > 1:
                os.close(walked.pop())
            ahead += target.split("/")[::-1]


def _open(part: str, directory: int, make: bool) -> int:
    try:
        return os.open(part, _LOOK, dir_fd=directory)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):
        os.mkdir(part, 0o755, dir_fd=directory)
    return os.open(part, _LOOK, dir_fd=directory)


def _target(link: int) -> str:
    """Where a link leads; closes it."""
    try:
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)
