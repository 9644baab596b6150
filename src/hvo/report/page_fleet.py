"""The section of a page about `hvo fleet`: what all hosts pay, save and still could, why not, what
to do, and where.
"""

from collections.abc import Sequence

from hvo.layout.units import format_size
from hvo.report import page_parts as p
from hvo.report.charts import Slice, stacked_bars
from hvo.report.html import Html, joined
from hvo.report.page_parts import Cell, Column, Part, Section, Verdict
from hvo.report.record import Record

_SERIES = {"saved": "green", "possible": "amber", "unknown": "blue", "impossible": "grey"}
"""What bars are made of, and their colours in the style sheet."""
_TITLES = {
    "group": "By group",
    "kernel": "By kernel",
    "arch": "By architecture",
    "size": "By HugeTLB size",
}


def fleet_section(result: Record) -> Section:
    """The section; raises HvoError where `result` is not what `hvo fleet --json` prints."""
    body = joined(
        (
            _figures(result),
            _whole(result),
            _actions(result.records("actions")),
            _defects(result.records("defects")),
            *(_breakdown(key, result.record("by").records(key)) for key in _TITLES),
            _top(result.records("top")),
            _impossible(result.records("impossible_because")),
            _rejects(result),
        )
    )
    return Section("fleet", p.plural(result.integer("hosts"), "host"), _verdict(result), body)


def _verdict(result: Record) -> Verdict:
    possible, saved, rejected = (result.integer(name) for name in ("possible", "saved", "rejected"))
    text = f"{format_size(possible)} still possible, {format_size(saved)} saved"
    if rejected:
        return Verdict("bad", f"{text}; {p.plural(rejected, 'row')} rejected")
    return Verdict("unsure" if possible else "good", text)


def _figures(result: Record) -> Html:
    """The numbers of the whole fleet that matter."""
    less = (
        f"up to {format_size(result.integer('unknown'))} less"
        if result.integer("unknown")
        else "for struct pages"
    )
    headroom = (
        f"{format_size(result.integer('restore_headroom_after'))} when all that is possible is"
        " saved"
    )
    return p.figures(
        (
            ("Paid", format_size(result.integer("paid")), less),
            (
                "Saved",
                format_size(result.integer("saved")),
                p.percent(result.integer("saved"), result.integer("memmap")),
            ),
            (
                "Still possible",
                format_size(result.integer("possible")),
                f"and {format_size(result.integer('table_cost'))} of tables",
            ),
            ("Impossible", format_size(result.integer("impossible")), None),
            (
                "Memory",
                format_size(result.integer("memory")),
                f"{format_size(result.integer('pool_bytes'))} in HugeTLB pools",
            ),
            ("To give it back", format_size(result.integer("restore_headroom")), headroom),
        )
    )


def _whole(result: Record) -> Html:
    """What becomes of the struct pages of all pools, as one bar."""
    names = (*_SERIES, "kept")
    parts = [
        Part(name, name, result.integer(name), format_size(result.integer(name))) for name in names
    ]
    return joined(
        (
            p.bar(parts, result.integer("cost"), "struct pages of pools"),
            p.legend((name, name) for name in names),
        )
    )


def _actions(rows: Sequence[Record]) -> Html:
    if not rows:
        return Html()
    columns = (
        Column("action"),
        Column("what"),
        Column("command"),
        Column("hosts", True),
        Column("gains up to", True),
    )
    cells = (
        (
            row.text("action").replace("_", " "),
            row.text("what"),
            p.code(row.text("command")) if "command" in row else "",
            p.count(row.integer("hosts")),
            p.size(row.integer("gain")),
        )
        for row in rows
    )
    return joined((p.heading("What to do"), p.table("What to do", columns, cells)))


def _defects(rows: Sequence[Record]) -> Html:
    return joined(p.note(_defect(row)) for row in rows)


def _defect(row: Record) -> str:
    hosts = p.plural(row.integer("hosts"), "host")
    if "loses" in row and not row.flag("loses"):
        known = "with the known defect" if row.flag("certain") else "that may have the defect"
        mended = f" Mended in {row.text('fixed')}." if "fixed" in row else ""
        return (
            f"{hosts} {known} {row.text('id')}: {row.text('summary')}. Look in memory:"
            f" {row.text('look')}.{mended}"
        )
    return (
        f"{hosts} with the known defect {row.text('id')}: {row.text('summary')}."
        f" {format_size(row.integer('saved'))} may be saved by pages that would be lost: give none"
        " of them back."
    )


def _breakdown(key: str, rows: Sequence[Record]) -> Html:
    if not rows:
        return Html()
    hosts = () if key == "size" else ("memory", "paid")
    columns = (Column(key), *(Column(name, True) for name in ("hosts", *hosts, *_SERIES)))
    cells = (
        (
            _name(row, "name"),
            p.count(row.integer("hosts")),
            *(p.size(row.integer(name)) for name in (*hosts, *_SERIES)),
        )
        for row in rows
    )
    return joined(
        (p.heading(_TITLES[key]), _chart(_TITLES[key], rows), p.table(_TITLES[key], columns, cells))
    )


def _chart(title: str, rows: Sequence[Record]) -> Html:
    """A bar for each row, where there are several and something is in them."""
    slices = [
        Slice(_name(row, "name"), name, row.integer(name), format_size(row.integer(name)))
        for row in rows
        if any(row.integer(name) for name in _SERIES)
        for name in _SERIES
    ]
    if len(slices) <= len(_SERIES):
        return Html()
    return joined(
        (stacked_bars(title, slices, _SERIES), p.legend((name, name) for name in _SERIES))
    )


def _name(row: Record, key: str) -> str:
    """What the row is about."""
    return (row.text(key) or "(none)") if key in row else f"({row.integer('merged'):,} others)"


def _top(rows: Sequence[Record]) -> Html:
    if not rows:
        return Html()
    texts, sizes = ("host", "group", "kernel", "arch"), ("memory", "paid", *_SERIES)
    columns = (*map(Column, texts), Column("to do"), *(Column(name, True) for name in sizes))
    cells = (
        (
            *(row.text(name) for name in texts),
            row.text("action").replace("_", " ") if "action" in row else "",
            *(p.size(row.integer(name)) for name in sizes),
        )
        for row in rows
    )
    title = "Hosts where most is possible"
    return joined((p.heading(title), p.table(title, columns, cells)))


def _impossible(rows: Sequence[Record]) -> Html:
    if not rows:
        return Html()
    columns = (Column("reason"), Column("hosts", True), Column("impossible", True))
    cells = (
        (_name(row, "reason"), p.count(row.integer("hosts")), p.size(row.integer("impossible")))
        for row in rows
    )
    return joined((p.heading("Impossible because"), p.table("Impossible because", columns, cells)))


def _rejects(result: Record) -> Html:
    """Rows that were rejected: the reasons, and the first of them."""
    rows, first = result.records("rejects"), result.records("first_rejects")
    if not rows:
        return Html()
    counted = ((row.text("reason"), p.count(row.integer("rows"))) for row in rows)
    reasons = p.table("Rejected rows", (Column("reason"), Column("rows", True)), counted)
    columns = (Column("file"), Column("line", True), Column("host"), Column("reason"))
    cells = (
        (
            row.text("file") if "file" in row else "",
            p.count(row.integer("line")) if "line" in row else Cell(""),
            row.text("host") if "host" in row else "",
            row.text("reason"),
        )
        for row in first
    )
    return joined(
        (
            p.heading("Rejected rows"),
            reasons,
            p.note("The first of them:"),
            p.table("The first rejected rows", columns, cells),
        )
    )
