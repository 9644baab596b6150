"""Where rich writes to a terminal: what would control it is shown escaped, whatever file it is
from.

Names are escaped before they are laid out (`plain`), so that columns line up; what is laid out all
the same is escaped as it is rendered.
"""

import sys
from collections.abc import Iterable, Iterator

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.segment import Segment
from rich.text import Text

from hvo.safe_text import escape_controls, mask_secrets

_PIPED_WIDTH = 160
"""Nothing is cut where there is no terminal to fit."""


def console(*, stderr: bool = False, piped_width: int = _PIPED_WIDTH) -> Console:
    """Where to print: as wide as the terminal, and wide enough where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else piped_width
    made = Console(highlight=False, markup=False, emoji=False, width=width, stderr=stderr)
    made.push_render_hook(_Escaping())
    return made


def plain(text: str, style: str = "") -> Text:
    """Text of a file as one cell: never markup, in one line, and nothing to a terminal."""
    return Text(escape_controls(mask_secrets(text)), style)


class _Escaping(RenderHook):
    """Escapes what is rendered."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """The same, escaped."""
        return [_Escaped(each) for each in renderables]


class _Escaped:
    """A renderable whose text controls no terminal."""

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Its segments; those that are rich's own commands to a terminal are left."""
        yield from _escaped(console.render(self._inner, options))


def _escaped(segments: Iterable[Segment]) -> Iterator[Segment]:
    for segment in segments:
        text, style, control = segment
        if control or text.isprintable():
            yield segment
        else:
            lines = (escape_controls(line) for line in text.split("\n"))
            yield Segment("\n".join(lines), style)
