"""`hvo plan`: what struct pages cost on a machine that need not exist, and what its pools would
give back.
"""

from typing import TYPE_CHECKING, Any

import click

from hvo.cli.options import SIZE
from hvo.cli.output import print_json
from hvo.errors import HvoError
from hvo.layout.alternatives import DIMENSIONS
from hvo.layout.eras import ERA_LAYOUTS
from hvo.layout.pools import PoolRequest, parse_pool

if TYPE_CHECKING:
    from hvo.layout.geometry import Geometry

_NEWEST = list(ERA_LAYOUTS)[-1]


class _Pool(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] - generic since click 8.4
    """A pool such as `1GiB=600GiB`; its value is a `PoolRequest`."""

    name = "size=amount"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> PoolRequest:
        """The request, or a usage error that says what one looks like."""
        try:
            return value if isinstance(value, PoolRequest) else parse_pool(value)
        except HvoError as error:
            self.fail(str(error), param, ctx)


@click.command("plan")
@click.option(
    "--arch",
    default="x86_64",
    show_default=True,
    help="Architecture: x86_64, arm64, riscv64 or loongarch64.",
)
@click.option("--page-size", type=SIZE, default="4KiB", show_default=True, help="Base page size.")
@click.option(
    "--memory", type=SIZE, required=True, help="Memory of the machine, summed over all nodes."
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="NUMA nodes to spread memory and pools over.",
)
@click.option(
    "--pool",
    "pools",
    type=_Pool(),
    metavar="SIZE=AMOUNT",
    multiple=True,
    required=True,
    help=(
        "A pool, in pages (2MiB=1000), in bytes (1GiB=600GiB), of all remaining memory"
        " (2MiB=all) or per node (1GiB=0:4,1:2); may be given several times."
    ),
)
@click.option(
    "--era",
    type=click.Choice(list(ERA_LAYOUTS)),
    help="Kernel era.  [default: all, side by side]",
)
@click.option(
    "--struct-page-size",
    type=SIZE,
    default="64",
    show_default=True,
    help="sizeof(struct page) of the kernel.",
)
@click.option(
    "--compare",
    metavar="WHAT,...",
    help=f"Alternatives for as many bytes of pool: {', '.join(DIMENSIONS)}.",
)
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
def command(
    arch: str,
    page_size: int,
    memory: int,
    nodes: int,
    pools: tuple[PoolRequest, ...],
    era: str | None,
    struct_page_size: int,
    compare: str | None,
    json: bool,
) -> None:
    """Predict what struct pages of a machine cost, what each pool saves, and how much memory
    restore needs.

    The machine need not exist. hvo run measures the same figures on a simulated machine.
    """
    from dataclasses import replace

    from hvo.layout.geometry import geometry

    if not struct_page_size:
        raise HvoError("--struct-page-size 0: expected at least 1 byte")
    shape = replace(geometry(arch, page_size), struct_page_size=struct_page_size)
    if compare is not None:
        _compare(shape, memory, pools, era or _NEWEST, nodes, compare.split(","), json)
    else:
        _plan(shape, memory, pools, era, nodes, json)


def _plan(
    shape: "Geometry",
    memory: int,
    pools: tuple[PoolRequest, ...],
    era: str | None,
    nodes: int,
    json: bool,
) -> None:
    """One era, or all side by side: as JSON the newest, and the list of all."""
    from hvo.layout.plan import plan, plan_eras

    plans = (
        plan_eras(shape, memory, pools, nodes)
        if era is None
        else (plan(shape, memory, pools, era, nodes),)
    )
    if json:
        eras = {"eras": [each.to_json() for each in plans]} if era is None else {}
        print_json(plans[-1].to_json() | eras)
        return
    from hvo.report.plan import print_plans

    print_plans(plans)


def _compare(
    shape: "Geometry",
    memory: int,
    pools: tuple[PoolRequest, ...],
    era: str,
    nodes: int,
    dimensions: list[str],
    json: bool,
) -> None:
    from hvo.layout.alternatives import compare

    rows = compare(shape, memory, pools, era, nodes, dimensions)
    if json:
        print_json({"era": era, "memory": memory, "alternatives": [row.to_json() for row in rows]})
        return
    from hvo.report.plan import print_alternatives

    print_alternatives(rows)
