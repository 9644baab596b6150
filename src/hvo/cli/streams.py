"""Standard streams that never fail: the first error of a write is kept, and said at the end.

A command that has changed a host must not die of a full disk behind its standard output. A
descriptor that was closed (`>&-`) is opened on `/dev/null`, for reading only: no file that the
command opens may get its number, and be written to by mistake.
"""

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer


class Outgoing(io.RawIOBase):
    """A descriptor whose writes always succeed; `error` is the first one that did not."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return os.isatty(self._descriptor)

    def write(self, data: "Buffer", /) -> int:
        """Write what can be written; all of it once something could not be."""
        while self.error is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes


class Streams:
    """Standard output and error of this process, guarded; only those of a command line are."""

    def __init__(self) -> None:
        self._out: Outgoing | None = None

    def guard(self) -> None:
        """Put guarded streams in the place of those that Python made, unless a library that calls
        the command has put its own there.
        """
        self._out = None
        if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
            return
        for descriptor in range(3):
            _open(descriptor)
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it was closed
            sys.stdin = open(0, closefd=False)
        self._out = Outgoing(1)
        sys.stdout = _text(self._out)
        sys.stderr = _text(Outgoing(2), line_buffering=True)

    def lost(self) -> str | None:
        """Why standard output could not be written, None if all of it was."""
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - a library's
            sys.stdout.flush()
        error = self._out and self._out.error
        if not error:
            return None
        return "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)

    @property
    def unread(self) -> bool:
        """Whether the reader of standard output has left, as `head` does, who has seen enough."""
        error = self._out and self._out.error
        return isinstance(error, BrokenPipeError)


def _open(descriptor: int) -> None:
    """Open `descriptor`, where it is closed; those below it are open."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)


def _text(raw: Outgoing, *, line_buffering: bool = False) -> io.TextIOWrapper:
    """A text stream; what its encoding lacks is escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=_encoding(),
        errors="backslashreplace",
        line_buffering=line_buffering or raw.isatty(),
    )


def _encoding() -> str:
    """As Python chose it."""
    return getattr(sys.__stdout__, "encoding", None) or "utf-8"
