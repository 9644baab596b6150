"""Tables of any list of JSON objects: a column for each key, bytes as sizes, and the section that
is one such table.
"""

from collections.abc import Sequence

from hvo.report import page_parts as p
from hvo.report.html import Html
from hvo.report.page_parts import Cell, Column, Section, Verdict
from hvo.report.record import Record

BYTES = {
    "paid",
    "saved",
    "possible",
    "impossible",
    "gain",
    "cost",
    "memory",
    "memmap",
    "restore_headroom",
    "headroom",
    "net",
    "table_cost",
    "size",
    "page_size",
    "hugepage_size",
    "struct_page_size",
}
"""Keys whose values are bytes, and are shown as sizes."""


def records_table(name: str, rows: Sequence[Record]) -> Html:
    """The table: what is no plain value in the rows is in the data of the page only."""
    keys = list(
        dict.fromkeys(
            key
            for row in rows
            for key, value in row.values.items()
            if not isinstance(value, list | dict)
        )
    )
    columns = [
        Column(key.replace("_", " "), all(_is_number(row.values.get(key)) for row in rows))
        for key in keys
    ]
    return p.table(name, columns, ([_cell(row, key) for key in keys] for row in rows))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(row: Record, key: str) -> Cell:
    value = row.values.get(key)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", float(value))
    if not _is_number(value):
        return Cell(value)
    if key in BYTES:
        return p.size(row.integer(key))
    number = row.number(key)
    return p.count(int(number)) if number.is_integer() else Cell(f"{number:,.4g}", number)


def verdicts_section(command: str, key: str, result: Record) -> Section:
    """The section of the list at `key`, whose rows may have a verdict, such as the proposals for
    arm64.
    """
    rows = result.records(key)
    verdicts = [row.text("verdict") for row in rows if "verdict" in row]
    bad = sum(verdict != "safe" for verdict in verdicts)
    good = "all safe" if verdicts else p.plural(len(rows), key.removesuffix("s"))
    verdict = Verdict("bad", f"{bad} of {len(verdicts)} not safe") if bad else Verdict("good", good)
    return Section(
        command, p.plural(len(rows), key.removesuffix("s")), verdict, records_table(key, rows)
    )
