"""Spark as an engine: the one that a master such as `spark://host:7077` names, or one on this
machine.
"""

import logging
import os
import shutil
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ibis
import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from hvo.errors import HvoError
from hvo.fleet.columns import FILE, LINE
from hvo.fleet.engine import Engine
from hvo.safe_text import mask_address, mask_secrets

LOCAL = "local[*]"
_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.mergeSchema": "true",
    "spark.sql.ansi.enabled": "true",
}
_LOCALLY = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "8",
}


def _started(builder: SparkSession.Builder, master: str) -> SparkSession:
    """A session; raises `HvoError` where Spark cannot be started or reached."""
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise HvoError(
            "Spark needs Java: install a runtime (Debian: default-jre-headless), or set JAVA_HOME"
        )
    try:
        with _silence():
            return builder.getOrCreate()
    except (PySparkException, Py4JError) as error:
        raise HvoError(
            f"Spark at {mask_address(master)} does not answer:"
            f" {mask_secrets(str(error), [master]).partition(chr(10))[0][:200]}"
        ) from error


@contextmanager
def _silence() -> Generator[None]:
    """Give the process that Spark runs in no standard error: it greets there, and goes on to
    chat.
    """
    mine = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(mine, 2)
        os.close(mine)


class Spark(Engine):
    """Spark at `master`; files must be where its workers can read them."""

    name = "spark"
    _failures = (PySparkException, Py4JError)

    def __init__(self, master: str = LOCAL) -> None:
        for said in (
            "PySpark does not yet fully support pandas",
            "The copy keyword is deprecated",
        ):  # PySpark's own, with pandas 3
            warnings.filterwarnings("ignore", message=said)
        logging.getLogger("py4j").setLevel(logging.ERROR)
        builder = SparkSession.builder.master(master).appName("hvo fleet")
        for name, value in (_SETTINGS | (_LOCALLY if master.startswith("local") else {})).items():
            builder = builder.config(name, value)
        self._session = _started(builder, master)
        self._session.sparkContext.setLogLevel("OFF")
        super().__init__(ibis.pyspark.connect(self._session))

    def parquet(self, files: Sequence[Path]) -> ibis.Table:
        """See `Engine`."""
        with self.failures():
            frame = self._session.read.parquet(*(str(file) for file in files))
            if LINE not in frame.columns:
                frame = frame.selectExpr(
                    "*", f"_metadata.row_index + 1 AS {LINE}", f"_metadata.file_path AS {FILE}"
                )
            return self._named(frame)

    def keep(self, expression: ibis.Table) -> ibis.Table:
        """See `Engine`."""
        with self.failures():
            return expression.cache()

    def store(self, table: pa.Table) -> ibis.Table:
        """See `Engine`."""
        with self.failures():
            return self._named(self._session.createDataFrame(table))

    def _named(self, frame: DataFrame) -> ibis.Table:
        """The frame as Ibis knows it."""
        view = f"stored_{next(self._numbers)}"
        frame.createOrReplaceTempView(view)
        return self.backend.table(view)

    def close(self) -> None:
        """See `Engine`."""
        self._session.stop()
