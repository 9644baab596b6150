"""What commands give back: text, or one JSON object that says which command made it, and pages that
are there whole or not at all.

All text of a command leaves here or through `hvo.report.terminal`: secrets are masked, and what
would control a terminal is escaped. What a command has made is noted, so that it is told also where
standard output could not be written.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import click

from hvo.cli.streams import Streams
from hvo.errors import HvoError
from hvo.memory.whole_file import whole_file
from hvo.safe_text import escape_controls, mask_address, mask_secrets, mask_values, secrets_of

ARGUMENTS = "hvo.cli.arguments"
"""Where the group of commands keeps the arguments in click's `meta`, for `command_line`."""
_CANNOT = 2


class Said:
    """What this command has said and made so far."""

    def __init__(self, arguments: Sequence[str], streams: Streams) -> None:
        self.streams = streams
        self.arguments = list(arguments)
        self.addresses = [each for each in arguments if secrets_of(each)]
        self.made: list[str] = []
        self.printed = False
        """Whether the JSON object is printed."""
        self.told = False
        """Whether it is said that standard output cannot be written."""

    @property
    def wants_json(self) -> bool:
        """Whether `--json` is among the arguments, also those that could not be understood."""
        words = self.arguments
        return "--json" in (words[: words.index("--")] if "--" in words else words)


_said = Said((), Streams())


def begin(arguments: Sequence[str]) -> None:
    """Begin a command: nothing is said or made yet, and its standard streams are guarded."""
    global _said  # one command line a process
    streams = Streams()
    streams.guard()
    _said = Said(arguments, streams)


def delivered(status: int) -> int:
    """The exit status of a command that has ended with `status`, once all it printed is out.

    Where standard output cannot be written, what was made is told on standard error, and is not
    called failed; a command that made nothing could not do what it was asked for.
    """
    why = _said.streams.lost()
    if why is None or (_said.streams.unread and not _said.made):
        return status
    if _said.made:
        if not _said.told:
            complain(f"hvo: standard output: {why}; done all the same: {'; '.join(_said.made)}")
        _said.told = True
        return status
    complain(f"hvo: cannot write to standard output: {why}")
    return _CANNOT


def note_made(what: str) -> None:
    """Note what the command has changed or written."""
    _said.made.append(what)


def command_line() -> str | None:
    """The command as it was called, quoted for a shell, without passwords; None where no `hvo`
    called it.

    `sys.argv` would be another program's where a test or a library calls the command.
    """
    arguments = cast("Sequence[str] | None", click.get_current_context().meta.get(ARGUMENTS))
    return None if arguments is None else _line(arguments)


def _line(arguments: Sequence[str]) -> str:
    return shlex.join(["hvo", *map(mask_address, arguments)])


def with_command(found: Mapping[str, object]) -> dict[str, object]:
    """`found` and the `command` that found it."""
    line = command_line()
    return dict(found) if line is None else {**found, "command": line}


def print_json(found: Mapping[str, object]) -> None:
    """Print `found` as one JSON object that ends with the `command` that found it."""
    print_object(with_command(found))


def print_object(found: Mapping[str, object]) -> None:
    """Print `found` as one JSON object that says itself which command it is of."""
    _said.printed = True
    click.echo(json.dumps(mask_values(found)))


def say(lines: Iterable[str]) -> None:
    """Print lines of text; no name in them can end one, or do anything to a terminal."""
    click.echo("\n".join(escape_controls(mask_secrets(line)) for line in lines))


def complain(message: str) -> None:
    """Print one line on standard error."""
    click.echo(escape_controls(mask_secrets(message, _said.addresses)), err=True)


def print_error(message: str, kind: str) -> None:
    """Say why a command could not do its work: a line on standard error, and with `--json` the
    object `error` on standard output, unless the command has printed an object.

    `kind` is `usage` (the arguments), `input` (what they name), `memory`, `library` (one is not
    installed) or `defect` (of hvo).
    """
    if _said.wants_json and not _said.printed:
        print_object({"error": error_object(message, kind), "command": _line(_said.arguments)})
    complain(message)


def error_object(message: str, kind: str) -> dict[str, str]:
    """What stands at `error` in JSON."""
    return {"message": mask_secrets(message, _said.addresses), "kind": kind}


def write_page(path: Path, text: str) -> None:
    """Write `text` to `path` as a whole, so that nobody reads half of it; raises HvoError when it
    cannot be.
    """
    try:
        with whole_file(path) as part:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise HvoError(f"cannot write {path}: {error.strerror}; name another file") from error
    note_made(f"{path} is written")


def write_results_page(path: Path, found: Mapping[str, object]) -> None:
    """Write the page of one result of this command, as `hvo report` does."""
    from hvo.report.page import page
    from hvo.report.results import read_results

    text = json.dumps(mask_values(with_command(found)))
    write_page(path, page(list(read_results(text, "result"))))
