"""The command `hvo`: finds its subcommands late, and turns errors into one line and an exit status.

0 is fine, 1 means that it looked and something is wrong, 2 that it could not look. Only what a
command needs is imported, so that `hvo --version` and `hvo --help` answer at once.
"""

import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast

import click

from hvo import __version__
from hvo.cli.output import ARGUMENTS, begin, complain, delivered, print_error
from hvo.errors import HvoError

COMMANDS = {
    "audit": (
        "Show which huge pages are optimised in a core or the running kernel, and verify the"
        " vmemmap."
    ),
    "check": "Search for an interleaving that breaks a protocol.",
    "plan": (
        "Predict for a machine what struct pages cost, what is saved, and what restore needs."
    ),
    "ptdump": "Print the page tables of a core or the running kernel in the kernel's own format.",
    "report": "Make one HTML page of the JSON output of other commands.",
    "run": "Optimise a HugeTLB pool on a simulated machine and measure every guarantee.",
    "status": "Show what struct pages cost on this host, what is saved, and what to do next.",
    "enable": "Turn the optimisation on, for now or persistently.",
    "disable": "Turn the optimisation off, for now or persistently.",
    "resize": "Resize a HugeTLB pool and verify the kernel's counters.",
    "convert": "Reallocate the unused pages of a HugeTLB pool, so that they become optimised.",
    "watch": "Watch pools, counters and savings of this host on a terminal.",
    "export": "Export the state of this host as Prometheus metrics.",
    "fleet": "Report what struct pages cost a fleet of hosts, and which action gains most.",
    "bench-host": "Measure the time to optimise and restore a HugeTLB page on this host.",
}
"""Every subcommand, which is `command` in the module of its name, and what it does in a line."""
_INTERRUPTED = 130  # what shells report for SIGINT
_CANNOT = 2
_CHOICES = re.compile(r",?\n\t")
"""How click parts the values that an option takes."""


class Hvo(click.Group):
    """The group of all commands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note all arguments as they were given, for results that say what made them."""
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command `cmd_name`, imported now."""
        return (
            import_module(f"hvo.cli.{cmd_name.replace('-', '_')}").command
            if cmd_name in COMMANDS
            else None
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` names; a usage error that lists those there are."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(
                f"no command {args[0]!r}: there is {', '.join(self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and exit with its status, whatever `standalone_mode` says."""
        begin(sys.argv[1:] if args is None else args)
        run = cast("Callable[..., object]", super().main)  # its overloads know no pass-through
        try:
            status = run(
                args, prog_name or "hvo", complete_var, False, windows_expand_args, **extra
            )
        except (click.Abort, KeyboardInterrupt):
            complain("hvo: interrupted")
            status = _INTERRUPTED
        except BrokenPipeError:  # only where a library that calls this has streams of its own
            sys.stdout = None
            sys.exit(0)
        except Exception as error:
            print_error(*_explained(error))
            status = _CANNOT
        sys.exit(delivered(status if isinstance(status, int) else 0))


def _explained(error: Exception) -> tuple[str, str]:
    """The line that says why a command could not do its work, and whose fault that is."""
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        where = context.command_path if context else "hvo"
        return f"{where}: {_CHOICES.sub(' ', error.format_message())}", "usage"
    if isinstance(error, HvoError):
        return f"hvo: {error}", "input"
    if isinstance(error, MemoryError):
        return (
            f"hvo: {error or 'the machine asked for does not fit in the memory of this host'}",
            "memory",
        )
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    at = f"{type(error).__name__}: {error}, {Path(place.filename).name} line {place.lineno}"
    return (
        f"hvo: this is a defect of hvo, please report it: {at}; PYTHONDEVMODE=1 shows more",
        "defect",
    )


@click.group(
    cls=Hvo, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="hvo", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """HugeTLB vmemmap optimisation as a program: run it, prove it, watch it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
