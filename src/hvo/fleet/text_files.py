"""Inventories of text, CSV and JSON lines, as tables of texts with the line of every row: nothing
is converted here, no line is lost.
"""

import csv as python_csv
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from hvo.errors import HvoError
from hvo.fleet.columns import FILE, LINE, MALFORMED, NAMES, require_columns
from hvo.safe_text import mask_secrets

SCHEMA = pa.schema(
    [(name, pa.string()) for name in NAMES]
    + [(LINE, pa.int64()), (FILE, pa.string()), (MALFORMED, pa.string())]
)
"""What readers of text yield."""
_BLOCK = 8 << 20
_SHOWN = 60
"""Characters of a line that is no row."""


def read_csv(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file with a header, whose fields are apart by a comma, a semicolon or a
    tab.

    Raises `HvoError` where it is no such file.
    """
    names, delimiter = _header(path)
    odd: list[csv.InvalidRow] = []
    done = 0
    try:
        for batch in _parsed(path, names, delimiter, odd):
            numbers: list[int] = [row.number for row in odd]
            lines = _lines(done, batch.num_rows, np.array(numbers, np.int64))
            done += batch.num_rows
            found = _batch({name: batch.column(name) for name in batch.schema.names}, lines, path)
            yield found.filter(_any(found))
    except (pa.ArrowInvalid, OSError) as error:
        said = mask_secrets(str(error))[:120]
        raise HvoError(
            f"{path}: no CSV file in UTF-8 ({said}): expected a header and one line a host or pool"
        ) from error
    malformed = [
        f"expected {row.expected_columns} fields, found {row.actual_columns}: {_shown(row.text)}"
        for row in odd
    ]
    yield _batch({MALFORMED: pa.array(malformed, pa.string())}, [row.number for row in odd], path)


def _shown(line: str) -> str:
    """The beginning of a line that is no row."""
    return mask_secrets(line)[:_SHOWN]


def _any(batch: pa.RecordBatch) -> pa.Array:
    """Whether there is anything in a row; an empty line is no row."""
    return reduce(pc.or_, (pc.is_valid(batch.column(name)) for name in NAMES))


def _header(path: Path) -> tuple[list[str], str]:
    """The names of the columns, and what stands between fields."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
    except (OSError, ValueError) as error:
        raise HvoError(
            f"{path}: no CSV file in UTF-8 ({error}): expected a header and one line a host or pool"
        ) from error
    delimiter = max(",;\t", key=first.count)
    names = [
        name.strip() for name in next(python_csv.reader([first], delimiter=delimiter), list[str]())
    ]
    require_columns(names, str(path))
    twice = sorted({name for name in names if names.count(name) > 1 and name in NAMES})
    if twice:
        raise HvoError(f"{path}: two columns {twice[0]}: give each column once")
    return names, delimiter


def _parsed(
    path: Path, names: list[str], delimiter: str, odd: list[csv.InvalidRow]
) -> csv.CSVStreamingReader:
    """The rows, block by block; lines that are none are put in `odd`."""

    def skip(row: csv.InvalidRow) -> str:
        odd.append(row)
        return "skip"

    known = [name for name in names if name in NAMES]
    unique = [name if name in NAMES else f"column {number}" for number, name in enumerate(names)]
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(
            column_names=unique, skip_rows=1, block_size=_BLOCK, use_threads=False
        ),
        parse_options=csv.ParseOptions(
            delimiter=delimiter, ignore_empty_lines=False, invalid_row_handler=skip
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(known, pa.string()), include_columns=known
        ),
    )


def _lines(first: int, count: int, odd: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lines of so many rows from `first` on, which is counted from 0 and without the lines
    `odd`; the header is line 1.
    """
    rows = np.arange(first, first + count)
    return rows + 2 + np.searchsorted(odd - 2 - np.arange(odd.size), rows, side="right")


def read_json_lines(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a file with one JSON object a line. Raises `HvoError` where it cannot be read."""
    fields = {name: f"object ->> '$.{name}'" for name in NAMES}
    fields[MALFORMED] = (
        "CASE WHEN json_type(object) = 'OBJECT' THEN NULL ELSE 'no JSON object: ' || left(text,"
        f" {_SHOWN}) END"
    )
    said = ", ".join(f'{expression} AS "{name}"' for name, expression in fields.items())
    query = (
        f"SELECT line, {said} FROM (SELECT line, text, try_cast(text AS JSON) AS object FROM lines)"
        " ORDER BY line"
    )
    connection: Any = duckdb.connect()
    with connection:
        for lines in _blocks(path):
            connection.register("lines", lines)
            found = connection.sql(query).to_arrow_table()
            yield _batch(
                {name: found.column(name).combine_chunks() for name in fields},
                found.column("line"),
                path,
            )


def _blocks(path: Path) -> Iterator[pa.Table]:
    """Some lines of a file at a time, with their numbers, without empty ones."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            number = 1
            while lines := file.readlines(_BLOCK):
                numbers = pa.array(np.arange(number, number + len(lines)))
                table = pa.table(
                    {"line": numbers, "text": pc.utf8_trim_whitespace(pa.array(lines, pa.string()))}
                )
                yield table.filter(pc.not_equal(table["text"], ""))
                number += len(lines)
    except OSError as error:
        raise HvoError(
            f"{path}: it cannot be read ({error.strerror}): expected one JSON object a line"
        ) from error


def _batch(columns: dict[str, pa.Array], lines: object, path: Path) -> pa.RecordBatch:
    """What readers yield: texts without the white space around them, null where nothing is left."""
    size = len(next(iter(columns.values())))
    trimmed = {name: pc.utf8_trim_whitespace(column) for name, column in columns.items()}
    texts = {
        name: pc.if_else(pc.equal(column, ""), None, column) for name, column in trimmed.items()
    }
    given = texts | {
        LINE: pa.array(lines, pa.int64()),
        FILE: pa.array([str(path)] * size, pa.string()),
    }
    return pa.record_batch(
        [given.get(field.name, pa.nulls(size, field.type)) for field in SCHEMA], schema=SCHEMA
    )
