"""What `hvo fleet` shows on a terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from hvo.layout.units import format_size
from hvo.report.terminal import console, plain

_TITLES = {"group": "group", "kernel": "kernel", "arch": "architecture", "size": "HugeTLB size"}
_AMOUNTS = ("saved", "possible", "unknown", "impossible")
Row = dict[str, Any]


def print_fleet(found: Row) -> None:
    """The answer, as `Answer.to_json` gives it."""
    out = console()
    for part in (
        _head(found),
        _actions(found["actions"]),
        *(_breakdown(key, rows) for key, rows in found["by"].items()),
        _top(found["top"]),
        _impossible(found["impossible_because"]),
        *_warnings(found),
        *_rejects(found),
    ):
        if part is not None:
            out.print(part)


def _head(found: Row) -> Table:
    table = Table.grid(padding=(0, 2))
    hosts, memory = (
        f"{found['hosts']:,} host{'s' * (found['hosts'] != 1)}",
        format_size(found["memory"]),
    )
    table.add_row(
        Text("fleet", "bold"),
        f"{hosts} with {memory}, {format_size(found['pool_bytes'])} of it in HugeTLB pools",
    )
    unknown = f", up to {format_size(found['unknown'])} less" if found["unknown"] else ""
    table.add_row(Text("paid", "bold"), f"{format_size(found['paid'])} for struct pages{unknown}")
    table.add_row(Text("saved", "bold"), format_size(found["saved"]))
    tables = (
        f" (tables for split leaves would take {format_size(found['table_cost'])} in all)"
        if found["table_cost"]
        else ""
    )
    table.add_row(Text("possible", "bold green"), f"{format_size(found['possible'])} more{tables}")
    if found["unknown"]:
        table.add_row(
            Text("unknown", "bold"),
            f"{format_size(found['unknown'])} are saved or possible, their hosts do not tell which",
        )
    if found["impossible"]:
        table.add_row(Text("impossible", "bold"), format_size(found["impossible"]))
    now, after = (
        format_size(found["restore_headroom"]),
        format_size(found["restore_headroom_after"]),
    )
    table.add_row(
        Text("give back", "bold"),
        f"needs up to {now} free now, {after} when all that is possible is saved",
    )
    return table


def _columns(title: str, first: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for name in first:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _actions(rows: Sequence[Row]) -> Table | None:
    if not rows:
        return None
    table = _columns(
        "\nwhat to do, most valuable first", ("action", "how"), ("hosts", "gains up to")
    )
    for row in rows:
        how = row["what"] if row["command"] is None else f"{row['what']}: {row['command']}"
        table.add_row(
            row["action"].replace("_", " "),
            Text(how),
            f"{row['hosts']:,}",
            format_size(row["gain"]),
        )
    return table


def _breakdown(key: str, rows: Sequence[Row]) -> Table | None:
    if not rows:
        return None
    hosts = () if key == "size" else ("memory", "paid")
    table = _columns(f"\nby {_TITLES[key]}", (_TITLES[key],), ("hosts", *hosts, *_AMOUNTS))
    for row in rows:
        sizes = (format_size(row[name]) for name in (*hosts, *_AMOUNTS))
        table.add_row(
            _name(row, "name"),
            f"{row['hosts']:,}",
            *sizes,
            style="dim" if row["name"] is None else "",
        )
    return table


def _name(row: Row, key: str) -> Text:
    """What the row is about; text of the inventory is never markup."""
    return plain(f"({row['merged']:,} others)" if row[key] is None else row[key] or "(none)")


def _top(rows: Sequence[Row]) -> Table | None:
    if not rows:
        return None
    table = _columns(
        "\nhosts where most is possible",
        ("host", "group", "kernel", "to do"),
        ("memory", "paid", "saved", "possible"),
    )
    for row in rows:
        texts = (plain(row[name]) for name in ("host", "group", "kernel"))
        sizes = (format_size(row[name]) for name in ("memory", "paid", "saved", "possible"))
        table.add_row(*texts, (row["action"] or "").replace("_", " "), *sizes)
    return table


def _impossible(rows: Sequence[Row]) -> Table | None:
    if not rows:
        return None
    table = _columns("\nimpossible because", ("reason",), ("hosts", "impossible"))
    for row in rows:
        table.add_row(_name(row, "reason"), f"{row['hosts']:,}", format_size(row["impossible"]))
    return table


def _warnings(found: Row) -> Iterable[Text]:
    for row in found["defects"]:
        if not row["loses"]:
            yield Text(f"\n{suspicion(row)}", "bold yellow")
            continue
        said = (
            f"\nWARNING: {row['hosts']:,} hosts have the known defect {row['id']}: {row['summary']}"
        )
        yield Text(
            f"{said}; {format_size(row['saved'])} of theirs may be saved by such pages: give none"
            " back",
            "bold red",
        )


def suspicion(row: Row) -> str:
    """A defect that memory must be asked about."""
    have = "have" if row["certain"] else "may have"
    fixed = f"; mended in {row['fixed']}" if row["fixed"] else ""
    return (
        f"{row['hosts']:,} hosts {have} the defect {row['id']}: {row['summary']}; look in memory:"
        f" {row['look']}{fixed}"
    )


def _rejects(found: Row) -> Iterable[Table]:
    if not found["rejects"]:
        return
    table = _columns(
        f"\n{found['rejected']:,} of {found['rows']:,} rows rejected", ("reason",), ("rows",)
    )
    for row in found["rejects"]:
        table.add_row(plain(row["reason"]), f"{row['rows']:,}")
    yield table
    table = _columns("\nthe first of them", ("file", "line", "host", "reason"), ())
    for row in found["first_rejects"]:
        table.add_row(
            *(
                plain("" if row[name] is None else str(row[name]))
                for name in ("file", "line", "host", "reason")
            )
        )
    yield table
