"""Says on a terminal what long work is at; says nothing where standard error is no terminal."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def progress() -> Generator[Callable[[str], None]]:
    """A function to call with the name of each phase as it begins; the line is gone when the block ends."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda phase: status.update(f"{phase} ...")


def _nothing(phase: str) -> None:
    """Nobody watches."""
