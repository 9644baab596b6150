"""Where inventories come from: every kind of file and database gives the same answer, and what is
none is said in one line.
"""

import sqlite3
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventories import (
    GIB,
    HOST,
    MIB,
    answer,
    ask,
    host,
    hvo,
    table,
    without_sources,
    write_csv,
    write_json_lines,
    write_parquet,
)

from hvo.errors import HvoError
from hvo.fleet.columns import COLUMNS, NAMES
from hvo.fleet.engines import DuckDB
from hvo.fleet.inventory_page import inventory_page
from hvo.fleet.typed import typed
from hvo.layout.units import parse_size

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    host(),
    host(host="b", hugepage_size=GIB, pages=3, optimized=None, optimized_min=1, node=1),
    {**HOST, "host": "c", "group": "db"},
    host(
        host="d",
        arch="arm64",
        kernel="6.8.0-45-generic-64k",
        page_size=65536,
        hugepage_size=512 * MIB,
        pages=9,
        gate=None,
        optimized=0,
    ),
    host(host="é-ü", supported=True, gate=False, struct_page_size=64),
]
"""Rows with every column, and gaps in each that may have some."""


def floats(rows, path: Path) -> Path:
    """As tables of floats with gaps are stored: every number and switch a float, NaN where there is
    none.
    """
    columns = {}
    for column in COLUMNS:
        values = [row.get(column.name) for row in rows]
        numbers = (
            pa.array([float("nan") if value is None else float(value) for value in values])
            if column.kind != "text"
            else None
        )
        columns[column.name] = (
            numbers if numbers is not None and column.kind != "switch" else pa.array(values)
        )
    pq.write_table(pa.table(columns), path)
    return path


def texts(rows, path: Path) -> Path:
    """Parquet in which everything is text."""
    columns = {
        name: pa.array(
            [None if row.get(name) is None else str(row[name]) for row in rows], pa.string()
        )
        for name in NAMES
    }
    pq.write_table(pa.table(columns), path)
    return path


def small_integers(rows, path: Path) -> Path:
    """Parquet with the narrowest types that hold the values, switches as 0 and 1, and texts stored
    once.
    """
    kinds = {
        "page_size": pa.uint32(),
        "pages": pa.uint16(),
        "node": pa.int8(),
        "memory": pa.uint64(),
        "gate": pa.int8(),
    }
    whole = table(rows)
    for name, kind in kinds.items():
        whole = whole.set_column(NAMES.index(name), name, whole[name].cast(kind))
    pq.write_table(whole.set_column(0, "host", whole["host"].dictionary_encode()), path)
    return path


def in_duckdb(rows, path: Path) -> Path:
    """A DuckDB file with one table."""
    hosts = table(rows)
    with duckdb.connect(str(path)) as connection:
        connection.register("given", hosts)
        connection.sql("CREATE TABLE hosts AS SELECT * FROM given")
    return path


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_csv, "x.csv"),
        (lambda rows, path: write_csv(rows, path, "\t"), "x.tsv"),
        (lambda rows, path: write_csv(rows, path, ";"), "x.csv"),
        (write_json_lines, "x.jsonl"),
        (write_json_lines, "x.ndjson"),
        (floats, "x.parquet"),
        (texts, "x.parquet"),
        (small_integers, "x.parquet"),
        (in_duckdb, "x.duckdb"),
    ],
)
def test_every_kind_gives_the_same_answer(write, name, tmp_path):
    """As plain Parquet does, whatever numbers and switches are stored as."""
    expected = ask(write_parquet(ROWS, tmp_path / "plain.parquet"))
    assert (expected["hosts"], expected["rejected"]) == (5, 0)
    assert without_sources(ask(write(ROWS, tmp_path / name))) == without_sources(expected)


def test_a_database_by_its_url(tmp_path):
    """SQLite through Ibis, with the table that is named; rejected rows of it stand on no line."""
    with sqlite3.connect(tmp_path / "x.sqlite") as connection:
        types = {"text": "TEXT", "switch": "BOOLEAN", "size": "INTEGER", "count": "INTEGER"}
        connection.execute("CREATE TABLE other (a INTEGER)")
        connection.execute(
            "CREATE TABLE hosts ("
            + ", ".join(f'"{column.name}" {types[column.kind]}' for column in COLUMNS)
            + ")"
        )
        values = [
            tuple(row.get(name) for name in NAMES)
            for row in [*ROWS, host(host="bad", page_size=4095)]
        ]
        connection.executemany(f"INSERT INTO hosts VALUES ({','.join('?' * len(NAMES))})", values)
    url = f"sqlite://{tmp_path}/x.sqlite"
    said = ask(url, "--table", "hosts")
    expected = ask(write_parquet(ROWS, tmp_path / "plain.parquet"))
    assert said["saved"] == expected["saved"] > 0
    assert [(row["file"], row["line"], row["host"]) for row in said["first_rejects"]] == [
        (f"{url} hosts", None, "bad")
    ]
    assert hvo(url).stderr == f"hvo: {url}: it has hosts, other: name the inventory with --table\n"
    assert hvo(url, "--table", "x").stderr == f"hvo: {url}: no table x: it has hosts, other\n"


def test_many_files_are_one_inventory(tmp_path):
    """A directory and a pattern stand for all their files, also where one has a column less."""
    write_parquet(ROWS[:2], tmp_path / "a.parquet")
    pq.write_table(
        table(ROWS[2:]).drop_columns(["optimized_min", "optimized_max"]), tmp_path / "b.parquet"
    )
    expected = without_sources(ask(write_parquet(ROWS, tmp_path / "whole.pq")))
    assert (
        without_sources(ask(tmp_path)) == without_sources(ask(tmp_path / "*.parquet")) == expected
    )
    write_csv(ROWS[:2], tmp_path / "1.csv")
    write_csv(ROWS[2:], tmp_path / "2.csv")
    assert without_sources(ask(tmp_path / "?.csv")) == expected


def test_columns_may_stand_in_any_order_and_be_missing(tmp_path):
    """Only those that must be there have to; units and a byte order mark as people and programs
    write them.
    """
    path = tmp_path / "x.csv"
    header, row = (
        "\ufeffmemory,host,kernel, page_size ,arch,pages,hugepage_size",
        '64 GiB,"a", 6.18.44 ,4k,x86_64,1000,2M',
    )
    path.write_text(f"{header}\n{row}\n", encoding="utf-8")
    said = ask(path)
    assert (said["memory"], said["unknown"], said["rejected"]) == (64 * GIB, 1000 * 28672, 0)


_UNITS = ["", "K", "kB", "M", "MiB", "g", "GB", "TiB", "p", "B", "x", "."]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**15), st.sampled_from(_UNITS)), min_size=1))
def test_sizes_are_read_as_everywhere(pairs):
    """What `parse_size` reads, in any engine's words; what it refuses, or does not fit in 62 bits,
    is no size.
    """
    words = [f"{number}{unit}" for number, unit in pairs]
    engine = DuckDB()
    try:
        raw = engine.store(pa.table({"memory": pa.array(words)}))
        found = [row["memory"] for row in engine.rows(typed(raw).select("memory"))]
    finally:
        engine.close()
    assert found == [_size(word) for word in words]


def _size(word: str) -> int | None:
    try:
        size = parse_size(word)
    except HvoError:
        return None
    return size if size <= 1 << 62 else None


def _cut(tmp_path: Path) -> Path:
    path = write_parquet(ROWS, tmp_path / "cut.parquet")
    path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: place / "none.csv", "no such file: expected Parquet (.parquet), CSV"),
        (lambda place: place / "*.csv", "no such file"),
        (lambda place: place, "no such file"),
        (_cut, "duckdb cannot read or work out the inventory"),
        (
            lambda place: _text(place / "x.xml", "<a/>"),
            "unknown kind of inventory .xml: expected Parquet",
        ),
        (
            lambda place: _text(place / "x.csv", ""),
            "no column host, arch, kernel, page_size, memory (it has none)",
        ),
        (
            lambda place: _text(place / "x.csv", "host,arch,rack\na,b,c\n"),
            "no column kernel, page_size, memory (it has host, arch, rack)",
        ),
        (
            lambda place: _text(place / "x.csv", "host,arch,kernel,page_size,memory\n"),
            "no rows: expected an inventory with at least one host",
        ),
        (
            lambda place: _text(place / "x.csv", "host,host,arch,kernel,page_size,memory\n"),
            "two columns host: give each column once",
        ),
        (
            lambda place: _bytes(
                place / "x.csv", b"host,arch,kernel,page_size,memory\n\xff\xfe,a,b,4096,1\n"
            ),
            "no CSV file in UTF-8",
        ),
        (
            lambda place: _bytes(
                place / "x.csv",
                b"host,arch,kernel,page_size,memory\n" + b"a,b,c,d,e\n" * 99999 + b"\xff,b,c,d,e\n",
            ),
            "no CSV",
        ),
        (lambda place: _text(place / "x.jsonl", "\n\n"), "no rows"),
        (lambda place: _bytes(place / "x.duckdb", b"no database"), "it cannot be read"),
        (lambda place: "nosuch://x", "it cannot be read"),
        (lambda place: "postgres://u@127.0.0.1:1/x", "pip install 'ibis-framework[postgres]'"),
    ],
)
def test_what_is_no_inventory(make, said, tmp_path):
    """One line that says what, where, and what to do; it exits 2."""
    result = hvo(make(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_wrong_calls(tmp_path):
    """Nothing to ask about, and an engine that there is none of."""
    assert (
        hvo().stderr
        == "hvo fleet: give an inventory, such as fleet.parquet, or a command: collect, generate\n"
    )
    result = hvo(write_csv(ROWS, tmp_path / "x.csv"), "--engine", "oracle")
    assert (result.exit_code, result.stderr) == (
        2,
        "hvo: engine oracle: expected duckdb, spark, or a Spark master such as spark://host:7077\n",
    )
    assert hvo("--top", "1", tmp_path / "x.csv").exit_code == 0


def test_the_page_about_columns_is_up_to_date():
    """`make docs` makes it of the columns and rules."""
    assert (ROOT / "docs/inventory.md").read_text() == inventory_page()


def test_the_answer_is_the_same_as_text_and_as_json(tmp_path):
    """One computation, two forms."""
    said = answer(ROWS, tmp_path)
    shown = hvo(tmp_path / "inventory.csv").stdout
    assert f"{said['hosts']} hosts" in shown
