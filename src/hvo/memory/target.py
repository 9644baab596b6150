"""What people name when they want a kernel's memory looked at: a core of any kind, a saved machine,
or `live`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hvo.memory.core import CoreMemory, open_core
from hvo.memory.live import LiveMemory, open_live
from hvo.memory.unpack import is_packed, unpacked

LIVE = "live"
"""The target that is the running kernel."""


def open_target(target: str, announce: Callable[[str], None]) -> CoreMemory | LiveMemory:
    """Open `target`; what is compressed as a whole is unpacked first, of which `announce` is told.

    Raises `HvoError` when it is no core, is truncated or damaged, or the running kernel does not
    let itself be read.
    """
    if target == LIVE:
        return open_live()
    path = Path(target)
    if not is_packed(path):
        return open_core(path)
    with unpacked(path, announce) as core:
        return open_core(core)
