"""Letting work that must not stop anywhere stop where it can: an interrupt is kept until the work
asks for it.
"""

import signal
import threading
from types import FrameType

_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
)  # the last when the terminal goes, such as a broken ssh session

INTERRUPTED = "interrupted"
"""The problem of work that has more to say than that."""


class Interrupts:
    """Within the block these signals are noted only, ignored ones (nohup) apart; at its end they
    become a `KeyboardInterrupt`.
    """

    def __init__(self) -> None:
        self.pending = False
        """Whether somebody wants the work to stop."""
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            caught = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in caught}
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType] - what signal.signal() gave
        if self.pending and kind is None:
            raise KeyboardInterrupt

    def taken(self) -> str:
        """Take the interrupt over: the caller ends with this problem, and what else there is to
        say, instead of a `KeyboardInterrupt`.
        """
        self.pending = False
        return INTERRUPTED

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pending = True
