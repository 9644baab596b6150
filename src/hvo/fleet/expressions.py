"""Pieces of Ibis expressions that everything here is made of, with types where Ibis' own are too
vague to be checked.
"""

from typing import Any

import ibis
from ibis import _

_untyped: Any = ibis


def grouped(table: ibis.Table, *keys: str, **sums: Any) -> ibis.Table:
    """A row for each combination of values of `keys` that is there, with `sums` over its rows;
    without keys one row.
    """
    rows: Any = table.group_by(*keys) if keys else table
    return rows.agg(**sums)


def total(amount: Any) -> Any:
    """The sum of whole numbers, as one of 64 bits; engines that count further say when it does not
    fit.
    """
    return amount.sum().cast("int64")


def null(kind: str) -> Any:
    """No value, of a type."""
    return _untyped.null(kind)


def one() -> Any:
    """The number 1."""
    return _untyped.literal(1, "int64")


def no() -> Any:
    """False in every row."""
    return _untyped.literal(False)


def word(text: str) -> Any:
    """A text that is the same in every row."""
    return _untyped.literal(text)


def given(condition: Any, amount: Any) -> Any:
    """The amount where the condition holds, else 0."""
    return ibis.ifelse(condition, amount, 0)


def first_known(*values: Any) -> Any:
    """The first value that is not null."""
    return ibis.coalesce(*values)


COUNT: Any = _.count()
"""How many rows there are."""
