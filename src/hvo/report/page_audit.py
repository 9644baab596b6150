"""The section of a page about `hvo audit`: the map of the vmemmap, the pools, and what is wrong."""

from collections.abc import Iterator

import numpy as np

from hvo.audit.result import SHARES, Cells
from hvo.errors import HvoError
from hvo.layout.units import format_size
from hvo.report import page_parts as p
from hvo.report.audit_table import LAYOUTS
from hvo.report.html import Html, element, joined
from hvo.report.page_parts import Cell, Column, Part, Section, Verdict
from hvo.report.record import Record
from hvo.report.vmemmap_map import MARKS, ROW, Row, legend, rows

_POOLS = (
    Column("size"),
    Column("node"),
    Column("pages", True),
    Column("optimised", True),
    Column("share"),
    Column("partly", True),
    Column("flagged", True),
    Column("free", True),
    Column("saved", True),
    Column("possible", True),
)
_FINDINGS = (
    Column("rule"),
    Column("severity"),
    Column("pfn", True),
    Column("address", True),
    Column("what"),
)


def audit_section(result: Record) -> Section:
    """The section; raises HvoError where `result` is not what `hvo audit --json` prints."""
    found = result.records("findings")
    wrong = {
        name: sum(finding.text("severity") == name for finding in found)
        for name in ("error", "warning")
    }
    said = ", ".join(p.plural(number, name) for name, number in wrong.items() if number)
    verdict = (
        Verdict("bad", said)
        if said
        else Verdict("good", "nothing is wrong" if found else "no findings")
    )
    body = (_facts(result), _figures(result), _map(result), _pools(result), _findings(found))
    return Section("audit", result.text("kernel"), verdict, joined(body))


def _facts(result: Record) -> Html:
    layout = result.text("layout")
    missing, notes = (result.texts(key) if key in result else [] for key in ("missing", "notes"))
    return p.facts(
        [
            ("Kernel", f"{result.text('kernel')}, {result.text('arch')}"),
            ("Base page", format_size(result.integer("page_size"))),
            ("struct page", format_size(result.integer("struct_page_size"))),
            ("Memory sections", p.count(result.integer("sections")).shown),
            ("Layout", f"{layout}: {LAYOUTS.get(layout, 'unknown')}"),
            *_dax(result),
            *(("Note", text) for text in notes),
            *(("Not looked at", text) for text in missing),
        ]
    )


def _dax(result: Record) -> Iterator[tuple[str, str]]:
    if "dax" in result and (found := result.record("dax")).integer("saved"):
        pages, frames = found.integer("vmemmap_pages"), found.integer("frames")
        saved = format_size(found.integer("saved"))
        yield "Device DAX", f"saves {saved} by itself: {pages} vmemmap pages on {frames} frames"


def _figures(result: Record) -> Html:
    pools = result.records("pools")
    total = {
        key: sum(pool.integer(key) for pool in pools)
        for key in ("saved", "possible", "pages", "optimized")
    }
    return p.figures(
        [
            ("Saved", format_size(total["saved"]), "of struct pages"),
            ("Still possible", format_size(total["possible"]), "by optimising the rest"),
            ("Optimised", f"{total['optimized']:,}", f"of {p.plural(total['pages'], 'huge page')}"),
            *_tables(result),
            *_lost(result),
            ("Findings", f"{len(result.records('findings')):,}", None),
        ]
    )


def _tables(result: Record) -> Iterator[tuple[str, str, str]]:
    if "table_cost" in result:
        yield "Split tables", format_size(result.integer("table_cost")), "taken for split leaves"


def _lost(result: Record) -> Iterator[tuple[str, str, str]]:
    if "lost" in result and (lost := result.record("lost")).integer("pages"):
        pages, frames = (
            p.plural(lost.integer("pages"), "huge page"),
            p.plural(lost.integer("frames"), "frame"),
        )
        yield "Lost", format_size(lost.integer("bytes")), f"{pages}, {frames} behind their vmemmap"


def _map(result: Record) -> Html:
    """The map to look into: the page's script finds the parts of a cell in the data by the number
    of the first cell of its row.
    """
    if "cells" not in result:
        return Html()
    cells, page = _cells(result.record("cells")), result.integer("page_size")
    if not len(cells.start):
        return Html()
    lines = joined(_line(row, page) for row in rows(cells, len(cells.start)))
    said = "Map of the vmemmap. Choose a part with the arrow keys."
    whole = element(
        "div", lines, class_="map", tabindex=0, role="group", aria_label=said, data_page=page
    )
    about = p.note(
        "Choose a cell, by pointer or arrow keys, to see what is in it and only its findings;"
        " Escape shows all."
    )
    return joined(
        (
            p.heading(f"The vmemmap, a cell for {format_size(cells.frames * page)} of memory"),
            whole,
            p.legend((mark.css, mark.name) for mark in legend(cells)),
            element("div", about, class_="about", role="status"),
        )
    )


def _cells(record: Record) -> Cells:
    """The parts of the map; raises HvoError where they are not as many of each kind, or not in
    order.
    """
    start = np.array(record.integers("start"), np.int64)
    columns = [record.numbers(name) for name in SHARES]
    if (
        any(len(column) != len(start) for column in columns)
        or np.any(np.diff(start) <= 0)
        or record.integer("frames") <= 0
    ):
        raise HvoError(
            f"{record.where}: its lists differ in length or order; give what `hvo audit --json`"
            " printed"
        )
    return Cells(
        record.integer("frames"), start, np.array(columns, np.float32).T.reshape(-1, len(SHARES))
    )


def _line(row: Row, page: int) -> Html:
    pieces = element(
        "div",
        *(element("i", class_=MARKS[kind].css) for kind in row.kinds),
        class_="cells",
        style=f"--columns:{ROW}",
    )
    return element("div", p.code(f"{row.start * page:#x}"), pieces, class_="line")


def _pools(result: Record) -> Html:
    pools = [row for pool in result.records("pools") for row in _pool(pool)]
    return joined(
        (
            p.heading("HugeTLB pools"),
            (
                p.table("HugeTLB pools", _POOLS, pools)
                if pools
                else p.note("There are no HugeTLB pages.")
            ),
        )
    )


def _pool(pool: Record) -> Iterator[tuple[object, ...]]:
    """A row for the pool, and one for each node where there are several."""
    nodes = pool.records("nodes") if "nodes" in pool else []
    yield _counts(pool, pool.integer("size"), "all")
    if len(nodes) > 1:
        yield from (
            _counts(node, pool.integer("size"), Cell(node.integer("node"), node.integer("node")))
            for node in nodes
        )


def _counts(of: Record, pool_size: int, node: object) -> tuple[object, ...]:
    pages, optimized = of.integer("pages"), of.integer("optimized")
    partial = of.integer("partial")
    parts = [
        Part("optimised", "optimised", optimized, f"{optimized:,}"),
        Part("mixed", "partly", partial, f"{partial:,}"),
        Part(
            "own", "not optimised", pages - optimized - partial, f"{pages - optimized - partial:,}"
        ),
    ]
    share = Cell(p.bar(parts, pages, "pages"), optimized / pages if pages else 0)
    numbers = (
        p.count(of.integer(key)) if key in of else "" for key in ("partial", "flagged", "free")
    )
    sizes = p.size(of.integer("saved")), p.size(of.integer("possible")) if "possible" in of else ""
    return p.size(pool_size), node, p.count(pages), p.count(optimized), share, *numbers, *sizes


def _findings(found: list[Record]) -> Html:
    if not found:
        return joined((p.heading("Findings"), p.note("Nothing was found to be wrong.")))
    return joined(
        (
            p.heading("Findings"),
            p.table("Findings", _FINDINGS, map(_finding, found), data_places=""),
        )
    )


def _finding(finding: Record) -> tuple[object, ...]:
    severity, pfn, address = (
        finding.text("severity"),
        finding.integer("pfn"),
        finding.integer("address"),
    )
    mark = element("span", severity, class_="bad" if severity == "error" else "unsure")
    return (
        p.code(finding.text("id")),
        mark,
        Cell(p.code(f"{pfn:#x}"), pfn),
        Cell(p.code(f"{address:#x}"), address),
        finding.text("message"),
    )
