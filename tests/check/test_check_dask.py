"""Jobs on a Dask cluster: two worker processes give the same results as this process, and a
scheduler that is not there is said.
"""

import json
import os
import sys

import pytest
from click.testing import CliRunner

from hvo.check.batch import check_all, dask
from hvo.check.select import asked
from hvo.cli.main import main
from hvo.errors import HvoError

distributed = pytest.importorskip("distributed", reason="Dask is not installed (hvo[dask])")


@pytest.fixture(scope="module")
def cluster():
    """A local cluster of two worker processes."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as started:
        yield started


def test_a_cluster_gives_the_same_results(cluster):
    """The command with the scheduler's address: every verdict, property and count of states as from
    processes here.
    """
    arguments = ["--hazard", "H01", "--hazard", "H14", "--json"]
    there = CliRunner().invoke(
        main, ["check", "--scheduler", cluster.scheduler_address, *arguments]
    )
    here = CliRunner().invoke(main, ["check", *arguments])
    assert there.exit_code == here.exit_code == 1, there.exception
    told = [
        [{**row, "seconds": 0} for row in json.loads(result.output)["results"]]
        for result in (there, here)
    ]
    assert told[0] == told[1]
    assert len(told[0]) > 30


def test_the_jobs_are_done_there(cluster):
    """The processes that work are those of the cluster."""
    with dask(cluster.scheduler_address) as executor:
        processes = {executor.submit(os.getpid).result() for _ in range(4)}
        cases = asked([], None, ["H12"], None)
        results = check_all(cases, None, executor)
    assert [result.case.scenario.name for result in results] == [
        case.scenario.name for case in cases
    ]
    assert {result.verdict for result in results} == {"unsafe", "safe"}
    assert os.getpid() not in processes


def test_an_error_of_a_job_comes_back(cluster, tmp_path):
    """A protocol that fails on a worker is said in one line, as it is here."""
    path = tmp_path / "mine.py"
    path.write_text("def optimize(v, order, head):\n    yield from []\n    1 / 0\n")
    result = CliRunner().invoke(
        main, ["check", str(path), "--scheduler", cluster.scheduler_address]
    )
    assert result.exit_code == 2
    assert "mine.py:3: ZeroDivisionError" in result.stderr


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "nonsense://there", "tcp://256.256.256.256:1"]
)
def test_a_scheduler_that_is_not_there(address: str, monkeypatch: pytest.MonkeyPatch):
    """One line that names the address."""
    monkeypatch.setattr("hvo.check.batch.PATIENCE", "300ms")
    with pytest.raises(HvoError, match=f"no Dask scheduler answers at {address}"), dask(address):
        pass


def test_dask_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    """What to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(HvoError, match=r"needs Dask: pip install 'hvo\[dask\]'"),
        dask("tcp://127.0.0.1:9"),
    ):
        pass
