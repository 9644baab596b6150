"""What commands give back: one JSON object that says which command made it, and pages that are
there whole or not at all.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from hvo.errors import HvoError
from hvo.memory.whole_file import whole_file

ARGUMENTS = "hvo.cli.arguments"
"""Where the group of commands keeps the arguments in click's `meta`, for `command_line`."""


def command_line() -> str | None:
    """The command as it was called, quoted for a shell; None where no `hvo` called it.

    `sys.argv` would be another program's where a test or a library calls the command.
    """
    arguments = click.get_current_context().meta.get(ARGUMENTS)
    return None if arguments is None else shlex.join(["hvo", *arguments])


def with_command(found: Mapping[str, object]) -> dict[str, object]:
    """`found` and the `command` that found it."""
    line = command_line()
    return dict(found) if line is None else {**found, "command": line}


def print_json(found: Mapping[str, object]) -> None:
    """Print `found` as one JSON object that ends with the `command` that found it."""
    click.echo(json.dumps(with_command(found)))


def write_page(path: Path, text: str) -> None:
    """Write `text` to `path` as a whole, so that nobody reads half of it; raises HvoError when it
    cannot be.
    """
    try:
        with whole_file(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HvoError(f"cannot write {path}: {error.strerror}; name another file") from error


def write_results_page(path: Path, found: Mapping[str, object]) -> None:
    """Write the page of one result of this command, as `hvo report` does."""
    from hvo.report.page import page
    from hvo.report.results import read_results

    write_page(path, page(list(read_results(json.dumps(with_command(found)), "result"))))
