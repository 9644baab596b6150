"""The live view of `hvo watch`, on Textual: looks at the host at an interval, and draws what was
found.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from hvo.errors import HvoError
from hvo.host.status import Status
from hvo.host.watching import Mapped, Watcher, read_map
from hvo.memory.target import LIVE
from hvo.report.watch_text import (
    advice_line,
    counter_lines,
    curve,
    map_text,
    pool_lines,
    saving_line,
    state_text,
    title,
)
from hvo.safe_text import escape_controls

_REST = 10
"""After an audit of the running kernel it rests for so many times as long as it took: watching must
not load the host.
"""
_PARTS = ("state", "pools", "counters", "saved", "curve", "advice", "map")


class WatchApp(App[None]):
    """Shows what `watcher` sees every `interval` seconds, and the vmemmap of `target` (`live`, a
    core, or `None`).
    """

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("r", "look", "look now"),
    ]
    CSS = """
    Screen { scrollbar-size-vertical: 1; }
    #title { text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    #problem { text-style: bold; color: $error; display: none; }
    #view { scrollbar-size-vertical: 1; }
    #view Static { height: auto; }
    #pools, #counters, #map { margin-top: 1; }
    """

    def __init__(self, watcher: Watcher, interval: float, target: str | None) -> None:
        super().__init__(
            ansi_color=True if "NO_COLOR" in os.environ else None
        )  # else Textual writes greys where no colour is asked for
        self._watcher, self._interval, self._target = watcher, interval, target
        self._status: Status | None = None
        self._map_due: float | None = 0

    def compose(self) -> ComposeResult:
        """The widgets, top to bottom."""
        yield Static(id="title", markup=False)
        yield Static(id="problem", markup=False)
        with VerticalScroll(id="view"):
            yield from (Static(id=name, markup=False) for name in _PARTS)
        yield Footer()

    def on_mount(self) -> None:
        """Look, and go on looking; a signal to end leaves the terminal as it was."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self._text("map").update(map_text(None))
        self.action_look()
        self.set_interval(self._interval, self.action_look)

    def on_resize(self) -> None:
        """Another width has room for other columns."""
        if self._status:
            self._show(self._status)

    def action_look(self) -> None:
        """Look at the host now, and at its vmemmap when it is due."""
        problem = self.query_one("#problem", Static)
        try:
            self._status = self._watcher.look()
        except HvoError as error:
            problem.update(escape_controls(f"{error}; what is shown is older"))
            problem.display = True
            return
        problem.display = False
        self._show(self._status)
        if self._map_due is not None and time.monotonic() >= self._map_due:
            self._map_due = None
            threading.Thread(target=self._map, daemon=True).start()

    def _show(self, status: Status) -> None:
        history, width = self._watcher.history, max(1, self.size.width - 1)
        self.query_one("#title", Static).update(
            escape_controls(title(status, self._interval, history[-1].at))
        )
        self._text("state").update(state_text(status))
        self._text("pools").update(_unwrapped(pool_lines(status, width)))
        self._text("counters").update(
            "\n".join(map(escape_controls, counter_lines(status, history)))
        )
        self._text("saved").update(saving_line(history))
        self._text("curve").update(Text("\n".join(curve(history, width)), "green", no_wrap=True))
        self._text("advice").update(escape_controls(advice_line(status)))

    def _map(self) -> None:
        """In a thread of its own, which nobody waits for at the end: an audit of a large host takes
        seconds.
        """
        mapped = read_map(self._target)
        if self.is_running:
            self.call_from_thread(self._show_map, mapped)

    def _show_map(self, mapped: Mapped) -> None:
        self._text("map").update(map_text(mapped))
        if (
            self._target == LIVE and mapped.audit
        ):  # a core does not change, and what cannot be read stays so
            self._map_due = time.monotonic() + _REST * mapped.seconds

    def _text(self, name: str) -> Static:
        return self.query_one(f"#{name}", Static)


def _unwrapped(lines: Iterator[str]) -> Text:
    return Text("\n".join(map(escape_controls, lines)), no_wrap=True, overflow="ellipsis")
