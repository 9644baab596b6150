"""Synthetic fleets are the same for the same seed, of the size that was asked for, and sound."""

import pyarrow.parquet as pq
import pytest
from inventories import ask, hvo

from hvo.fleet import synthetic
from hvo.fleet.columns import NAMES


def test_the_same_seed_gives_the_same_fleet(tmp_path):
    """To the byte; another seed gives another."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            hvo(
                "generate", "--hosts", 500, "--seed", seed, "-o", tmp_path / f"{name}.parquet"
            ).exit_code
            == 0
        )
    a, b, c = ((tmp_path / f"{name}.parquet").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("hosts", [1, 2, 999, 2500])
def test_it_has_as_many_hosts_as_asked_for(hosts, tmp_path, monkeypatch):
    """Written in pieces too; no row is rejected, and all columns are there, in their order."""
    monkeypatch.setattr(synthetic, "_CHUNK", 1000)
    rows = synthetic.write_fleet(hosts, 3, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.names == list(NAMES)
    assert table.num_rows == rows >= hosts
    said = ask(tmp_path / "x.parquet")
    assert (said["hosts"], said["rows"], said["rejected"]) == (hosts, rows, 0)


def test_what_cannot_be_written(tmp_path):
    """One line, and it exits 2."""
    result = hvo("generate", "--hosts", 5, "-o", tmp_path / "no/x.parquet")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
