"""`hvo watch`: the screen says what `hvo status` says at that moment, on 80x24 too; it ends cleanly
and leaves the terminal as it was.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from host_trees import GIB, MIB, NR, Host, NodePool

from hvo.cli.main import main
from hvo.host import watching
from hvo.host.watching import Point, Watcher, read_map
from hvo.layout.units import format_size
from hvo.report.watch_text import curve
from shared_files import core

pytest.importorskip("textual", reason="textual is not installed: pip install 'hvo[watch]'")
from hvo.report.watch import WatchApp

HVO = [sys.executable, "-c", "from hvo.cli.main import main; main()"]
TIMEOUT = 60
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)[;m]")


def two_nodes(first: int, second: int, optimised: int) -> Host:
    """A host whose 2 MiB pools have so many pages on each of two nodes, some of them optimised."""
    pools = {
        2 * MIB: {0: NodePool(first, first), 1: NodePool(second, second)},
        GIB: {0: NodePool(), 1: NodePool()},
    }
    return Host(pools=pools, memmap=(0, 98304 - 7 * optimised))


def screen(app: WatchApp) -> str:
    """The text on the screen, line by line."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


def status(root: Path) -> dict:
    """What `hvo status --json` says now."""
    return json.loads(CliRunner().invoke(main, ["status", "--root", str(root), "--json"]).stdout)


def view(app: WatchApp, size: tuple[int, int], *acts: Callable[[], object]) -> list[str]:
    """The screen of `app` at first and after each of `acts`, followed by a look."""

    async def run() -> list[str]:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            seen = [screen(app)]
            for act in acts:
                act()
                await pilot.press("r")
                await pilot.pause()
                seen.append(screen(app))
            await pilot.press("q")
        return seen

    seen = asyncio.run(run())
    assert app.return_code == 0
    return seen


def table(text: str) -> list[list[str]]:
    """The cells of the rows of pools on a screen, without empty ones."""
    return [line.split() for line in text.splitlines() if re.match(r"\d[iMGKB]+ ", line)]


def expected(found: dict, columns: tuple[str, ...]) -> list[list[str]]:
    """The rows that `hvo status --json` gives for these columns."""
    rows = []
    for pool in found["pools"]:
        pool = pool | {
            "node": "all" if pool["node"] is None else pool["node"],
            "size": format_size(pool["size"]),
        }
        for name in ("saved", "possible", "paid"):
            pool[name] = format_size(pool[name])
        rows.append([str(pool[name]) for name in columns if pool[name] is not None])
    return rows


ALL = (
    "size",
    "node",
    "pages",
    "free",
    "in_use",
    "reserved",
    "surplus",
    "optimized",
    "paid",
    "saved",
    "possible",
)


def test_the_screen_says_what_status_says_at_every_tick(tmp_path):
    """A pool grows, one is switched off, one shrinks: after each look every row of the table is
    that of `hvo status` then.
    """
    moments = [two_nodes(300, 212, 512), two_nodes(400, 212, 612), two_nodes(400, 5, 405)]
    said = [
        status(moment.write(tmp_path / str(number)).root) for number, moment in enumerate(moments)
    ]
    tree = moments[0].write(tmp_path / "host")
    rest = [lambda moment=moment: moment.write(tmp_path / "host") for moment in moments[1:]]
    seen = view(WatchApp(Watcher(tree), 3600, None), (120, 40), *rest)
    assert [table(text) for text in seen] == [expected(each, ALL) for each in said]
    assert len({json.dumps(table(text)) for text in seen}) == 3
    saved = [
        "14MiB (from 14MiB to 14MiB",
        "17136KiB (from 14MiB to 17136KiB",
        "11340KiB (from 11340KiB to 17136KiB",
    ]
    assert [f"saved: {words}" in text for words, text in zip(saved, seen, strict=True)] == [
        True,
        True,
        True,
    ]
    assert "changed by -2800KiB" in seen[1]


def test_it_is_readable_on_80x24(tmp_path):
    """No line is cut or wrapped inside the table, what matters most is there, and keys are told."""
    tree = two_nodes(300, 212, 512).write(tmp_path)
    (text,) = view(WatchApp(Watcher(tree), 3600, None), (80, 24))
    lines = text.splitlines()
    assert (len(lines), max(map(len, lines)) <= 80) == (24, True)
    left_out = ("reserved", "paid")
    assert table(text) == expected(
        status(tmp_path), tuple(name for name in ALL if name not in left_out)
    )
    assert lines[0].startswith("shelf-3  ")
    assert "optimisation: on" in lines[1]
    assert "q quit" in lines[-1]
    assert "…" not in text


def test_intervals_and_defects_are_shown_as_such(tmp_path):
    """A kernel without counters: bounds with their reason; one with a known defect: a warning
    before all else.
    """
    host = two_nodes(50, 0, 0)
    host.memmap, host.release = None, "6.12.117"
    (text,) = view(WatchApp(Watcher(host.write(tmp_path)), 3600, None), (100, 40))
    assert "0..50" in text
    assert "known within bounds only" in text
    assert "WARNING: known defect H19" in text
    assert "saved, at least: 0B..1400KiB" in text


def test_a_host_that_cannot_be_read_for_a_while(tmp_path):
    """The problem is a line of its own, what was seen stays, and it goes on when the file is
    back.
    """
    tree = two_nodes(300, 212, 512).write(tmp_path)
    file = tmp_path / NR
    seen = view(
        WatchApp(Watcher(tree), 3600, None),
        (100, 40),
        lambda: file.write_text("x\n"),
        lambda: file.write_text("512\n"),
    )
    assert table(seen[0]) == table(seen[1]) == table(seen[2])
    assert ["expected a number, found 'x'" in " ".join(text.split()) for text in seen] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("colours", [True, False])
def test_the_map_of_a_core(tmp_path, monkeypatch, colours):
    """The vmemmap of a mixed pool: optimised and not, in the marks of `hvo audit`; without colours
    too.
    """
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    app = WatchApp(Watcher(Host().write(tmp_path)), 3600, str(core("defect-x86-6.12.117-mixed")))

    async def run() -> str:
        async with app.run_test(size=(80, 60)) as pilot:
            end = time.monotonic() + TIMEOUT
            while "0x0" not in screen(app) and time.monotonic() < end:
                await pilot.pause(0.02)
            return screen(app)

    text = asyncio.run(run())
    assert "finding" in text
    assert re.search(r"^ +0x0 [·█▓░✗ ]{40,64}$", text, re.MULTILINE)


def test_why_there_is_no_map(tmp_path):
    """A recorded tree has no memory; a file that is no core says so."""
    assert "--audit" in (read_map(None).reason or "")
    (tmp_path / "core").write_text("no core")
    assert "core" in (read_map(str(tmp_path / "core")).reason or "")
    (text,) = view(WatchApp(Watcher(Host().write(tmp_path)), 3600, None), (100, 40))
    assert "vmemmap: not shown: a recorded tree" in text


def test_the_history_is_bounded_and_the_curve_fits(tmp_path, monkeypatch):
    """More looks than are remembered: the oldest go; the curve has as many bars as fit, as high as
    the share of the most.
    """
    monkeypatch.setattr(watching, "POINTS", 5)
    watcher = Watcher(two_nodes(300, 212, 512).write(tmp_path), clock=iter(range(100)).__next__)
    for _ in range(8):
        watcher.look()
    assert [point.at for point in watcher.history] == [3, 4, 5, 6, 7]
    points = [
        Point(number, (amount, amount), None) for number, amount in enumerate((0, 4, 8, 12, 16))
    ]
    assert list(curve(points, 10)) == ["   ▄█", " ▄███"]
    assert list(curve(points, 3)) == ["  █", " ██"]
    assert list(curve(points[:1], 3)) == [" ", " "]


def test_not_a_terminal_and_bad_trees_are_one_line(tmp_path):
    """Piped: exit 2 and one line that says what to use instead; a broken tree the same; --json
    needs no terminal.
    """
    Host().write(tmp_path)
    for words, wanted in (
        (["--root", tmp_path], "expected a terminal"),
        (["--interval", "0"], "--interval"),
    ):
        done = subprocess.run(
            [*HVO, "watch", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert wanted in done.stderr
    found = json.loads(
        CliRunner().invoke(main, ["watch", "--root", str(tmp_path), "--json"]).stdout
    )
    assert found["status"] == {
        name: value for name, value in status(tmp_path).items() if name != "command"
    }
    assert found["vmemmap"]["audit"] is None


def test_without_textual_it_says_what_to_install(tmp_path):
    """A Python that has no textual: exit 2 and the one line."""
    code = (
        "import sys; sys.modules['textual'] = None; import os; os.isatty = lambda _:"
        " True; sys.stdin.isatty = lambda: True\n"
    )
    code += "from hvo.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "watch"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "hvo watch needs textual: pip install 'hvo[watch]'\n",
    )


class Terminal:
    """A pseudo-terminal of 80x24 with `hvo watch` on it."""

    def __init__(self, *words: str, size: tuple[int, int] = (24, 80), **environment: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        ends = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        given = {**plain, "TERM": "xterm-256color", **environment}
        self.process = subprocess.Popen(
            [*HVO, "watch", *words], **ends, env=given, start_new_session=True
        )
        self.text = ""

    def resize(self, height: int, width: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read_until(self, wanted: str) -> None:
        """Collect what is written until `wanted` is in it."""
        end = time.monotonic() + TIMEOUT
        while wanted not in self.text:
            assert time.monotonic() < end, f"{wanted!r} did not appear in {self.text!r}"
            self._read()

    def _read(self) -> None:
        if select.select([self.master], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # nobody has the other side open any more
                self.text += os.read(self.master, 1 << 16).decode("utf-8", "replace")

    def finish(self) -> int:
        """Read to the end -> the exit status."""
        end = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < end:
            self._read()
        self._read()
        self.after = termios.tcgetattr(self.slave)
        return self.process.wait(1)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize("how", ["q", "ctrl-c", "SIGTERM", "SIGHUP"])
def test_on_the_running_host_it_starts_shows_and_ends(how):
    """On a real terminal and the real host: shows the kernel, ends with 0, and terminal modes,
    screen and cursor are as they were.
    """
    terminal = Terminal()
    try:
        terminal.read_until("optimisation:")
        terminal.read_until(os.uname().release)
        keys = {"q": b"q", "ctrl-c": b"\x03"}
        if how in keys:
            os.write(terminal.master, keys[how])
        else:
            terminal.process.send_signal(getattr(signal, how))
        assert terminal.finish() == 0
        assert terminal.after == terminal.before
        assert terminal.text.rindex("\x1b[?1049l") > terminal.text.rindex("\x1b[?1049h")
        assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
        assert "Traceback" not in terminal.text
    finally:
        terminal.close()


def test_no_color_leaves_colours_out(tmp_path):
    """With NO_COLOR no colour is set anywhere; without it there are some."""
    two_nodes(300, 212, 512).write(tmp_path)
    found = []
    for environment in ({}, {"NO_COLOR": "1"}):
        terminal = Terminal("--root", str(tmp_path), **environment)
        try:
            terminal.read_until("vmemmap: not")
            os.write(terminal.master, b"q")
            assert terminal.finish() == 0
        finally:
            terminal.close()
        found.append(bool(COLOUR.search(terminal.text)))
    assert found == [True, False]


@pytest.mark.parametrize("size", [(1, 1), (24, 1), (1, 80), (2, 2)])
def test_the_smallest_terminals(size, tmp_path):
    """It starts on them and outlives becoming as small; on a larger one all is there again. A name
    that would control the terminal is shown escaped.
    """
    two_nodes(300, 212, 512).write(tmp_path)
    (tmp_path / "proc/sys/kernel/hostname").write_text("shelf\x1b]0;owned\x07\n")
    terminal = Terminal("--root", str(tmp_path), "--interval", "0.1", size=size)
    try:
        terminal.read_until("\x1b[?1049h")
        for next_size in ((24, 200), size, (24, 200)):
            time.sleep(0.3)  # some looks at each
            terminal.resize(*next_size)
            terminal.process.send_signal(signal.SIGWINCH)
        terminal.read_until("optimisation:")
        terminal.read_until("shelf\\x1b]0;owned\\x07")
        assert "\x1b]0;owned" not in terminal.text
        os.write(terminal.master, b"q")
        assert terminal.finish() == 0
        assert "Traceback" not in terminal.text
    finally:
        terminal.close()
