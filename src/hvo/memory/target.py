"""What people name when they want a kernel's memory looked at: a core of any kind, a saved machine,
or `live`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hvo.errors import HvoError
from hvo.memory.core import CoreMemory, open_core
from hvo.memory.live import LiveMemory, open_live
from hvo.memory.split_dump import joined
from hvo.memory.unpack import is_packed, unpacked

LIVE = "live"
"""The target that is the running kernel."""
_LAYERS = 4
"""How many times a file is unpacked at most: a flattened dump that was compressed is two."""


def open_target(
    target: str, announce: Callable[[str], None], *more: str
) -> CoreMemory | LiveMemory:
    """Open `target`; what is compressed or written as a stream is unpacked first, of which
    `announce` is told.

    With `more`, all are the parts of one split dump. Raises `HvoError` when it is no core, is
    truncated or damaged, or the running kernel does not let itself be read.
    """
    if target == LIVE and not more:
        return open_live()
    with ExitStack() as files:
        paths = [_plain(Path(name), announce, files) for name in (target, *more)]
        path = paths[0] if len(paths) == 1 else files.enter_context(joined(paths, announce))
        try:
            return open_core(path)
        except HvoError as error:  # it names what was unpacked, which is gone when that is read
            raise HvoError(str(error).replace(str(path), target)) from None


def _plain(path: Path, announce: Callable[[str], None], files: ExitStack) -> Path:
    """`path`, unpacked as often as it is packed; what is made is gone with `files`."""
    whole = path
    for _ in range(_LAYERS):
        if not is_packed(path):
            return path
        path = files.enter_context(unpacked(path, announce))
    raise HvoError(f"{whole}: packed more than {_LAYERS} times: unpack it first")
