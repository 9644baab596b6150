"""Which engine answers: DuckDB in this process, or Spark."""

import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
from ibis import _

from hvo.errors import HvoError
from hvo.fleet.columns import FILE, LINE
from hvo.fleet.engine import Engine
from hvo.safe_text import mask_address

_MEMORY = "3GiB"
"""What DuckDB may take before it goes to disk: with what Python and readers need, a fleet of any
size stays below 4 GiB.
"""


class DuckDB(Engine):
    """DuckDB in this process, on all cores."""

    name = "duckdb"
    _failures = (duckdb.Error,)

    def __init__(self) -> None:
        self._spill = tempfile.TemporaryDirectory(prefix="hvo-fleet-")
        # No answer depends on the order of rows but those that say which.
        super().__init__(
            ibis.duckdb.connect(
                memory_limit=_MEMORY,
                temp_directory=self._spill.name,
                preserve_insertion_order=False,
            )
        )

    def parquet(self, files: Sequence[Path]) -> ibis.Table:
        """See `Engine`."""
        with self.failures():
            found = self.backend.read_parquet(
                [str(file) for file in files],
                file_row_number=True,
                filename=True,
                union_by_name=True,
            )
        if LINE in found.columns:
            return found.drop("file_row_number", "filename")
        return found.mutate(**{LINE: _.file_row_number + 1, FILE: _.filename}).drop(
            "file_row_number", "filename"
        )

    def keep(self, expression: ibis.Table) -> ibis.Table:
        """See `Engine`."""
        with self.failures():
            return self.backend.create_table(f"kept_{next(self._numbers)}", expression, temp=True)

    def store(self, table: pa.Table) -> ibis.Table:
        """See `Engine`."""
        name = f"stored_{next(self._numbers)}"
        self.backend.con.register(name, table)
        return self.backend.table(name)

    def table(self, expression: ibis.Table) -> pa.Table:
        """See `Engine`; Ibis itself would import pandas for it."""
        with self.failures():
            found = self.backend.con.sql(self.backend.compile(expression)).to_arrow_table()
            return found.cast(
                expression.schema().to_pyarrow()
            )  # sums are wider, until something does not fit

    def number(self, expression: Any) -> int:
        """See `Engine`."""
        with self.failures():
            return int(self.backend.con.sql(self.backend.compile(expression)).fetchone()[0] or 0)

    def close(self) -> None:
        """See `Engine`."""
        super().close()
        self._spill.cleanup()


@contextmanager
def engine(name: str) -> Generator[Engine]:
    """The engine `duckdb`, `spark` (on this machine), or the Spark that a master names
    (`spark://host:7077`, `local[2]`).
    """
    if name == DuckDB.name:
        found: Engine = DuckDB()
    elif name == "spark" or name.startswith(("spark://", "local")):
        from hvo.fleet.spark import LOCAL, Spark

        found = Spark(LOCAL if name == Spark.name else name)
    else:
        raise HvoError(
            f"engine {mask_address(name)}: expected duckdb, spark, or a Spark master such as spark://host:7077"
        )
    try:
        yield found
    finally:
        found.close()
