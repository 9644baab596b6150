"""`hvo disable`: switch the optimisation off, now and on request at every boot."""

from pathlib import Path

import click

from hvo.cli.host_options import changing_options, finish


@click.command("disable")
@click.option(
    "--persist", is_flag=True, help="Persist across reboots in /etc/sysctl.d/00-hvo.conf."
)
@click.option(
    "--boot",
    is_flag=True,
    help="Add hugetlb_free_vmemmap=off to the boot command line, for pages reserved at boot.",
)
@changing_options
@click.pass_context
def command(
    ctx: click.Context, persist: bool, boot: bool, dry_run: bool, root: Path, json: bool
) -> None:
    """Turn the optimisation off.

    HugeTLB pages allocated from now on are not optimised; pages that are optimised stay optimised
    until they are freed.
    """
    from hvo.host.gate import switch
    from hvo.host.tree import Tree

    finish(ctx, switch(Tree(root), False, persist=persist, boot=boot, dry_run=dry_run), json)
