"""Inventory columns as they were stored (numbers, texts, floats with gaps) as columns of known
types, and which value could not be read.

Everything is an expression of Ibis, so that any engine does it.
"""

from typing import Any

import ibis
import ibis.expr.datatypes as dt

from hvo.fleet.columns import ADDED, COLUMNS, MALFORMED, Column
from hvo.fleet.expressions import null

_TYPES = {"text": "string", "size": "int64", "count": "int64", "switch": "boolean"}
_SIZE = r"^([0-9]{1,18})\s*(([kKmMgGtTpP]?)([iI]?[bB])?)$"
_COUNT = r"^([0-9]{1,18})$"
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate("KMGTP", 1)}
_LARGEST = 1 << 62
_YES, _NO = ("true", "on", "1", "yes", "y", "t"), ("false", "off", "0", "no", "n", "f")
_EXACT = 1 << 53  # whole numbers that a float holds


def typed(raw: ibis.Table) -> ibis.Table:
    """The columns of `COLUMNS` with their types (those that are not there are null), what is ours
    (`ADDED`), and `unreadable`.

    `unreadable` is the number of the first column with a value that is none of its kind, counted
    from 1; 0 where there is none, -1 where the reader could make nothing of the row.
    """
    there = [column for column in COLUMNS if column.name in raw.columns]
    values = {column.name: value(raw, column) for column in there}
    absent = {column.name: null(_TYPES[column.kind]) for column in COLUMNS if column not in there}
    wrong = [
        (_given(raw[column.name]) & values[column.name].isnull(), number)
        for number, column in enumerate(COLUMNS, 1)
        if column in there and column.kind != "text"
    ]
    malformed = [(raw[MALFORMED].notnull(), -1)] if MALFORMED in raw.columns else []
    added = {name: raw[name] for name in raw.columns if name.startswith(ADDED)}
    code = ibis.cases(*malformed, *wrong, else_=0).cast("int32")
    return raw.select(
        **{name: (values | absent)[name] for name in _TYPES_BY_NAME}, **added, unreadable=code
    )


_TYPES_BY_NAME = {column.name: _TYPES[column.kind] for column in COLUMNS}


def value(raw: ibis.Table, column: Column) -> Any:
    """The values of a stored column as those of its kind; null also where there is one that is
    none.
    """
    return {"text": _text, "size": _size, "count": _count, "switch": _switch}[column.kind](
        raw[column.name]
    )


def _given(stored: Any) -> Any:
    """Whether there is a value: an empty text is none, nor is the NaN by which tables of floats say
    so.
    """
    kind = stored.type()
    if isinstance(kind, dt.String):
        return stored.notnull() & (stored != "")
    return stored.notnull() & ~stored.isnan() if isinstance(kind, dt.Floating) else stored.notnull()


def _text(stored: Any) -> Any:
    """As it is stored: an engine groups by texts much faster when nothing is done to them."""
    return stored if isinstance(stored.type(), dt.String) else stored.cast("string")


def _size(stored: Any) -> Any:
    """Bytes of `4096`, `2MiB`, `2M` or `2048kB`: what `parse_size` reads."""
    if not isinstance(stored.type(), dt.String):
        return _whole(stored)
    number, unit = (
        stored.re_extract(_SIZE, 1).nullif("").cast("int64"),
        stored.re_extract(_SIZE, 3).upper(),
    )
    return ibis.cases(
        *(
            ((unit == name) & (number <= _LARGEST // factor), number * factor)
            for name, factor in _UNITS.items()
        ),
        (unit == "", number),
    )


def _count(stored: Any) -> Any:
    return (
        stored.re_extract(_COUNT, 1).nullif("").cast("int64")
        if isinstance(stored.type(), dt.String)
        else _whole(stored)
    )


def _whole(stored: Any) -> Any:
    """Whole numbers of a column of numbers: null for fractions, and for what is no number."""
    kind = stored.type()
    if isinstance(kind, dt.Integer):
        return (
            stored.cast("int64")
            if kind.nbytes < 8 or isinstance(kind, dt.Int64)
            else stored.try_cast("int64")
        )
    if not isinstance(kind, dt.Floating | dt.Decimal):
        return null("int64")
    number = stored.cast("float64")
    return ibis.cases(((number.abs() < _EXACT) & (number == number.floor()), number.cast("int64")))


def _switch(stored: Any) -> Any:
    if isinstance(stored.type(), dt.Boolean):
        return stored
    said = stored.cast("string").lower()
    return ibis.cases((said.isin(_YES), True), (said.isin(_NO), False))
