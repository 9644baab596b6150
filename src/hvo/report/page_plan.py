"""The section of a page about `hvo plan`: what each pool gives back, era by era, or what the
alternatives would.
"""

from hvo.layout.units import format_size
from hvo.report import page_parts as p
from hvo.report.charts import Slice, stacked_bars
from hvo.report.html import Html, joined
from hvo.report.page_parts import Column, Section, Verdict
from hvo.report.record import Record

_POOLS = (
    Column("page size"),
    Column("pages", True),
    Column("vmemmap pages each", True),
    Column("freed of each", True),
    Column("saved", True),
)
_ERAS = (
    Column("era"),
    Column("saved", True),
    Column("split tables", True),
    Column("shared tails", True),
    Column("net", True),
    Column("restore headroom", True),
)
_NODES = (
    Column("node", True),
    Column("memory", True),
    Column("memory map", True),
    Column("saved", True),
    Column("restore headroom", True),
)
_ALTERNATIVES = (
    Column("architecture"),
    Column("base page"),
    Column("huge pages"),
    Column("pages", True),
    Column("memory map", True),
    Column("saved", True),
    Column("split tables", True),
    Column("restore headroom", True),
    Column("remark"),
)
_COLOURS = {"saved": "green"}


def plan_section(result: Record) -> Section:
    """The section; raises HvoError where `result` is not what `hvo plan --json` prints."""
    eras = result.records("eras") if "eras" in result else []
    nodes = result.records("nodes") if "nodes" in result else []
    pools = ", ".join(map(_pool, result.records("pools")))
    saved, memmap = result.integer("saved"), result.integer("memmap")
    verdict = Verdict(
        "good", f"gives back {format_size(saved)}, {p.percent(saved, memmap)} of the memory map"
    )
    body = (_facts(result), _figures(result), _pools(result), _eras(eras), _nodes(nodes))
    return Section("plan", pools or "No pool", verdict, joined(body))


def _pool(pool: Record) -> str:
    return f"{p.plural(pool.integer('pages'), 'page')} of {format_size(pool.integer('size'))}"


def _facts(result: Record) -> Html:
    if "machine" not in result:
        return Html()
    machine = result.record("machine")
    return p.facts(
        [
            (
                "Machine",
                f"{machine.text('arch')}, {format_size(machine.integer('memory'))} of memory",
            ),
            ("Base page", format_size(machine.integer("page_size"))),
            ("struct page", format_size(machine.integer("struct_page_size"))),
            ("As kernels of", result.text("era") if "era" in result else None),
        ]
    )


def _figures(result: Record) -> Html:
    saved, memmap = result.integer("saved"), result.integer("memmap")
    return p.figures(
        [
            ("Given back", format_size(saved), p.percent(saved, memmap)),
            ("Memory map", format_size(memmap), "of struct pages before"),
            ("Split tables", format_size(result.integer("table_cost")), "taken for split leaves"),
            (
                "Restore headroom",
                format_size(result.integer("restore_headroom")),
                "must be free to give the pools back",
            ),
        ]
    )


def _pools(result: Record) -> Html:
    pools = result.records("pools")
    rows = (
        (
            p.size(pool.integer("size")),
            *(p.count(pool.integer(key)) for key in ("pages", "vmemmap_pages", "freed_pages")),
            p.size(pool.integer("saved")),
        )
        for pool in pools
    )
    chart = _savings([(format_size(pool.integer("size")), pool) for pool in pools])
    return joined((p.heading("Pools"), chart, p.table("Pools", _POOLS, rows)))


def _savings(rows: list[tuple[str, Record]]) -> Html:
    """A chart, where there is something to compare."""
    if len({name for name, _ in rows}) < 2:
        return Html()
    slices = [
        Slice(name, "saved", row.integer("saved"), format_size(row.integer("saved")))
        for name, row in rows
    ]
    return stacked_bars("Saved", slices, _COLOURS)


def _eras(eras: list[Record]) -> Html:
    rows = ((era.text("era"), *(_optional(era, key) for key in _ERA_KEYS)) for era in eras)
    return joined((p.heading("Era by era"), p.table("Era by era", _ERAS, rows))) if eras else Html()


_ERA_KEYS = ("saved", "table_cost", "shared_tails", "net", "restore_headroom")


def _optional(row: Record, key: str) -> object:
    return p.size(row.integer(key)) if key in row else ""


def _nodes(nodes: list[Record]) -> Html:
    keys = ("memory", "memmap", "saved", "restore_headroom")
    rows = (
        (p.count(node.integer("node")), *(p.size(node.integer(key)) for key in keys))
        for node in nodes
    )
    return (
        joined((p.heading("Node by node"), p.table("Node by node", _NODES, rows)))
        if len(nodes) > 1
        else Html()
    )


def comparison_section(result: Record) -> Section:
    """The section; raises HvoError where `result` is not what `hvo plan --compare --json`
    prints.
    """
    rows = result.records("alternatives")
    planned = [row for row in rows if "saved" in row]
    most = max((row.integer("saved") for row in planned), default=0)
    memory = f" with {format_size(result.integer('memory'))}" if "memory" in result else ""
    chart = _savings([(_name(row), row) for row in planned])
    said = (
        f"{len(planned)} of {p.plural(len(rows), 'alternative')} possible; the most gives back"
        f" {format_size(most)}"
    )
    told = len(_ALTERNATIVES) if any(_remark(row) for row in rows) else -1
    table = p.table(
        "Alternatives", _ALTERNATIVES[:told], (_alternative(row)[:told] for row in rows)
    )
    verdict, above = (
        Verdict("good" if planned else "unsure", said),
        p.heading("Saved") if chart else None,
    )
    return Section(
        "plan",
        f"{p.plural(len(rows), 'alternative')}{memory}",
        verdict,
        joined((above, chart, table)),
    )


def _sizes(row: Record) -> str:
    if "pools" in row:
        return " + ".join(format_size(pool.integer("size")) for pool in row.records("pools"))
    return format_size(row.integer("hugepage_size")) if "hugepage_size" in row else ""


def _name(row: Record) -> str:
    machine = row.record("machine")
    return f"{machine.text('arch')} {format_size(machine.integer('page_size'))}, {_sizes(row)}"


def _alternative(row: Record) -> tuple[object, ...]:
    machine = row.record("machine")
    pages = sum(pool.integer("pages") for pool in row.records("pools")) if "pools" in row else None
    figures = (_optional(row, key) for key in ("memmap", "saved", "table_cost", "restore_headroom"))
    name = machine.text("arch"), p.size(machine.integer("page_size")), _sizes(row)
    return *name, "" if pages is None else p.count(pages), *figures, _remark(row)


def _remark(row: Record) -> str:
    """Why it cannot be, or nothing."""
    return row.text("reason") if "reason" in row else ""
