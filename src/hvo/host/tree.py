"""The files of a host below one directory: the running kernel's `/`, or a recorded tree.

Everything that the room reads or writes goes through `Tree`, so that no command can touch a path
outside the root it was given, and so that each refusal of the kernel becomes one line that says
which file, what was written and what to do.
"""

import errno
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hvo.errors import HvoError

_ADVICE = {
    errno.EACCES: "no permission: run as root",
    errno.EPERM: "no permission: run as root, outside a container that hides it",
    errno.EROFS: "read-only filesystem: run where it is mounted writable",
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.EINVAL: "the kernel refuses the value",
}


class Write(NamedTuple):
    """One write to a file of the host: its path below the root and the text without the newline."""

    path: str
    value: str


class Tree:
    """The files below `root`; paths are given as on the host, such as `/proc/vmstat`."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Raises `HvoError` when `root` has no `/proc`."""
        if not (root / "proc").is_dir():
            raise HvoError(f"root {root}: expected a directory that holds a host's proc and sys")
        self.root = root
        self.written: list[Write] = []
        """Every write that was done, in order."""

    def path(self, name: str) -> Path:
        """Where the host's file `name` is."""
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether the host has a file or directory `name`; one in a directory that may not be
        entered is as good as missing.
        """
        return os.path.exists(
            self.path(name)
        )  # `Path.exists` raises PermissionError before Python 3.14

    def readable(self, name: str) -> bool:
        """Whether the file is there and this user may read it."""
        return os.access(self.path(name), os.R_OK)

    def names(self, name: str) -> list[str]:
        """Sorted names in the directory `name`; none when it is missing or may not be read."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def data(self, name: str) -> bytes:
        """The bytes of a file; raises `HvoError` when it cannot be read."""
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise self._failed("read", name, error) from error

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
        if not text.isascii() or not text.isdigit():
            raise HvoError(f"{self.path(name)}: expected a number, found {text[:40]!r}")
        return int(text)

    def write(self, name: str, value: str) -> None:
        """Write `value` to an existing file of the kernel, in one write call; raises `HvoError`
        when it is refused.
        """
        try:
            self._put(self.path(name), value)
        except OSError as error:
            raise self._failed(f"write {value!r} to", name, error) from error
        self.written.append(Write(name, value))

    def replace(self, name: str, text: str, *, durable: bool = True) -> None:
        """Write a whole file: a reader sees the old one or the new one, when `durable` also after a
        power cut; makes its directory.
        """
        path = self.path(name)
        fresh = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            raise self._failed("write", name, error) from error
        self.written.append(Write(name, text.rstrip("\n")))

    def remove(self, name: str) -> None:
        """Remove a file that may be gone already; raises `HvoError` when that is refused."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("remove", name, error) from error

    @contextmanager
    def lock(self, name: str) -> Generator[None]:
        """Hold the lock file `name` for the block; it goes away with the process. Raises `HvoError`
        when somebody has it.
        """
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
        except OSError as error:
            raise self._failed("write", name, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise HvoError(
                    f"{path}: another hvo is changing the pools of this host; wait until it has"
                    " finished"
                ) from error
            yield

    def locked(self, name: str) -> bool:
        """Whether somebody holds the lock file `name`, as far as `/proc/locks` shows it: trying
        would be in the way of others.
        """
        try:
            file = os.stat(self.path(name))
        except OSError:
            return False
        mark = f" {os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino} "
        return any(
            "FLOCK" in line and mark in line
            for line in self.read_or("/proc/locks", "").splitlines()
        )

    def _put(self, path: Path, value: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)

    def _failed(self, verb: str, name: str, error: OSError) -> HvoError:
        advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        return HvoError(f"cannot {verb} {self.path(name)}: {advice}")
