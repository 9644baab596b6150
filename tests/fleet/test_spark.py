"""Spark answers the same as DuckDB: same rows, same numbers, from the same expressions."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from inventories import HOST, ask, host, hvo, without_sources, write_csv, write_parquet

from hvo.fleet.synthetic import write_fleet

pytest.importorskip("pyspark", reason="pyspark is absent: pip install 'hvo[spark]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("java") and "JAVA_HOME" not in os.environ,
        reason="Java is absent: Spark runs on it",
    ),
]
BAD = [
    host(host="x", page_size=4095),
    host(host="y"),
    host(host="y"),
    {**HOST, "host": "z", "node": -1},
    host(host="n", kernel="none"),
]


def test_a_fleet(tmp_path):
    """Every state, hosts with several rows, lists that are cut short."""
    write_fleet(400, 5, tmp_path / "fleet.parquet")
    duckdb, spark = (
        ask(tmp_path / "fleet.parquet", "--engine", engine, "--top", 7)
        for engine in ("duckdb", "local[2]")
    )
    assert without_sources(spark) == without_sources(duckdb)
    assert spark["engine"] == "local[2]"
    assert len(spark["top"]) == 7


def test_rejects(tmp_path):
    """The same rows are rejected, on the same lines; of text, too."""
    rows = [host(), *BAD, host(host="[arm]", arch="arm64", kernel="7.3.4-hvo", optimized=3)]
    for path in (write_parquet(rows, tmp_path / "x.parquet"), write_csv(rows, tmp_path / "x.csv")):
        said = []
        for engine in ("duckdb", "local[2]"):
            target = tmp_path / f"{engine}.csv"
            said.append(ask(path, "--engine", engine, "--rejects", target))
        assert without_sources(said[0]) == without_sources(said[1])
        assert said[0]["rejected"] == 5
        first, second = (
            (tmp_path / f"{engine}.csv").read_text().splitlines()
            for engine in ("duckdb", "local[2]")
        )
        assert [line.partition(",")[2] for line in first] == [
            line.partition(",")[2] for line in second
        ]


def test_it_says_what_is_wrong_in_one_line(tmp_path):
    """A file that is cut."""
    path = write_parquet([host()], tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    result = hvo(path, "--engine", "local[2]")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("hvo: spark cannot read or work out the inventory: ")


def test_the_command_is_quiet(tmp_path):
    """Spark's greetings are nobody's output: standard error is empty, standard output one
    answer.
    """
    path = write_parquet([host()], tmp_path / "x.parquet")
    code = "from hvo.cli.main import main; main()"
    words = [sys.executable, "-c", code, "fleet", str(path), "--engine", "local[1]"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("fleet      1 host with ")


def test_without_java(tmp_path):
    """It says what to install."""
    path = write_parquet([host()], tmp_path / "x.parquet")
    code = "from hvo.cli.main import main; main()"
    words = [sys.executable, "-c", code, "fleet", str(path), "--engine", "spark"]
    environment = {"PATH": str(Path(sys.executable).parent)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("hvo: Spark needs Java: install a runtime")
