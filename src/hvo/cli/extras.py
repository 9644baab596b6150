"""Commands that need a library of an extra say so in one line when it is not installed."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

import click

from hvo.cli.output import print_error


@contextmanager
def needs(command: str, library: str, extra: str | None = None) -> Generator[None]:
    """Import what `command` needs of `library` in the block; without the library the command ends
    with 2 and one line.

    The extra of the package has the name of the command, unless it is given.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        _leave(command, library, extra or command)


def _leave(command: str, library: str, extra: str) -> NoReturn:
    library = library.replace("_", "-")
    print_error(f"hvo {command} needs {library}: pip install 'hvo[{extra}]'", "library")
    click.get_current_context().exit(2)
