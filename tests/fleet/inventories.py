"""Inventories of tests: rows as dictionaries, written as files of every kind, and asked through the
command.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner, Result

from hvo.cli.main import main
from hvo.fleet.columns import COLUMNS, NAMES

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
HOST = {
    "host": "a",
    "group": "web",
    "arch": "x86_64",
    "kernel": "6.18.44",
    "page_size": 4096,
    "memory": 64 * GIB,
}
"""A host without a pool."""
POOL = {**HOST, "hugepage_size": 2 * MIB, "pages": 1000, "gate": True, "optimized": 400}
"""A host with a mixed pool."""
SAVED = 7 * 4096
"""What a page of 2 MiB gives back."""
_TYPES = {"text": pa.string(), "size": pa.int64(), "count": pa.int64(), "switch": pa.bool_()}


def host(**values: Any) -> dict[str, Any]:
    """`POOL` with other values; None takes one away."""
    return {name: value for name, value in (POOL | values).items() if value is not None}


def hvo(*arguments: object) -> Result:
    """The outcome of `hvo fleet`."""
    return CliRunner().invoke(main, ["fleet", *map(str, arguments)], prog_name="hvo")


def ask(path: Path, *arguments: object) -> dict[str, Any]:
    """What `hvo fleet --json` says of a file."""
    result = hvo(path, "--json", *arguments)
    assert result.exit_code in (0, 1), result.stderr
    return json.loads(result.stdout)


def answer(rows: Iterable[Mapping[str, Any]], place: Path, *arguments: object) -> dict[str, Any]:
    """What it says of rows."""
    return ask(write_csv(rows, place / "inventory.csv"), *arguments)


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path, delimiter: str = ",") -> Path:
    """The rows as CSV; switches as people write them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, NAMES, delimiter=delimiter)
        writer.writeheader()
        writer.writerows({name: _word(value) for name, value in row.items()} for row in rows)
    return path


def _word(value: Any) -> Any:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def write_json_lines(rows: Iterable[Mapping[str, Any]], path: Path) -> Path:
    """The rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The rows with the types of their columns."""
    return pa.Table.from_pylist(
        list(rows), schema=pa.schema([(column.name, _TYPES[column.kind]) for column in COLUMNS])
    )


def write_parquet(rows: Iterable[Mapping[str, Any]], path: Path) -> Path:
    """The rows as Parquet."""
    pq.write_table(table(rows), path)
    return path


def without_sources(found: dict[str, Any]) -> dict[str, Any]:
    """An answer without what says where it came from and how long it took."""
    return {
        name: value
        for name, value in found.items()
        if name not in ("inventory", "engine", "seconds", "command", "first_rejects")
    }
