"""What the commands that work on a host have in common: the root, the kind of output, and the exit
status.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from hvo.cli.output import complain, note_made, print_object, say

if TYPE_CHECKING:
    from hvo.host.outcome import Outcome

_Command = TypeVar("_Command", bound=Callable[..., Any])
_ROOT = click.Path(exists=True, file_okay=False, path_type=Path)


def host_options(command: _Command) -> _Command:
    """Add `--root` and `--json` to a command."""
    command = click.option("--json", is_flag=True, help="Print one JSON object instead of text.")(
        command
    )
    return click.option(
        "--root",
        type=_ROOT,
        default="/",
        show_default=True,
        help="Directory that contains the host's /proc and /sys.",
    )(command)


def changing_options(command: _Command) -> _Command:
    """Add what every changing command takes: `--dry-run`, `--root` and `--json`."""
    dry_run = click.option(
        "--dry-run",
        is_flag=True,
        help="Print what would be written and how counters would change, and write nothing.",
    )
    return dry_run(host_options(command))


def finish(ctx: click.Context, outcome: "Outcome", json: bool) -> NoReturn:
    """Print the outcome and exit: 0 when all came out as predicted, else 1 with one line on
    standard error.
    """
    from hvo.report.host import outcome_lines

    finish_with(ctx, outcome, outcome.to_json() if json else None, outcome_lines(outcome))


def finish_with(
    ctx: click.Context, outcome: "Outcome", found: dict[str, Any] | None, lines: Iterable[str]
) -> NoReturn:
    """The same with the JSON object, None for text, and the lines of a command of its own."""
    from hvo.report.host import made_line

    made = made_line(outcome)
    if made:
        note_made(made)
    say(lines) if found is None else print_object(found)
    if outcome.complaint:
        complain(f"hvo {outcome.command}: {outcome.complaint}")
    ctx.exit(0 if outcome.ok else 1)
