"""What click knows of every command of `hvo`, as data: for the reference and for the manual
pages.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from hvo.cli.main import COMMANDS, main

STATUSES = (
    ("0", "All is well."),
    (
        "1",
        (
            "It looked, and something is wrong: findings, an unsafe protocol, a guarantee that does"
            " not hold, a verification that failed."
        ),
    ),
    (
        "2",
        (
            "It could not look: bad arguments, input that cannot be read or is cut short, no"
            " permission, an extra that is not installed. One line on standard error says what,"
            " where, and what to do."
        ),
    ),
    ("130", "It was interrupted."),
)
"""The exit statuses of every command, and what they mean."""

_SUMMARY = "HugeTLB vmemmap optimisation: run it, prove it, watch it"


@dataclass(frozen=True)
class Entry:
    """An option as it is typed, or the name of a command, and what it does."""

    term: str
    meaning: str


@dataclass(frozen=True)
class Page:
    """One command: its full `name`, what it does in a line and in paragraphs, how it is called, and
    what it takes.
    """

    name: str
    summary: str
    usage: str
    paragraphs: tuple[str, ...]
    options: tuple[Entry, ...]
    commands: tuple[Entry, ...]


def pages() -> list[Page]:
    """The page of `hvo` itself, and that of every command, by name."""
    return list(
        _pages(main, click.Context(main, info_name="hvo", **main.context_settings), _SUMMARY)
    )


def _pages(command: click.Command, ctx: click.Context, summary: str) -> Iterator[Page]:
    subcommands = list(_subcommands(command, ctx))
    yield Page(
        ctx.command_path,
        summary,
        " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]),
        tuple(_paragraphs(command)),
        tuple(_options(command, ctx)),
        tuple(Entry(name, what) for name, _, what in subcommands),
    )
    for name, subcommand, what in subcommands:
        yield from _pages(subcommand, click.Context(subcommand, info_name=name, parent=ctx), what)


def _subcommands(
    command: click.Command, ctx: click.Context
) -> Iterator[tuple[str, click.Command, str]]:
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None, name
        yield (
            name,
            found,
            COMMANDS[name] if command is main else found.get_short_help_str(limit=200),
        )


def _paragraphs(command: click.Command) -> list[str]:
    """The help text, each paragraph on one line."""
    return [
        " ".join(part.split())
        for part in inspect.cleandoc(command.help or "").partition("\f")[0].split("\n\n")
        if part.strip()
    ]


def _options(command: click.Command, ctx: click.Context) -> Iterator[Entry]:
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and record[1]:  # arguments are described in the text
            yield Entry(record[0], " ".join(record[1].split()))
