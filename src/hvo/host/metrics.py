"""The state of a host as samples of metrics: what `hvo status` says, in numbers that a monitoring
system keeps.

Nothing here knows a monitoring system; `hvo.host.metrics_table` says what each metric means.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hvo import __version__
from hvo.errors import HvoError
from hvo.host.metrics_table import BOUNDS
from hvo.host.optimized import CONTRADICTION
from hvo.host.pools import nodes, sizes
from hvo.host.status import PoolStatus, Status, read_status
from hvo.host.tree import Tree
from hvo.layout.units import format_size

FRESH_SECONDS = 0.5
"""A reading serves all scrapes for so long: it costs milliseconds, and nobody may make the host
read itself a thousand times a second.
"""


class Sample(NamedTuple):
    """One value of a metric of `METRICS`, with the values of its labels."""

    metric: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Reading:
    """What one look at a host gave; without samples of the host, and with the reason, when it could
    not be read.
    """

    samples: tuple[Sample, ...]
    error: str | None


class Reader:
    """Reads the host in `tree`, at most every `FRESH_SECONDS`; may be asked by several threads at
    once.
    """

    def __init__(self, tree: Tree, clock: Callable[[], float] = time.monotonic) -> None:
        self._tree, self._clock = tree, clock
        self._lock = threading.Lock()
        self._last: tuple[float, Reading] | None = None
        self._errors = 0

    def read(self) -> Reading:
        """The state now, or the one read a moment ago; never raises `HvoError`, a failure is part
        of the reading.
        """
        with self._lock:
            if self._last is None or self._clock() - self._last[0] >= FRESH_SECONDS:
                self._last = self._clock(), self._read()
            return self._last[1]

    def _read(self) -> Reading:
        begun = time.perf_counter()
        samples, error = _host_samples(self._tree)
        self._errors += error is not None
        seconds = time.perf_counter() - begun
        about = (
            ("success", error is None),
            ("duration_seconds", seconds),
            ("errors_total", self._errors),
        )
        return Reading(
            (*samples, *(Sample(f"hvo_scrape_{name}", (), float(value)) for name, value in about)),
            error,
        )


def _host_samples(tree: Tree) -> tuple[tuple[Sample, ...], str | None]:
    """The samples of the host and no error, or no samples and why not."""
    try:
        known = sizes(tree)
        only = next(iter(nodes(tree, known[0])), 0) if known else 0
        return tuple(samples(read_status(tree), only)), None
    except HvoError as error:
        return (), str(error)
    except OSError as error:  # a file that went away or was forbidden between two looks at it
        return (), f"cannot read {error.filename}: {error.strerror}"
    except Exception as error:  # a scrape is answered whatever happens
        return (), f"this is a defect of hvo, please report it: {type(error).__name__}: {error}"


def samples(status: Status, only_node: int = 0) -> Iterator[Sample]:
    """Every sample of a host that could be read; pools that are not told apart by node are those of
    `only_node`.
    """
    yield from _kernel(status)
    yield from _memory(status)
    several = {row.pool.size for row in status.pools if row.pool.node is not None}
    for row in status.pools:
        if row.pool.node is None:
            yield from _size(row)
        if row.pool.node is not None or row.pool.size not in several:
            yield from _node(row, only_node if row.pool.node is None else row.pool.node)


def _kernel(status: Status) -> Iterator[Sample]:
    kernel = status.kernel
    yield Sample("hvo_build_info", (__version__,), 1)
    yield Sample("hvo_kernel_info", (kernel.release, kernel.arch), 1)
    yield Sample("hvo_base_page_size_bytes", (), kernel.page_size)
    switches = (
        ("supported", kernel.supports),
        ("enabled", kernel.enabled),
        ("enabled_at_boot", kernel.on_at_boot),
    )
    for name, value in (*switches, ("switchable", kernel.switchable)):
        yield Sample(f"hvo_optimization_{name}", (), int(value))
    yield Sample("hvo_optimization_reason_info", (kernel.reason,), 1)
    yield Sample("hvo_kernel_known_defects", (), len(kernel.defects))
    yield from (
        Sample("hvo_kernel_known_defect_info", (defect.id, defect.summary), 1)
        for defect in kernel.defects
    )


def _memory(status: Status) -> Iterator[Sample]:
    memmap = status.memmap
    if status.memory is not None:
        yield Sample("hvo_memory_present_bytes", (), status.memory)
    yield Sample("hvo_memory_total_bytes", (), memmap.mem_total)
    for origin, amount in (("boot", memmap.boot), ("runtime", memmap.runtime)):
        if amount is not None:
            yield Sample("hvo_memmap_bytes", (origin,), amount)
    if memmap.memmap is not None:
        contradicted = any(row.optimized.reason == CONTRADICTION for row in status.pools)
        yield Sample("hvo_memmap_contradicts_pools", (), int(contradicted))


def _size(row: PoolStatus) -> Iterator[Sample]:
    """What is said of a size on all nodes together."""
    pool, size = row.pool, (format_size(row.pool.size),)
    yield Sample("hvo_hugetlb_reserved_pages", size, pool.reserved or 0)
    yield Sample("hvo_hugetlb_overcommit_limit_pages", size, pool.overcommit or 0)
    yield Sample("hvo_hugetlb_page_size_bytes", size, pool.size)
    yield Sample("hvo_hugetlb_page_saving_bytes", size, row.saved_per_page)
    yield Sample(
        "hvo_hugetlb_optimized_source_info", (*size, row.optimized.source, row.optimized.reason), 1
    )
    yield from _bounded("hvo_hugetlb", size, row)


def _node(row: PoolStatus, node: int) -> Iterator[Sample]:
    """What is said of a size on one node."""
    pool, place = row.pool, (format_size(row.pool.size), str(node))
    yield Sample("hvo_hugetlb_pages", (*place, "free"), pool.free)
    yield Sample("hvo_hugetlb_pages", (*place, "in_use"), pool.in_use)
    yield Sample("hvo_hugetlb_surplus_pages", place, pool.surplus)
    yield Sample("hvo_hugetlb_struct_page_bytes", place, row.cost)
    yield from _bounded("hvo_hugetlb_node", place, row)


def _bounded(prefix: str, labels: tuple[str, ...], row: PoolStatus) -> Iterator[Sample]:
    quantities = {
        "optimized_pages": (row.optimized.low, row.optimized.high),
        "saved_bytes": row.saved,
        "possible_bytes": row.possible,
        "paid_bytes": row.paid,
    }
    for name, (low, high) in quantities.items():
        if low == high:
            yield Sample(f"{prefix}_{name}", labels, low)
        yield from (
            Sample(f"{prefix}_{name}{ending}", labels, bound)
            for ending, bound in zip(BOUNDS, (low, high), strict=True)
        )
