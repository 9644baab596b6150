"""Letting work that must not stop anywhere stop where it can: an interrupt is kept until the work asks for it."""

import signal
import threading
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Within the block SIGINT and SIGTERM are noted only; at its end the first one becomes a `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.pending = False
        """Whether somebody wants the work to stop."""
        self._before: list[object] = []

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            self._before = [signal.signal(number, self._note) for number in _SIGNALS]
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in zip(_SIGNALS, self._before, strict=False):
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType] - what signal.signal() gave
        if self.pending and kind is None:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pending = True
