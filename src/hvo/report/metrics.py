"""Metrics in Prometheus' text formats: a collector for its client library, and the file that
node_exporter's textfile collector reads.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hvo.errors import HvoError
from hvo.host.metrics import Reading, Sample
from hvo.host.metrics_table import METRICS

_SUFFIX = ".prom"
_ORDER = {name: number for number, name in enumerate(METRICS)}


class HostCollector(Collector):
    """What `read` gives, as metric families; `complain` is called with why a reading failed, once
    until one succeeds or fails otherwise.
    """

    def __init__(self, read: Callable[[], Reading], complain: Callable[[str], None]) -> None:
        self._read, self._complain = read, complain
        self._error: str | None = None

    def collect(self) -> Iterator[Metric]:
        """The families that have samples now."""
        reading = self._read()
        if reading.error and reading.error != self._error:
            self._complain(reading.error)
        self._error = reading.error
        return families(reading.samples)

    def describe(self) -> Iterator[Metric]:
        """Every family there may be, without samples and without reading anything."""
        return map(_family, METRICS)


def families(samples: Iterable[Sample]) -> Iterator[Metric]:
    """`samples` by metric, in the order of `METRICS`."""
    for name, group in groupby(
        sorted(samples, key=lambda sample: _ORDER[sample.metric]), attrgetter("metric")
    ):
        family = _family(name)
        for sample in group:
            family.add_metric(sample.labels, sample.value)
        yield family


def _family(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    metric = METRICS[name]
    form = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return form(name, metric.help, labels=metric.labels)


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry with nothing but `collector`: the library's own would add metrics of this
    process.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def write_textfile(path: Path, reading: Reading) -> None:
    """Replace `path` by the text of `reading`: who reads it sees the old file or the new one,
    whole; it is readable by everybody.

    A counter of one reading means nothing, so counters are left out. Raises `HvoError` when the
    name is not one that node_exporter reads, or the file cannot be written; then it is as it was.
    """
    if path.suffix != _SUFFIX:
        raise HvoError(
            f"textfile {path}: expected a name that ends in {_SUFFIX}, node_exporter reads no"
            " others"
        )
    gauges = tuple(sample for sample in reading.samples if METRICS[sample.metric].kind == "gauge")
    text = generate_latest(registry_of(HostCollector(lambda: Reading(gauges, None), _nobody)))
    try:
        _replace(path, text)
    except OSError as error:
        raise HvoError(
            f"cannot write {path}: {error.strerror}; expected a directory that this user may"
            " write to"
        ) from error


def _replace(path: Path, text: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    fresh = Path(name)
    try:
        with open(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _nobody(_: str) -> None:
    """The caller has the error already."""
