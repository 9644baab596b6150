"""Rows of an inventory from what hosts said themselves: `hvo status --json`, or the metrics of `hvo
export`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from prometheus_client.parser import text_string_to_metric_families
from pyarrow import csv

from hvo.errors import HvoError
from hvo.fleet.columns import COLUMNS
from hvo.memory.whole_file import whole_file

Row = dict[str, Any]
"""Values by the names of columns; what is not known is missing."""
_SUFFIXES = (".json", ".prom", ".txt")


class Refused(NamedTuple):
    """A file that no rows could be made of, and why."""

    file: str
    reason: str


def collect_files(paths: Iterable[Path]) -> tuple[list[Row], list[Refused]]:
    """The rows of all files, also of those in directories, and the files that cannot be used: each
    is one line to say.
    """
    rows, refused, seen = list[Row](), list[Refused](), dict[str, Path]()
    for path in (file for given in paths for file in _files(given)):
        try:
            found = rows_of(path)
            inventory(found, None)
            twice = next((row["host"] for row in found if row["host"] in seen), None)
            if twice is not None:
                raise HvoError(f"host {twice} is in {seen[twice]} already: keep the newer file")
        except HvoError as error:
            refused.append(Refused(str(path), str(error)))
        else:
            seen |= {row["host"]: path for row in found}
            rows += found
    return rows, refused


def _files(path: Path) -> list[Path]:
    """The file, or those of a directory."""
    return (
        sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        if path.is_dir()
        else [path]
    )


def rows_of(path: Path) -> list[Row]:
    """The rows that a file of a host makes: JSON of `hvo status` (`.json`), or metrics (`.prom`,
    `.txt`).

    The host is what the file says, or the name of the file without its suffix. Raises `HvoError`
    that says what is wrong.
    """
    if path.suffix not in _SUFFIXES:
        raise HvoError(f"expected a file of {', '.join(_SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise HvoError(f"it cannot be read ({error})") from error
    return list(
        _of_status(text, path.stem) if path.suffix == ".json" else _of_metrics(text, path.stem)
    )


def _of_status(text: str, name: str) -> Iterator[Row]:
    """The rows of a host; its pools of all nodes together, of which most is known."""
    try:
        status = json.loads(text)
        kernel, pools = status["kernel"], [pool for pool in status["pools"] if pool["node"] is None]
        host = {
            "host": status.get("host") or name,
            "arch": kernel["arch"],
            "kernel": kernel["release"],
            "page_size": kernel["page_size"],
            "memory": status["memory"],
            "supported": kernel["supports"],
            "gate": kernel["enabled"] if kernel["supports"] else None,
        }
        found = [
            _pool(pool["size"], pool["pages"], pool["optimized_low"], pool["optimized_high"])
            | _hosted(pool)
            for pool in pools
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise HvoError(
            f"expected what `hvo status --json` printed ({type(error).__name__}: {error})"
        ) from error
    yield from _with_pages(host, found)


def _pool(size: int, pages: int, low: int, high: int) -> Row:
    """The columns of a pool; how many of its pages are optimised may be known within bounds
    only.
    """
    known = {"optimized": low} if low == high else {"optimized_min": low, "optimized_max": high}
    return {"hugepage_size": size, "pages": pages, **known}


def _hosted(pool: dict[str, Any]) -> Row:
    """Pages that cannot be gained of, where `hvo status` knows any; a pool whose optimised pages
    are known within bounds only may have fewer.
    """
    pages = min(pool.get("self_hosted_high", 0), pool["pages"] - pool["optimized_low"])
    return {"self_hosted": pages} if pages else {}


def _with_pages(host: Row, pools: list[Row]) -> list[Row]:
    """A row for each pool that has pages, or the host alone."""
    return [{**host, **pool} for pool in pools if pool["pages"]] or [host]


Metrics = dict[str, list[tuple[Mapping[str, str], int]]]
"""Samples by the name of their metric: labels and value."""


def _of_metrics(text: str, name: str) -> Iterator[Row]:
    """The rows of a host, or of several where samples have the label `instance`, as those that a
    Prometheus server gives away have.
    """
    hosts: dict[str, Metrics] = {}
    try:
        for sample in (
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ):
            metrics = hosts.setdefault(
                re.sub(r":\d+$", "", sample.labels.get("instance", name)), {}
            )
            metrics.setdefault(sample.name, []).append((sample.labels, int(sample.value)))
    except ValueError as error:
        raise HvoError(f"expected metrics as `hvo export` prints them ({error})") from error
    ours = {
        host: metrics
        for host, metrics in hosts.items()
        if any(each.startswith("hvo_") for each in metrics)
    }
    if not ours:
        raise HvoError("expected metrics of `hvo export`: there is none that begins with hvo_")
    try:
        yield from (row for host, metrics in ours.items() for row in _of_host(host, metrics))
    except KeyError as error:
        raise HvoError(
            f"expected metrics as `hvo export` prints them (no label {error})"
        ) from error


def _of_host(name: str, metrics: Metrics) -> list[Row]:
    if _one(metrics, "hvo_scrape_success", 1) == 0:
        raise HvoError(
            f"{name}: hvo_scrape_success is 0: the host could not be read when this was exported"
        )
    kernel, supported = (
        _samples(metrics, "hvo_kernel_info")[0][0],
        bool(_one(metrics, "hvo_optimization_supported")),
    )
    host = {
        "host": name,
        "arch": kernel["arch"],
        "kernel": kernel["release"],
        "page_size": _one(metrics, "hvo_base_page_size_bytes"),
        "memory": _one(metrics, "hvo_memory_present_bytes"),
        "supported": supported,
        "gate": bool(_one(metrics, "hvo_optimization_enabled")) if supported else None,
    }
    sizes = {
        labels["size"]: size for labels, size in metrics.get("hvo_hugetlb_page_size_bytes", [])
    }
    pools = [
        _pool(
            size,
            _of_size(metrics, "pages", label),
            *(_of_size(metrics, f"optimized_pages_{bound}", label) for bound in ("min", "max")),
        )
        for label, size in sizes.items()
    ]
    return _with_pages(host, pools)


def _samples(metrics: Metrics, name: str) -> list[tuple[Mapping[str, str], int]]:
    if name not in metrics:
        raise HvoError(f"there is no {name}: expected all that `hvo export` prints")
    return metrics[name]


def _one(metrics: Metrics, name: str, otherwise: int | None = None) -> int:
    """The value of a metric without labels of its own."""
    return (
        otherwise
        if otherwise is not None and name not in metrics
        else _samples(metrics, name)[0][1]
    )


def _of_size(metrics: Metrics, name: str, size: str) -> int:
    """A figure of one HugeTLB size, all nodes and states together."""
    return sum(
        value
        for labels, value in _samples(metrics, f"hvo_hugetlb_{name}")
        if labels["size"] == size
    )


def inventory(rows: Sequence[Row], group: str | None) -> pa.Table:
    """The rows as a table with all columns of an inventory, in their order; `group` is theirs where
    they do not say one.

    Raises `HvoError` where a value is none of its column's kind.
    """
    types = {"text": pa.string(), "size": pa.int64(), "count": pa.int64(), "switch": pa.bool_()}
    said = [row if group is None or row.get("group") else {**row, "group": group} for row in rows]
    try:
        return pa.Table.from_pylist(
            said, schema=pa.schema([(column.name, types[column.kind]) for column in COLUMNS])
        )
    except (pa.ArrowException, OverflowError) as error:
        raise HvoError(f"a value is none of its kind ({error})") from error


def write_inventory(table: pa.Table, path: Path) -> None:
    """Write an inventory as CSV, or as Parquet where the name ends so, as a whole; raises
    `HvoError` where that cannot be.
    """
    try:
        with whole_file(path) as part:
            (pq.write_table if path.suffix == ".parquet" else csv.write_csv)(table, part)
    except OSError as error:
        raise HvoError(
            f"cannot write {path}: {error.strerror or error}; name another file"
        ) from error
