"""Pictures of what commands show on a terminal, for the documentation: each is run on a terminal of
its own, and rich draws it.

usage: python tools/pictures.py DIRECTORY

DIRECTORY gets one SVG a picture. Commands run beside the examples of the documentation.
"""

import os
import pty
import re
import shlex
import sys
import tempfile
from fcntl import ioctl
from pathlib import Path
from shutil import copytree
from struct import pack
from termios import TIOCSWINSZ

from rich.console import Console
from rich.text import Text

_ROOT = Path(__file__).resolve().parents[1]
_HOST = "hvo status --root host"
PICTURES = {
    "run": ("hvo run --memory 4GiB --pages 512", 110, 60),
    "status": (_HOST, 120, 30),
    "audit": ("hvo audit machine.core", 110, 40),
    "fleet": ("hvo fleet fleet.parquet --top 4", 140, 60),
    "check": ("hvo check 5.18+split-lock-read --hazard H01", 160, 40),
    "trace": ("hvo check --replay $TOKEN", 130, 60),
}
"""Pictures: the command, and the columns and lines of its terminal."""
_BEFORE = {
    "audit": "hvo run --memory 1GiB --pages 300 --save machine.core > made.txt",
    "fleet": "hvo fleet generate --hosts 20000 --seed 7 -o fleet.parquet > made.txt",
    "trace": "TOKEN=$(hvo check 5.14+split-lock-read --hazard H04 --json | python -c "
    '\'import json, sys; print(json.load(sys.stdin)["results"][0]["trace"]["token"])\')',
}
"""What a command needs first."""


def shown(command: str, directory: Path, columns: int, lines: int) -> str:
    """What `command` writes to a terminal of that size, control sequences included."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(directory)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {
            "PATH": path,
            "HOME": str(directory),
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
        }
        os.execvpe("sh", ["sh", "-c", f"stty cols {columns} rows {lines}; {command}"], environment)
    ioctl(terminal, TIOCSWINSZ, pack("HHHH", lines, columns, 0, 0))
    return _everything(terminal)


def _everything(terminal: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how a terminal ends
            part = b""
        if not part:
            return b"".join(parts).decode("utf-8", "replace")
        parts.append(part)


def draw(name: str, directory: Path, target: Path) -> None:
    """Make one picture."""
    command, columns, lines = PICTURES[name]
    before = f"{{ {_BEFORE[name]}; }} 2> /dev/null; " if name in _BEFORE else ""
    text = shown(
        f"{before}{{ {command}; }} 2> /dev/null", directory, columns, lines
    )  # progress is on standard error
    text = text.replace("\r\n", "\n").rstrip("\n")
    console = Console(record=True, width=columns, file=open(os.devnull, "w"), highlight=False)
    console.print(Text.from_ansi(f"\x1b[1m$ {command}\x1b[0m\n{text}"))
    svg = console.export_svg(title=shlex.split(command)[0], unique_id=f"hvo-{name}")
    svg = re.sub(
        r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL
    )  # fonts from the network: the reader's own monospace will do
    target.write_text(svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, monospace"))


def main(directory: Path) -> None:
    """Make all pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        copytree(_ROOT / "docs/examples", place, dirs_exist_ok=True)
        for name in PICTURES:
            draw(name, Path(place), directory / f"{name}.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
