"""The lock that is held while pools change: a file of mode 0600, in a directory that only root can
enter.

Any user who may open a file may hold a lock on it (flock(2)), and would keep root from its work.
Directories and locks of hvo 0.1.0 could be entered and opened by all, and somebody may have them
open still. A lock that root meets in the hands of another user is therefore moved out of the way;
one that root holds itself is respected, and named.
"""

import fcntl
import os
import pwd
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from hvo.errors import HvoError
from hvo.host.beneath import Beneath
from hvo.safe_text import mask_secrets

_DIRECTORY, _FILE = 0o700, 0o600
_ATTEMPTS = 10
_SHOWN = 80


class Holder(NamedTuple):
    """A process that holds a lock."""

    pid: int
    uid: int
    command: str

    def __str__(self) -> str:
        """For people."""
        return f"process {self.pid} ({self.command}) of {user_name(self.uid)}"


@contextmanager
def hold(files: Beneath, name: str, shown: Path, *, processes: bool) -> Generator[None]:
    """Hold the lock file `name` for the block; it goes away with the process.

    `shown` is its path for people; `processes` says whether those that `/proc` shows may be looked
    at. Raises `HvoError` that names who holds it, and `OSError` where it cannot be made.
    """
    directory, _, leaf = name.rpartition("/")
    with files.at(directory, make=True) as place:
        _secure_directory(place, shown.parent)
        file = _taken(place, leaf, shown, processes)
    try:
        yield
    finally:
        os.close(file)


def holders(file: os.stat_result) -> Iterator[Holder]:
    """Who holds a lock on the file, as far as the kernel tells: the process that took it, or if it
    has ended those that have the file open still.
    """
    pids = list(_lockers(file)) or list(_openers(file))
    return filter(None, map(_holder, pids))


def user_name(uid: int) -> str:
    """What a user is called."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _secure_directory(place: int, shown: Path) -> None:
    """Take the directory over, so that nobody else can enter it."""
    found = os.fstat(place)
    if not stat.S_ISDIR(found.st_mode):
        raise HvoError(f"{shown}: expected a directory of hvo's own; remove it")
    if (found.st_uid, stat.S_IMODE(found.st_mode)) != (os.geteuid(), _DIRECTORY):
        own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
        try:
            os.fchown(own, os.geteuid(), os.getegid())
            os.fchmod(own, _DIRECTORY)
        finally:
            os.close(own)


def _taken(place: int, leaf: str, shown: Path, processes: bool) -> int:
    """A descriptor that holds the lock."""
    for _ in range(_ATTEMPTS):
        file = _opened(place, leaf, shown)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _make_way(file, place, leaf, shown, processes)
        else:
            if _is_named(file, place, leaf):
                os.ftruncate(file, 0)
                os.write(file, _own_line().encode())
                return file
        os.close(file)
    raise HvoError(f"{shown}: somebody replaces it again and again; nothing was changed")


def _opened(place: int, leaf: str, shown: Path) -> int:
    """The lock file, made if it is missing, which nobody else can open from now on."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(leaf, flags, _FILE, dir_fd=place)
    except IsADirectoryError:
        raise HvoError(f"{shown}: expected a file of hvo's own, found a directory") from None
    except OSError as error:
        if not stat.S_ISLNK(os.stat(leaf, dir_fd=place, follow_symlinks=False).st_mode):
            raise
        raise HvoError(f"{shown}: expected a file of hvo's own, found a link; remove it") from error
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(file)
        raise HvoError(f"{shown}: expected a file of hvo's own with no other name; remove it")
    if found.st_uid != os.geteuid():
        os.fchown(file, os.geteuid(), os.getegid())
    if stat.S_IMODE(found.st_mode) != _FILE:
        os.fchmod(file, _FILE)
    return file


def _make_way(file: int, place: int, leaf: str, shown: Path, processes: bool) -> None:
    """Move a lock that only other users hold out of the way; raise `HvoError` that names who holds
    any other.
    """
    said = os.pread(file, 200, 0).decode("utf-8", "replace").strip()
    found = list(holders(os.fstat(file))) if processes else []
    if found and all(holder.uid not in (0, os.geteuid()) for holder in found):
        aside = f"{leaf}.{os.getpid()}"
        try:
            os.rename(leaf, aside, src_dir_fd=place, dst_dir_fd=place)
        except FileNotFoundError:
            return
        if not os.path.samestat(
            os.fstat(file), os.stat(aside, dir_fd=place, follow_symlinks=False)
        ):
            with suppress(FileExistsError):  # another hvo has made way already: this is its lock
                os.link(aside, leaf, src_dir_fd=place, dst_dir_fd=place)
        os.unlink(aside, dir_fd=place)
        return
    os.close(file)
    who = ", ".join(map(str, found)) or said or "a process that cannot be seen from here"
    raise HvoError(
        f"{shown}: held by {who}: another hvo is changing the pools of this host; wait until it has"
        " finished"
    )


def _is_named(file: int, place: int, leaf: str) -> bool:
    """Whether the file that is locked is the one with the name still."""
    try:
        named = os.stat(leaf, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), named)


def _own_line() -> str:
    """What the file says of who holds it, for those who cannot see the process."""
    own = _holder(os.getpid()) or Holder(os.getpid(), os.getuid(), "hvo")
    return f"{own}\n"


def _lockers(file: os.stat_result) -> Iterator[int]:
    """Processes that hold a lock on the file by `/proc/locks`, and are there."""
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            if " FLOCK " in line and "->" not in line and lock_mark(file) in line:
                pid = int(line.split("FLOCK")[1].split()[2])
                if os.path.exists(f"/proc/{pid}"):
                    yield pid


def lock_mark(file: os.stat_result) -> str:
    """How a line of `/proc/locks` names a file."""
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    return f" {device}:{file.st_ino} "


def _openers(file: os.stat_result) -> Iterator[int]:
    """Other processes that have the file open."""
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            opened = os.listdir(f"/proc/{pid}/fd") if pid != os.getpid() else []
            if any(_same(f"/proc/{pid}/fd/{each}", file) for each in opened):
                yield pid


def _same(path: str, file: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.stat(path), file)
    return False


def _holder(pid: int) -> Holder | None:
    """What `/proc` says of a process."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        status = Path(f"/proc/{pid}/status").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    uid = int(status.partition("\nUid:")[2].split()[0])
    command = " ".join(" ".join(words).split()) or name
    return Holder(pid, uid, mask_secrets(command)[:_SHOWN])
