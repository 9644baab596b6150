"""What `hvo plan` shows on a terminal: the eras, or the alternatives, side by side."""

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from hvo.layout.alternatives import Alternative
from hvo.layout.plan import Plan
from hvo.layout.units import format_size
from hvo.report.terminal import console

_LINES: tuple[tuple[str, Callable[[Plan], int]], ...] = (
    ("saved", lambda plan: plan.saved),
    ("split tables", lambda plan: plan.table_cost),
    ("shared tails", lambda plan: plan.shared_tails),
    ("net", lambda plan: plan.net),
    ("restore headroom", lambda plan: plan.restore_headroom),
)


def print_plans(plans: Sequence[Plan]) -> None:
    """What was asked, then a column an era; `plans` differ in nothing else."""
    out, first = console(), plans[0]
    out.print(_head(first))
    out.print(_eras(plans))
    if len(first.nodes) > 1:
        out.print(_nodes(plans[-1]))
    out.print(
        Text(
            "restore headroom: free memory that giving the pools back takes first, from what the"
            " kernel itself may use",
            "dim",
        )
    )


def print_alternatives(rows: Sequence[Alternative]) -> None:
    """A row an alternative; where there is no plan, why."""
    table = _table(
        "architecture",
        "base page",
        "huge pages",
        "pages",
        "memory map",
        "saved",
        "split tables",
        "net",
        "restore headroom",
    )
    table.columns[2].justify = "left"
    for row in rows:
        name = (row.geometry.arch, format_size(row.geometry.page_size))
        if row.plan is None:
            size = "" if row.hugepage_size is None else format_size(row.hugepage_size)
            table.add_row(*name, size, Text(row.reason, "dim"))
            continue
        plan = row.plan
        figures = (
            plan.memmap,
            plan.saved,
            plan.table_cost + plan.shared_tails,
            plan.net,
            plan.restore_headroom,
        )
        sizes = " + ".join(format_size(pool.size) for pool in plan.pools)
        table.add_row(
            *name,
            sizes,
            " + ".join(str(pool.pages) for pool in plan.pools),
            *map(format_size, figures),
        )
    console().print(table)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _head(plan: Plan) -> Table:
    shape = plan.geometry
    table = Table.grid(padding=(0, 2))
    nodes = f", {len(plan.nodes)} nodes" if len(plan.nodes) > 1 else ""
    machine = (
        f"{shape.arch}, {format_size(shape.page_size)} pages, {format_size(plan.memory)}{nodes}"
    )
    table.add_row(Text("machine", "bold"), machine)
    table.add_row(
        Text("memory map", "bold"),
        f"{format_size(plan.memmap)} of struct pages of {shape.struct_page_size} bytes",
    )
    for pool in plan.pools:
        pages = (
            f"{pool.pages} pages of {format_size(pool.size)}"
            f" ({format_size(pool.pages * pool.size)})"
        )
        table.add_row(Text("pool", "bold"), f"{pages}, {pool.vmemmap_pages} vmemmap pages each")
    return table


def _eras(plans: Sequence[Plan]) -> Table:
    table = _table("kernels from", *(plan.era for plan in plans))
    for number, pool in enumerate(plans[0].pools):
        cells = (f"{plan.pools[number].freed_pages} of {pool.vmemmap_pages}" for plan in plans)
        table.add_row(f"freed of {format_size(pool.size)}", *cells)
    for name, figure in _LINES:
        if name == "saved" or any(figure(plan) for plan in plans):
            table.add_row(
                name,
                *(format_size(figure(plan)) for plan in plans),
                style="bold" if name == "net" else "",
            )
    return table


def _nodes(plan: Plan) -> Table:
    table = _table(
        "node", "memory", "in pools", "memory map", "saved", "split tables", "restore headroom"
    )
    for node in plan.nodes:
        figures = (
            node.memory,
            node.pool_bytes,
            node.memmap,
            node.saved,
            node.table_cost,
            node.restore_headroom,
        )
        table.add_row(str(node.node), *map(format_size, figures))
    return table
