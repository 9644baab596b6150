"""`hvo status`: what struct pages cost on this host, what is saved, and what to do."""

from pathlib import Path

import click

from hvo.cli.host_options import host_options
from hvo.cli.output import print_json, say


@click.command("status")
@click.option(
    "--audit",
    metavar="TARGET",
    help="Read page tables if counters leave bounds: `live` (as root) or a core of this host.",
)
@host_options
def command(audit: str | None, root: Path, json: bool) -> None:
    """Show what struct pages cost on this host, what is saved, what could be saved, and what to do
    next.

    Reads only, and needs no privilege. If the kernel's counters do not determine how many pages are
    optimised, it shows bounds and the reason.
    """
    from hvo.host.status import read_status
    from hvo.host.tree import Tree

    status = read_status(Tree(root), audit)
    if json:
        print_json(status.to_json())
        return
    from hvo.report.status import status_lines

    say(status_lines(status))
