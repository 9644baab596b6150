"""Kinds of options that several commands take: sizes, eras, and files that are going to be
written.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from hvo.errors import HvoError
from hvo.layout.units import parse_size


class Size(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.4
    """A size such as `2MiB`, `1G` or `4096`; its value is bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, or a usage error that says what a size is."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except HvoError as error:
            self.fail(str(error), param, ctx)


class EraName(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.4
    """A kernel era or a variant of its protocol: `7.1`, `6.2-reset-tails`; its value is an
    `Era`.
    """

    name = "era"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The `Era`, or a usage error that says which there are."""
        from hvo.vmemmap.era import Era, parse_variant

        try:
            return value if isinstance(value, Era) else parse_variant(value)
        except HvoError as error:
            self.fail(str(error), param, ctx)


SIZE, ERA = Size(), EraName()
"""The types, for `type=` of an option."""
EXISTING = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
"""A file that is read."""


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For `shell_complete=` of a parameter that takes a file, and not only that: the shell offers
    its files.
    """
    return [CompletionItem(incomplete, type="file")]


class Target(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.4
    """A file that is going to be written: it is found out before the work begins whether that can
    be done.
    """

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, or a usage error that says why it cannot be written."""
        path = Path(value)
        try:
            if path.is_dir():
                raise IsADirectoryError(21, "it is a directory")
            with tempfile.TemporaryFile(dir=path.parent):
                pass
            if path.exists():
                path.open("ab").close()
        except OSError as error:
            self.fail(f"cannot write {value}: {error.strerror}", param, ctx)
        return path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The shell's files."""
        return files(ctx, param, incomplete)


TARGET = Target()
"""The type, for `type=` of an option."""
