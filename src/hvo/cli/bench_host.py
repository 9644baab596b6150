"""`hvo bench-host`: what optimising a HugeTLB page costs on this host."""

from pathlib import Path

import click

from hvo.cli.host_options import changing_options, finish_with
from hvo.cli.options import SIZE


@click.command("bench-host")
@click.option("--size", type=SIZE, help="HugeTLB page size.  [default: the kernel's default]")
@click.option(
    "--node",
    type=click.IntRange(min=0),
    help="NUMA node to allocate from.  [default: the node with the most free memory]",
)
@click.option(
    "--pages",
    type=click.IntRange(min=1),
    help="Pages per round.  [default: 512, at most half of the node's free memory]",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Rounds after the warm-up round.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Run even if this kernel is known to lose optimised pages that are freed.",
)
@changing_options
@click.pass_context
def command(
    ctx: click.Context,
    size: int | None,
    node: int | None,
    pages: int | None,
    rounds: int,
    force: bool,
    dry_run: bool,
    root: Path,
    json: bool,
) -> None:
    """Measure the time to allocate and free HugeTLB pages on this host, with the optimisation on
    and off.

    Restores pool and switch afterwards. If it is killed, hvo convert --undo restores them.
    """
    from hvo.host.bench import bench_host
    from hvo.host.pools import default_size
    from hvo.host.tree import Tree
    from hvo.report.host import bench_lines
    from hvo.report.progress import progress_bar

    tree = Tree(root)
    with progress_bar() as announce:
        found = bench_host(
            tree,
            size or default_size(tree),
            node,
            pages=pages,
            rounds=rounds,
            force=force,
            dry_run=dry_run,
            announce=announce,
        )
    finish_with(ctx, found.outcome, found.to_json() if json else None, bench_lines(found))
