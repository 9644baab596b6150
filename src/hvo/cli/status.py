"""`hvo status`: what struct pages cost on this host, what is saved, and what to do."""

from pathlib import Path

import click

from hvo.cli.host_options import host_options
from hvo.cli.output import print_json


@click.command("status")
@click.option(
    "--audit",
    metavar="TARGET",
    help="Where counters leave bounds, read page tables: `live` (as root) or a core of this host.",
)
@host_options
def command(audit: str | None, root: Path, json: bool) -> None:
    """Show what struct pages cost on this host, what the optimisation saves and still could, and
    what to do.

    Reads only, and needs no privilege. Where the kernel does not tell how many pages are optimised,
    bounds are shown with the reason.
    """
    from hvo.host.status import read_status
    from hvo.host.tree import Tree

    status = read_status(Tree(root), audit)
    if json:
        print_json(status.to_json())
        return
    from hvo.report.status import status_lines

    click.echo("\n".join(status_lines(status)))
