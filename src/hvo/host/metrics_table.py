"""Every metric that `hvo export` offers: its name, type, unit, labels and meaning.

Names follow Prometheus' conventions: base units at the end of the name, `_total` on counters only,
`_info` on metrics that are always 1 and say something in their labels. What is not known exactly is
never one number: such a quantity has a metric for its least (`_min`) and its most (`_max`), which
are always there, and one without either, which is there only while the two are equal.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric; `unit` in words, `labels` in the order in which samples give their values."""

    name: str
    kind: Literal["gauge", "counter"]
    unit: str
    labels: tuple[str, ...]
    help: str


BOUNDS = ("_min", "_max")
"""Endings of the bounds of a quantity: at least, at most."""
_SIZE, _NODE = ("size",), ("size", "node")


def _kernel() -> Iterator[Metric]:
    yield Metric("hvo_build_info", "gauge", "always 1", ("version",), "The version of hvo.")
    yield Metric(
        "hvo_kernel_info", "gauge", "always 1", ("release", "arch"), "The kernel of the host."
    )
    yield Metric(
        "hvo_base_page_size_bytes", "gauge", "bytes", (), "Size of a base page of the kernel."
    )
    yield Metric(
        "hvo_optimization_supported",
        "gauge",
        "0 or 1",
        (),
        "Whether the kernel can optimise the vmemmap of HugeTLB pages.",
    )
    yield Metric(
        "hvo_optimization_enabled",
        "gauge",
        "0 or 1",
        (),
        "Whether newly allocated HugeTLB pages are optimised.",
    )
    yield Metric(
        "hvo_optimization_enabled_at_boot",
        "gauge",
        "0 or 1",
        (),
        "Whether HugeTLB pages reserved at boot were optimised.",
    )
    yield Metric(
        "hvo_optimization_switchable",
        "gauge",
        "0 or 1",
        (),
        "Whether the optimisation can be turned on and off at run time.",
    )
    yield Metric(
        "hvo_optimization_reason_info",
        "gauge",
        "always 1",
        ("reason",),
        "Reason for the optimisation being on, off or impossible.",
    )
    yield Metric(
        "hvo_kernel_known_defects",
        "gauge",
        "defects",
        (),
        "Known defects of the optimisation in kernels of this version.",
    )
    yield Metric(
        "hvo_kernel_known_defect_info",
        "gauge",
        "always 1",
        ("id", "summary"),
        "One known defect of this kernel.",
    )


def _memory() -> Iterator[Metric]:
    yield Metric(
        "hvo_memory_present_bytes",
        "gauge",
        "bytes",
        (),
        "Memory of the host, including memory reserved by the kernel and excluding device"
        " memory; absent if it cannot be read.",
    )
    yield Metric(
        "hvo_memory_total_bytes",
        "gauge",
        "bytes",
        (),
        "MemTotal: memory managed by the page allocator.",
    )
    yield Metric(
        "hvo_memmap_bytes",
        "gauge",
        "bytes",
        ("origin",),
        "Struct pages of the host by origin, boot or runtime (nr_memmap_boot_pages,"
        " nr_memmap_pages; Linux 6.11 and later).",
    )
    yield Metric(
        "hvo_memmap_contradicts_pools",
        "gauge",
        "0 or 1",
        (),
        "Whether no number of optimised pages matches the memory map counters, if the kernel has"
        " them.",
    )


def _pools() -> Iterator[Metric]:
    yield Metric(
        "hvo_hugetlb_pages",
        "gauge",
        "pages",
        ("size", "node", "state"),
        "HugeTLB pages that are free or in_use; their sum is the pool.",
    )
    yield Metric(
        "hvo_hugetlb_surplus_pages",
        "gauge",
        "pages",
        _NODE,
        "Surplus HugeTLB pages, free or in use.",
    )
    yield Metric(
        "hvo_hugetlb_reserved_pages",
        "gauge",
        "pages",
        _SIZE,
        "Reserved HugeTLB pages: free, but committed to mappings that have not touched them; for"
        " all nodes together.",
    )
    yield Metric(
        "hvo_hugetlb_overcommit_limit_pages",
        "gauge",
        "pages",
        _SIZE,
        "Limit of surplus pages (nr_overcommit_hugepages).",
    )
    yield Metric(
        "hvo_hugetlb_page_size_bytes", "gauge", "bytes", _SIZE, "Size of one HugeTLB page."
    )
    yield Metric(
        "hvo_hugetlb_page_saving_bytes",
        "gauge",
        "bytes",
        _SIZE,
        "Bytes that optimising one page of this size frees; 0 if it cannot be optimised.",
    )
    yield Metric(
        "hvo_hugetlb_struct_page_bytes",
        "gauge",
        "bytes",
        _NODE,
        "Struct pages of the pool if no page is optimised.",
    )
    yield Metric(
        "hvo_hugetlb_optimized_source_info",
        "gauge",
        "always 1",
        ("size", "source", "reason"),
        "Source of the number of optimised pages (kernel, counters or none), and the reason if"
        " only bounds are known.",
    )


def _bounded() -> Iterator[Metric]:
    """The quantities that may be known within bounds only: three metrics each for all nodes, and
    three for each node.
    """
    for node, where, labels in (("", "", _SIZE), ("node_", ", on one node", _NODE)):
        for name, unit, meaning in _QUANTITIES:
            whole = f"hvo_hugetlb_{node}{name}"
            yield Metric(
                whole,
                "gauge",
                unit,
                labels,
                f"{meaning}{where}; absent if only bounds are known.",
            )
            for ending, word in zip(BOUNDS, ("least", "most"), strict=True):
                yield Metric(
                    f"{whole}{ending}", "gauge", unit, labels, f"{meaning}{where}, at {word}."
                )


_QUANTITIES = (
    ("optimized_pages", "pages", "Optimised HugeTLB pages"),
    ("saved_bytes", "bytes", "Bytes of struct pages freed"),
    (
        "possible_bytes",
        "bytes",
        "Bytes that optimising the rest of the pool would free",
    ),
    ("paid_bytes", "bytes", "Bytes of struct pages of the pool in memory"),
)


def _scrape() -> Iterator[Metric]:
    yield Metric(
        "hvo_scrape_success",
        "gauge",
        "0 or 1",
        (),
        "Whether the host could be read; if 0, only hvo_scrape_* is exported.",
    )
    yield Metric(
        "hvo_scrape_duration_seconds",
        "gauge",
        "seconds",
        (),
        "Duration of the last reading of the host.",
    )
    yield Metric(
        "hvo_scrape_errors_total",
        "counter",
        "errors",
        (),
        "Readings that failed since the exporter started; HTTP only.",
    )


METRICS = {
    metric.name: metric
    for part in (_kernel, _memory, _pools, _bounded, _scrape)
    for metric in part()
}
"""Every metric by its name, in the order in which they are exported."""
