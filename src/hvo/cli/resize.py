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
@click.option(
    "--node", type=click.IntRange(min=0), help="NUMA node of the pool.  [default: all nodes]"
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Retries, each after compacting memory.",
)
@click.option(
    "--force",
    is_flag=True,
    help=(
        "Resize even if memory is short or this kernel is known to lose optimised pages that"
        " are freed."
    ),
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
    """Resize a HugeTLB pool, such as 2MiB=512, and verify the result.

    Never goes below the pages in use or reserved. Exits 1 if pages are missing or a counter did not
    change as predicted.
    """
    from hvo.host.resize import resize
    from hvo.host.tree import Tree

    finish(
        ctx, resize(Tree(root), *pool, node, retries=retries, force=force, dry_run=dry_run), json
    )
