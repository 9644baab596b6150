"""The rows of an audit's tables, for a terminal and for a page alike."""

from collections.abc import Iterator

from hvo.audit.result import Audit, Counts
from hvo.layout.units import format_size

POOL_COLUMNS = (
    "size",
    "node",
    "pages",
    "optimised",
    "partly",
    "flagged",
    "free",
    "vmemmap pages each",
    "frames behind",
    "saved",
    "possible",
)
"""Headings of the table of pools; all but the first two are numbers."""
LAYOUTS = {
    "none": "no HugeTLB page is optimised",
    "two-kept": "two vmemmap pages are kept, the second one's frame is shared (5.14 to 5.17)",
    "head-shared": "the head's frame is shared by its tails (5.18 to 7.0)",
    "tail-shared": "the HugeTLB pages of a zone share tails (since 7.1)",
}
"""What the layouts are, in words."""


def pool_rows(audit: Audit) -> Iterator[tuple[str, ...]]:
    """A row for each size, and below it one for each node where there are several."""
    for pool in audit.pools:
        size = format_size(pool.size)
        yield (
            size,
            "all",
            *_numbers(pool.counts),
            str(pool.vmemmap_pages),
            str(pool.backing_frames),
            *_sizes(pool.counts),
        )
        if len(pool.nodes) > 1:
            for node, counts in pool.nodes.items():
                yield "", str(node), *_numbers(counts), "", "", *_sizes(counts)


def _numbers(counts: Counts) -> tuple[str, ...]:
    return tuple(
        str(number)
        for number in (counts.pages, counts.optimized, counts.partial, counts.flagged, counts.free)
    )


def _sizes(counts: Counts) -> tuple[str, str]:
    return format_size(counts.saved), format_size(counts.possible)


def summary(audit: Audit) -> Iterator[tuple[str, str]]:
    """What was audited and what came out: names and values."""
    yield (
        "kernel",
        (
            f"{audit.kernel}, {audit.arch}, {format_size(audit.page_size)} pages, {audit.sections}"
            " memory sections"
        ),
    )
    yield "layout", f"{audit.layout}: {LAYOUTS[audit.layout]}"
    yield "saved", format_size(sum(pool.counts.saved for pool in audit.pools))
    yield "possible", format_size(sum(pool.counts.possible for pool in audit.pools))
    yield "tables", f"{format_size(audit.table_cost)} for split leaves"
    if audit.lost:
        frames, size = (
            sum(page.frames for page in audit.lost),
            sum(page.size for page in audit.lost),
        )
        yield (
            "lost",
            (
                f"{len(audit.lost)} huge pages, {format_size(size)}; {frames} frames behind their"
                " vmemmap"
            ),
        )
    if audit.dax.saved:
        yield (
            "device DAX",
            (
                f"saves {format_size(audit.dax.saved)} by itself: {audit.dax.vmemmap_pages} vmemmap"
                f" pages on {audit.dax.frames} frames"
            ),
        )
    for found in audit.defects:
        fixed = f"mended in {found.defect.fixed}" if found.defect.fixed else "no release mends it"
        yield (
            "defect",
            f"{found.defect.id} in {found.pages} pages: {found.defect.summary} ({fixed})",
        )
    for text in audit.notes:
        yield "note", text
    for text in audit.missing:
        yield "missing", text


def verdict(audit: Audit) -> str:
    """How many findings there are, in a line."""
    counts = {
        severity: sum(finding.severity == severity for finding in audit.findings)
        for severity in ("error", "warning", "info")
    }
    if not audit.findings:
        return "no findings"
    return ", ".join(
        f"{count} {severity}{'s' if count > 1 and severity != 'info' else ''}"
        for severity, count in counts.items()
        if count
    )
