"""`hvo convert`: rebuild the free pages of a HugeTLB pool, so that they become optimised."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvo.cli.host_options import changing_options, finish
from hvo.cli.options import SIZE

if TYPE_CHECKING:
    from hvo.host.announce import Announce
    from hvo.host.outcome import Outcome
    from hvo.host.tree import Tree


@click.command("convert")
@click.option(
    "--size",
    type=SIZE,
    help="HugeTLB page size of the pool.  [default: the kernel's default]",
)
@click.option(
    "--node", type=click.IntRange(min=0), help="NUMA node of the pool.  [default: all nodes]"
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Pages out of the pool at a time.  [default: 1GiB of them, at most an eighth of the free"
    " pages]",
)
@click.option(
    "--keep-free",
    type=click.IntRange(min=0),
    metavar="PAGES",
    help="Pages that are free for others at every moment; so many are left as they are."
    "  [default: an eighth of the free pages, at least one batch]",
)
@click.option(
    "--gigantic",
    is_flag=True,
    help="Convert gigantic pages too, one at a time; reallocation may fail.",
)
@click.option("--resume", is_flag=True, help="Finish an interrupted conversion.")
@click.option("--undo", is_flag=True, help="Restore the pool size after an interrupted conversion.")
@click.option(
    "--force",
    is_flag=True,
    help=(
        "Convert even if memory is short or this kernel is known to lose optimised pages that"
        " are freed."
    ),
)
@changing_options
@click.pass_context
def command(
    ctx: click.Context,
    size: int | None,
    node: int | None,
    batch: int | None,
    keep_free: int | None,
    gigantic: bool,
    resume: bool,
    undo: bool,
    force: bool,
    dry_run: bool,
    root: Path,
    json: bool,
) -> None:
    """Free the unused pages of a pool and allocate them again, so that they become optimised.

    A batch at a time, never touching pages in use or reserved, while --keep-free pages stay free
    for others. A conversion that is interrupted goes on when it is started again; one that is
    killed loses no page: --resume or --undo.
    """
    if resume and undo:
        raise click.UsageError("--resume and --undo: give one of them", ctx)
    given = size or batch or gigantic or force
    if (resume or undo) and (given or node is not None or keep_free is not None):
        raise click.UsageError(
            "--resume and --undo take up what was begun: leave its options out", ctx
        )
    from hvo.host.tree import Tree
    from hvo.report.progress import progress_bar

    with progress_bar() as announce:
        outcome = _convert(
            Tree(root),
            size,
            node,
            batch,
            keep_free,
            gigantic,
            resume,
            undo,
            force,
            dry_run,
            announce,
        )
    finish(ctx, outcome, json)


def _convert(
    tree: "Tree",
    size: int | None,
    node: int | None,
    batch: int | None,
    keep_free: int | None,
    gigantic: bool,
    resume: bool,
    undo: bool,
    force: bool,
    dry_run: bool,
    announce: "Announce",
) -> "Outcome":
    from hvo.host import convert as conversion
    from hvo.host.pools import default_size

    if undo:
        return conversion.undo(tree, dry_run=dry_run)
    if resume:
        return conversion.resume(tree, announce=announce, dry_run=dry_run)
    return conversion.convert(
        tree,
        size or default_size(tree),
        node,
        gigantic=gigantic,
        force=force,
        batch=batch,
        keep_free=keep_free,
        dry_run=dry_run,
        announce=announce,
    )
