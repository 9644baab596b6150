"""The files of a host below one directory: the running kernel's `/`, or a recorded tree.

Everything that the room reads or writes goes through `Tree`, so that no command can touch a path
outside the root it was given (`hvo.host.beneath`), and so that each refusal of the kernel becomes
one line that says which file, what was written and what to do. A tree is files only: nothing in it
is executed, and no memory is mapped for it.
"""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hvo.errors import HvoError
from hvo.host.beneath import Beneath
from hvo.host.lock import hold, lock_mark, user_name

_MOST = 64 << 20
"""Bytes of a file that are read; no file of procfs or sysfs that is read here has as many."""
_PART = 1 << 16
_DIGITS = 20
"""As many has the largest number that a kernel prints."""
_ADVICE = {
    errno.EACCES: "no permission: run as root",
    errno.EPERM: "no permission: run as root, outside a container that hides it",
    errno.EROFS: "read-only filesystem: run where it is mounted writable",
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EINVAL: "the kernel refuses the value",
    errno.EISDIR: "expected a file, found a directory",
    errno.ENXIO: "expected a regular file, found a device, a pipe or a socket",
    errno.EMLINK: "it has another name (hard link), which may be outside: copy the file",
}


class Write(NamedTuple):
    """One write to a file of the host: its path below the root and the text without the newline."""

    path: str
    value: str


class Tree:
    """The files below `root`; paths are given as on the host, such as `/proc/vmstat`."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Raises `HvoError` when `root` has no `/proc`."""
        self.root = root
        self.running = _is_running(root)
        """Whether it is the running kernel's own root, not a tree."""
        self.written: list[Write] = []
        """Every write that was done, in order."""
        try:
            self._files = Beneath(root)
            is_directory = stat.S_ISDIR(self._files.stat("proc").st_mode)
        except OSError:
            is_directory = False
        if not is_directory:
            raise HvoError(f"root {root}: expected a directory that holds a host's proc and sys")

    def require_running(self, need: str) -> None:
        """Raise `HvoError` unless it is the running host; `need` says what is to be done there."""
        if not self.running:
            raise HvoError(
                f"root {self.root}: {need}, and a tree is files only: --dry-run shows what would be"
                " done, run it on the host itself"
            )

    def path(self, name: str) -> Path:
        """Where the host's file `name` is, for people."""
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether the host has a file or directory `name`; one in a directory that may not be
        entered is as good as missing.
        """
        try:
            self._files.stat(name)
        except OSError:
            return False
        return True

    def readable(self, name: str) -> bool:
        """Whether the file is there, holds anything, and this user may read it."""
        with suppress(OSError):
            return bool(self._bytes(name, 1))
        return False

    def hidden(self, name: str) -> str | None:
        """Why a directory's names cannot be seen, None if they can."""
        try:
            self._files.listdir(name)
        except OSError as error:
            return error.strerror
        return None

    def names(self, name: str) -> list[str]:
        """Sorted names in the directory `name`; none when it is missing or may not be read."""
        try:
            return sorted(self._files.listdir(name))
        except OSError:
            return []

    def owner(self, name: str) -> str | None:
        """Which other user the file belongs to, where that is neither root nor this user's."""
        with suppress(OSError):
            uid = self._files.stat(name).st_uid
            return None if uid in (0, os.geteuid()) else user_name(uid)
        return None

    def data(self, name: str) -> bytes:
        """The bytes of a file; raises `HvoError` when it cannot be read."""
        try:
            found = self._bytes(name, _MOST + 1)
        except OSError as error:
            raise self._failed("read", name, error) from error
        if len(found) > _MOST:
            raise HvoError(f"{self.path(name)}: expected at most {_MOST >> 20} MiB")
        return found

    def read(self, name: str) -> str:
        """The text of a file; raises `HvoError` when it cannot be read."""
        return self.data(name).decode("utf-8", "replace")

    def read_or(self, name: str, missing: str) -> str:
        """The text of a file, or `missing` when it is not there or may not be read."""
        try:
            return self.read(name)
        except HvoError:
            return missing

    def number(self, name: str) -> int:
        """The number that a file holds; raises `HvoError` when it holds something else."""
        text = self.read(name).strip()
        if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
            raise HvoError(f"{self.path(name)}: expected a number, found {text[:40]!r}")
        return int(text)

    def write(self, name: str, value: str) -> None:
        """Write `value` to an existing file of the kernel, in one write call; raises `HvoError`
        when it is refused.
        """
        try:
            self._put(name, value)
        except OSError as error:
            raise self._failed(f"write {value!r} to", name, error) from error
        self.written.append(Write(name, value))

    def replace(self, name: str, text: str, *, durable: bool = True) -> None:
        """Write a whole file: a reader sees the old one or the new one, when `durable` also after a
        power cut; makes its directory.
        """
        try:
            self._files.replace(name, text.encode(), durable=durable)
        except OSError as error:
            raise self._failed("write", name, error) from error
        self.written.append(Write(name, text.rstrip("\n")))

    def remove(self, name: str) -> None:
        """Remove a file that may be gone already; raises `HvoError` when that is refused."""
        try:
            self._files.unlink(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failed("remove", name, error) from error

    @contextmanager
    def lock(self, name: str) -> Generator[None]:
        """Hold the lock file `name` for the block; it goes away with the process. Raises `HvoError`
        when somebody has it.
        """
        with ExitStack() as held:
            try:
                found = hold(self._files, name, self.path(name), processes=self.running)
                held.enter_context(found)
            except OSError as error:
                raise self._failed("write", name, error) from error
            yield

    def locked(self, name: str) -> bool:
        """Whether somebody holds the lock file `name`, as far as `/proc/locks` shows it: trying
        would be in the way of others.
        """
        try:
            mark = lock_mark(self._files.stat(name))
        except OSError:
            return False
        return any(
            "FLOCK" in line and mark in line
            for line in self.read_or("/proc/locks", "").splitlines()
        )

    def _bytes(self, name: str, most: int) -> bytes:
        """At most so many bytes of a file; sysctl files refuse to be asked for many at once."""
        with open(self._files.open(name, os.O_RDONLY), "rb", buffering=0) as file:
            found = b""
            while len(found) < most and (part := file.read(min(_PART, most - len(found)))):
                found += part
            return found

    def _put(self, name: str, value: str) -> None:
        descriptor = self._files.open(name, os.O_WRONLY)
        try:
            if not self.running:
                if os.fstat(descriptor).st_nlink > 1:
                    raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
                os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)

    def _failed(self, verb: str, name: str, error: OSError) -> HvoError:
        advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        return HvoError(f"cannot {verb} {self.path(name)}: {advice}")


def _is_running(root: Path) -> bool:
    """Whether `root` is a way to write `/`, not another place that leads there."""
    try:
        same = os.path.samefile(root, "/")
    except OSError:
        return False
    return same and os.path.normpath(os.path.abspath(root)) in ("/", "//")
