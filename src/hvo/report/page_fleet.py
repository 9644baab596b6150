"""The section of a page about `hvo fleet`: what all hosts pay, save and still could, and every breakdown as a chart and a table."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from hvo.layout.units import format_size
from hvo.report import page_parts as p
from hvo.report.charts import Slice, stacked_bars
from hvo.report.html import Html, joined
from hvo.report.page_parts import Section, Verdict
from hvo.report.page_records import BYTES, records_table
from hvo.report.record import Record

_COLOURS = {"saved": "green", "possible": "amber", "impossible": "grey"}
"""What bars are made of, and their colours in the style sheet."""


def fleet_section(result: Record) -> Section:
    """The section; raises HvoError where `result` is not what `hvo fleet --json` prints."""
    saved, possible = result.integer("saved"), result.integer("possible")
    verdict = Verdict("unsure" if possible else "good", f"{format_size(possible)} still possible, {format_size(saved)} saved")
    rejected = _rejected(result)
    if rejected:
        verdict = Verdict("bad", f"{verdict.text}; {p.plural(rejected, 'row')} rejected")
    body = (_figures(result), *(_breakdown(name, rows) for name, rows in _lists(result)))
    return Section("fleet", p.plural(_hosts(result), "host"), verdict, joined(body))


def _hosts(result: Record) -> int:
    return len(result.records("hosts")) if isinstance(result.values["hosts"], list) else result.integer("hosts")


def _rejected(result: Record) -> int:
    """How many rows of the inventory were refused."""
    value = result.values.get("rejected", result.values.get("rejects"))
    return len(cast("list[object]", value)) if isinstance(value, list) else value if isinstance(value, int) else 0


def _figures(result: Record) -> Html:
    """Every number of the whole fleet."""
    plain = (key for key, value in result.values.items() if isinstance(value, int) and not isinstance(value, bool))
    return p.figures((key.replace("_", " ").capitalize(), _said(result, key), None) for key in plain)


def _said(result: Record, key: str) -> str:
    return format_size(result.integer(key)) if key in BYTES else f"{result.integer(key):,}"


def _lists(result: Record) -> Iterator[tuple[str, list[Record]]]:
    """The lists of objects in the result, also those one level down: title and rows."""
    for key, value in result.values.items():
        if _is_rows(value):
            yield key, result.records(key)
        elif isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            yield from ((f"{key} {name}", result.record(key).records(name)) for name, rows in inner.items() if _is_rows(rows))


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(row, dict) for row in cast("list[object]", value))


def _breakdown(name: str, rows: Sequence[Record]) -> Html:
    title = name.replace("_", " ").capitalize()
    return joined((p.heading(title), _chart(title, rows), records_table(title, rows)))


def _chart(title: str, rows: Sequence[Record]) -> Html:
    """Bars of what is saved, possible and impossible, where the rows say so and there are several."""
    series = [key for key in _COLOURS if all(isinstance(row.values.get(key), int) for row in rows)]
    if len(rows) < 2 or not series:
        return Html()
    slices = [Slice(_name(row), key, row.integer(key), format_size(row.integer(key))) for row in rows for key in series]
    return joined((stacked_bars(title, slices, {key: _COLOURS[key] for key in series}), p.legend((key, key) for key in series)))


def _name(row: Record) -> str:
    """What the row is about: its values that are no amounts, the first two."""
    said = [value for key, value in row.values.items() if isinstance(value, str) or key in ("size", "hugepage_size")]
    return ", ".join(format_size(value) if isinstance(value, int) else str(value) for value in said[:2]) or "all"
