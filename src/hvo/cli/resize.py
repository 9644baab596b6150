"""`hvo resize`: set the size of a HugeTLB pool, predicted before and verified after."""

from pathlib import Path
from typing import Any

import click

from hvo.cli.host_options import changing_options, finish
from hvo.cli.options import SIZE


class PoolSize(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.4
    """What a pool is set to, such as `2MiB=512`; its value is bytes and pages."""

    name = "SIZE=PAGES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """The two numbers, or a usage error that says what is expected."""
        size, equals, pages = value.partition("=")
        if not equals or not (pages.isascii() and pages.isdigit()):
            self.fail(
                f"{value!r}: expected a page size and a number of pages, such as 2MiB=512",
                param,
                ctx,
            )
        return SIZE.convert(size, param, ctx), int(pages)


@click.command("resize")
@click.argument("pool", type=PoolSize(), metavar="SIZE=PAGES")
@click.option("--node", type=click.IntRange(min=0), help="Only the pool of this NUMA node.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Further attempts, each after compacting memory.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Although memory is short, or the kernel is known to lose pages that are given back.",
)
@changing_options
@click.pass_context
def command(
    ctx: click.Context,
    pool: tuple[int, int],
    node: int | None,
    retries: int,
    force: bool,
    dry_run: bool,
    root: Path,
    json: bool,
) -> None:
    """Set a HugeTLB pool to so many pages, such as 2MiB=512, and verify it.

    Never goes below what is in use or reserved. Exits 1 when pages are missing or a counter did not
    change as predicted.
    """
    from hvo.host.resize import resize
    from hvo.host.tree import Tree

    finish(
        ctx, resize(Tree(root), *pool, node, retries=retries, force=force, dry_run=dry_run), json
    )
