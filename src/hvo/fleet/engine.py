"""The engines that answer: DuckDB in this process, or Spark; both through Ibis, and both are asked
the same.

An engine reads Parquet files, keeps a table that is asked several times, and gives small answers as
Python's own values.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from hvo.errors import HvoError
from hvo.safe_text import mask_secrets


class Engine:
    """What answers, on an Ibis `backend`."""

    name = ""
    _failures: tuple[type[Exception], ...] = ()

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self._numbers = count()

    def parquet(self, files: Sequence[Path]) -> ibis.Table:
        """The rows of Parquet files with `LINE`, the row's number in its file, and `FILE`, where
        they do not say these themselves.
        """
        raise NotImplementedError

    def keep(self, expression: ibis.Table) -> ibis.Table:
        """The table, worked out once, until the engine is closed."""
        raise NotImplementedError

    def store(self, table: pa.Table) -> ibis.Table:
        """A small table of ours."""
        raise NotImplementedError

    def number(self, expression: Any) -> int:
        """A whole number; 0 where there is none."""
        with self.failures():
            return self.backend.to_pyarrow(expression).as_py() or 0

    def table(self, expression: ibis.Table) -> pa.Table:
        """A table that fits in memory."""
        with self.failures():
            return self.backend.to_pyarrow(expression)

    def rows(self, expression: ibis.Table) -> list[dict[str, Any]]:
        """A small table, row by row."""
        return self.table(expression).to_pylist()

    @contextmanager
    def failures(self) -> Generator[None]:
        """Say what the engine says as one line of ours."""
        try:
            yield
        except self._failures as error:
            said = mask_secrets(str(error)).partition("\n")[0][:300]
            raise HvoError(f"{self.name} cannot read or work out the inventory: {said}") from error

    def close(self) -> None:
        """Let go of everything."""
        self.backend.disconnect()
