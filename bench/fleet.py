"""How long `hvo fleet` takes for fleets of several sizes, and what memory it needs: `python
bench/fleet.py [HOSTS...]`.

Each fleet is asked about by a process of its own, whose anonymous memory is sampled from outside;
the time is that of the whole command, and of the answer in it. Each size is there twice: with some
hosts that have several rows, and with one row a host.
"""

import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import duckdb

from hvo.fleet.synthetic import write_fleet
from hvo.layout import format_size
from run import anonymous
from walk import cpu_name

SIZES = (100_000, 1_000_000, 10_000_000)
COMMAND = [sys.executable, "-c", "from hvo.cli.main import main; main()", "fleet"]


def ask(path: Path) -> tuple[float, float, int, int]:
    """Ask about a fleet -> seconds of the command, seconds of the answer, hosts, peak bytes of
    anonymous memory.
    """
    begun, peak = time.perf_counter(), 0
    with subprocess.Popen([*COMMAND, str(path), "--json"], stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - begun
        assert process.stdout is not None
        found = json.load(process.stdout)
    assert found["rejected"] == 0
    return seconds, found["seconds"], found["hosts"], peak


def one_row_each(path: Path, target: Path) -> Path:
    """The first row of each host."""
    with duckdb.connect() as connection:
        rows = (
            f"SELECT DISTINCT ON (host) * FROM read_parquet('{path}') ORDER BY host, hugepage_size"
        )
        connection.sql(f"COPY ({rows}) TO '{target}' (FORMAT parquet, ROW_GROUP_SIZE 1048576)")
    return target


def main() -> None:
    """Print a line for each fleet, and how time grows."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    print(f"machine: {cpu_name()}, DuckDB {duckdb.__version__}")
    with tempfile.TemporaryDirectory() as place:
        lines: dict[str, list[tuple[int, float]]] = {}
        for hosts in sizes:
            path = Path(place) / "fleet.parquet"
            rows = write_fleet(hosts, 7, path)
            shapes = {
                "some hosts with several rows": path,
                "one row a host": one_row_each(path, Path(place) / "single.parquet"),
            }
            for shape, file in shapes.items():
                seconds, answered, found, peak = ask(file)
                lines.setdefault(shape, []).append((hosts, seconds))
                count = rows if file is path else found
                memory = (
                    f"{format_size(file.stat().st_size >> 10 << 10)} of Parquet, peak"
                    f" {format_size(peak >> 20 << 20)} anonymous"
                )
                print(
                    f"{found:>10,} hosts, {count:>10,} rows ({shape}): {seconds:.2f} s, answer"
                    f" {answered:.2f} s; {memory}",
                    flush=True,
                )
    for shape, line in lines.items():
        for (few, before), (many, after) in pairwise(line):
            print(
                f"{shape}: {many / few:.0f} times the hosts, {after / before:.1f} times the seconds"
            )


if __name__ == "__main__":
    main()
