"""Where an inventory comes from: Parquet files are given to the engine as they are, anything else
is first written down as one.

What is written down keeps every line: one that is no row at all (too many fields, no JSON) becomes
a row that says so, with its number.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from hvo.errors import HvoError
from hvo.fleet.columns import FILE, LINE, NAMES, require_columns
from hvo.fleet.engine import Engine
from hvo.fleet.text_files import read_csv, read_json_lines
from hvo.safe_text import mask_address, mask_secrets

_PARQUET = (".parquet", ".pq")
_TEXTS = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json_lines, ".ndjson": read_json_lines}
_DUCKDB = (".duckdb", ".ddb", ".db")
ACCEPTED = (
    "Parquet (.parquet), CSV (.csv, .tsv), JSON lines (.jsonl, .ndjson), DuckDB (.duckdb) or a URL"
    " that Ibis knows (sqlite://fleet.db)"
)
"""What an inventory may be, for people."""


def open_inventory(name: str, table: str | None, engine: Engine, scratch: Path) -> ibis.Table:
    """The rows of the inventory `name` as they are stored; `scratch` is a directory for what must
    be written down first.

    A pattern (`fleet/*.parquet`) or a directory stands for all its Parquet files. `table` is the
    one to read of a database, and may be left out where there is only one. Raises `HvoError` where
    nothing is there or it cannot be read.
    """
    if "://" in name:
        return _written(_database(name, table), name, engine, scratch)
    files = _files(name)
    kind = files[0].suffix.lower()
    if kind in _PARQUET:
        return engine.parquet(files)
    if kind in _DUCKDB:
        return _written(
            _database(f"duckdb://{files[0]}?read_only=True", table), name, engine, scratch
        )
    if kind not in _TEXTS:
        raise HvoError(
            f"{name}: unknown kind of inventory {kind or 'without a suffix'}: expected {ACCEPTED}"
        )
    return _written(
        (batch for file in files for batch in _TEXTS[kind](file)), name, engine, scratch
    )


def _files(name: str) -> list[Path]:
    """The files that `name` stands for, all of one kind."""
    path = Path(name)
    pattern = "*.parquet" if path.is_dir() else None
    found = sorted(path.glob(pattern)) if pattern else [path] if path.exists() else _matching(path)
    if not found:
        raise HvoError(f"{mask_address(name)}: no such file: expected {ACCEPTED}")
    if len({file.suffix.lower() for file in found}) > 1:
        raise HvoError(
            f"{name}: files of several kinds: collect them into one inventory first (hvo fleet"
            " collect)"
        )
    return found


def _matching(path: Path) -> list[Path]:
    """The files that match a pattern in the last part of a path."""
    return sorted(path.parent.glob(path.name)) if any(mark in path.name for mark in "*?[") else []


def _database(url: str, table: str | None) -> Iterator[pa.RecordBatch]:
    """The rows of a table of a database."""
    where = mask_address(url).partition("?")[0]
    try:
        backend = ibis.connect(url)
        names = backend.list_tables()
        if table is None and len(names) != 1:
            raise HvoError(
                f"{where}: it has {', '.join(sorted(names)) or 'no tables'}: name the inventory"
                " with --table"
            )
        if table is not None and table not in names:
            raise HvoError(
                f"{where}: no table {table}: it has {', '.join(sorted(names)) or 'none'}"
            )
        rows = backend.table(table or names[0])
        require_columns(rows.columns, where)
        known = rows.select(*(name for name in NAMES if name in rows.columns))
        for batch in known.to_pyarrow_batches():
            yield _of_table(batch, f"{where} {table or names[0]}")
    except HvoError:
        raise
    except ImportError as error:
        raise HvoError(
            f"{where}: Ibis lacks what it needs for it: pip install"
            f" 'ibis-framework[{where.partition(':')[0]}]'"
        ) from error
    except (
        Exception
    ) as error:  # every database has errors of its own, and Ibis does not bring them together
        said = mask_secrets(str(error), [url]).partition("\n")[0][:200]
        raise HvoError(
            f"{where}: it cannot be read ({said}): expected a database that Ibis knows"
        ) from error


def _of_table(batch: pa.RecordBatch, where: str) -> pa.RecordBatch:
    """Rows of a database stand on no line."""
    place = {
        FILE: pa.array([where] * batch.num_rows, pa.string()),
        LINE: pa.nulls(batch.num_rows, pa.int64()),
    }
    return pa.record_batch([*batch.columns, *place.values()], [*batch.schema.names, *place])


def _written(
    batches: Iterable[pa.RecordBatch], name: str, engine: Engine, scratch: Path
) -> ibis.Table:
    """What `batches` hold, as a Parquet file that the engine reads."""
    path, rows = scratch / "inventory.parquet", 0
    writer: Any = None
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="snappy")
            writer.write_batch(batch)
            rows += batch.num_rows
    except OSError as error:
        raise HvoError(
            f"{mask_address(name)}: it cannot be copied to {scratch}: {error.strerror}"
        ) from error
    finally:
        if writer is not None:
            writer.close()
    if not rows:
        raise HvoError(
            f"{mask_address(name)}: no rows: expected an inventory with at least one host"
        )
    return engine.parquet([path])
