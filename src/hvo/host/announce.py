"""How long work says what it is at."""

from collections.abc import Callable

Announce = Callable[[str, int, int], None]
"""Called with what is going on, how much of it is done, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """Nobody watches."""
