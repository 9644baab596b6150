"""`hvo enable`: switch the optimisation on, now and on request at every boot."""

from pathlib import Path

import click

from hvo.cli.host_options import changing_options, finish


@click.command("enable")
@click.option(
    "--persist", is_flag=True, help="Also at every boot: writes /etc/sysctl.d/00-hvo.conf."
)
@click.option(
    "--boot",
    is_flag=True,
    help=(
        "Also for pages reserved at boot: adds hugetlb_free_vmemmap=on with the boot loader's tool."
    ),
)
@changing_options
@click.pass_context
def command(
    ctx: click.Context, persist: bool, boot: bool, dry_run: bool, root: Path, json: bool
) -> None:
    """Switch the optimisation on.

    HugeTLB pages allocated from now on are optimised; those in a pool stay as they are until hvo
    convert rebuilds them.
    """
    from hvo.host.gate import switch
    from hvo.host.tree import Tree

    finish(ctx, switch(Tree(root), True, persist=persist, boot=boot, dry_run=dry_run), json)
