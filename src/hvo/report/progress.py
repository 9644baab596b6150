"""Says on a terminal what long work is at; says nothing where standard error is no terminal."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress() -> Generator[Callable[[str], None]]:
    """A function to call with the name of each phase as it begins; the line is gone when the block
    ends.
    """
    if not sys.stderr.isatty():
        yield _nothing
        return
    from hvo.report.terminal import console, plain

    with console(stderr=True).status("starting") as status:
        yield lambda phase: status.update(plain(f"{phase} ..."))


@contextmanager
def progress_bar() -> Generator[Callable[[str, int, int], None]]:
    """The same for work whose amount is known: a function to call with what is going on, how much
    is done, and of how much.
    """
    if not sys.stderr.isatty():
        yield _nothing
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from hvo.report.terminal import console
    from hvo.safe_text import escape_controls

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=None)
        yield lambda what, done, total: shown.update(
            task, description=escape_controls(what), completed=done, total=total
        )


def _nothing(*_: object) -> None:
    """Nobody watches."""
