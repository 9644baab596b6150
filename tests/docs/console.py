"""The commands in the documentation, run: what stands below a command is what it prints.

A block of the language `console` has lines that begin with `$ ` (a command, for sh; `> ` goes on
with it) and below each what it prints on both streams. A line `...` stands for any lines, `...`
within a line for any text. A command that ends with `# exits 1` does. All blocks of a page run in
one directory, which has the examples of the documentation in it.

`python tests/docs/console.py PAGE...` writes what the commands print now into the pages, where it
differs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs/examples"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_STATUS = re.compile(r"# exits (\d+)$")


@dataclass(frozen=True)
class Command:
    """A command of a page, the line that it is on, and what stands below it."""

    words: str
    line: int
    expected: str
    start: int
    end: int
    """Where `expected` is in the page's text."""

    @property
    def status(self) -> int:
        """The exit status that the page promises."""
        found = _STATUS.search(self.words)
        return int(found[1]) if found else 0


def commands(text: str) -> Iterator[Command]:
    """The commands of a page in order."""
    for block in _BLOCK.finditer(text):
        for found in _COMMAND.finditer(block[1]):
            at = block.start(1)
            words = found[1].replace("\n> ", "\n")
            yield Command(
                words,
                text.count("\n", 0, at + found.start()) + 1,
                found[2],
                at + found.start(2),
                at + found.end(2),
            )


def matches(expected: str, printed: str) -> bool:
    """Whether `printed` is what the page says; spaces at the ends of lines do not count."""
    pattern = "".join(_pattern(line) for line in expected.splitlines())
    return (
        re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed.splitlines()))
        is not None
    )


def _pattern(line: str) -> str:
    return (
        r"(?:.*\n)*?"
        if line.strip() == "..."
        else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"\n"
    )


def run(words: str, directory: Path) -> tuple[str, int]:
    """What a command prints, and its status."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(directory), "LC_ALL": "C.UTF-8", "COLUMNS": "120"}
    environment["PYTHONPATH"] = str(ROOT / "src")  # this tree, wherever hvo is installed from
    command = ["sh", "-c", words]
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    return done.stdout.decode(), done.returncode


def prepared(directory: Path) -> Path:
    """The directory with the examples in it."""
    shutil.copytree(EXAMPLES, directory, dirs_exist_ok=True)
    return directory


def differences(page: Path, directory: Path) -> list[str]:
    """What the commands of `page` do other than it says; one text each."""
    wrong: list[str] = []
    for command in commands(page.read_text()):
        printed, status = run(command.words, directory)
        if status != command.status or not matches(command.expected, printed):
            wrong.append(
                f"{page.name}:{command.line}: $ {command.words}\nexits {status} and"
                f" prints:\n{printed}"
            )
    return wrong


def update(page: Path, directory: Path) -> None:
    """Write what the commands of `page` print below them, where it differs."""
    text, shift = page.read_text(), 0
    for command in commands(text):
        printed, status = run(command.words, directory)
        if status != command.status:
            print(f"{page}:{command.line}: exits {status}", file=sys.stderr)
        if not matches(command.expected, printed):
            fresh = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
            text = text[: command.start + shift] + fresh + text[command.end + shift :]
            shift += len(fresh) - (command.end - command.start)
    page.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as place:
            update(Path(name), prepared(Path(place)))
