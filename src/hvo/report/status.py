"""What `hvo status` shows on a terminal."""

from collections.abc import Callable, Iterator

from hvo.host.status import PoolStatus, Status
from hvo.layout.units import format_size

HEADINGS = (
    "size",
    "node",
    "pages",
    "free",
    "in use",
    "reserved",
    "surplus",
    "optimised",
    "paid",
    "saved",
    "possible",
)
"""What `pool_cells` gives, cell by cell."""
_INDENT = "  "


def status_lines(status: Status) -> Iterator[str]:
    """The lines of the report: the host and its kernel, the pools, the memory map, and what to
    do.
    """
    yield from _kernel(status)
    yield ""
    yield from (
        columns([HEADINGS, *(pool_cells(row) for row in status.pools)])
        if status.pools
        else ("no HugeTLB pools",)
    )
    yield from interval_lines(status)
    yield ""
    yield memmap_line(status)
    for number, advice in enumerate(status.advice, 1):
        gain = f" (up to {format_size(advice.gain)})" if advice.gain else ""
        yield f"{number}. {advice.text}{gain}"
        if advice.command:
            yield f"{_INDENT} {advice.command}"


def columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """`rows` of text as columns that line up, numbers to the right; the first column to the
    left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [
            first.ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)),
        ]
        yield "  ".join(cells).rstrip()


def _kernel(status: Status) -> Iterator[str]:
    kernel = status.kernel
    name = "" if status.host is None else f"{status.host}: "
    memory = "" if status.memory is None else f", {format_size(status.memory)} of memory"
    yield (
        f"{name}kernel {kernel.release}, {kernel.arch}, {format_size(kernel.page_size)}"
        f" pages{memory}"
    )
    yield f"optimisation: {state(status)} ({kernel.reason})"
    for defect in kernel.defects:
        yield f"WARNING: known defect {defect.id}: {defect.summary}"


def state(status: Status) -> str:
    """Whether the optimisation is on, in a word or two."""
    return (
        "cannot optimise"
        if not status.kernel.supports
        else "on"
        if status.kernel.enabled
        else "off"
    )


def pool_cells(row: PoolStatus) -> tuple[str, ...]:
    """The cells of one pool, under `HEADINGS`."""
    pool = row.pool
    counts = (
        pool.pages,
        pool.free,
        pool.in_use,
        "" if pool.reserved is None else pool.reserved,
        pool.surplus,
    )
    optimised = _bounds((row.optimized.low, row.optimized.high), str)
    sizes = [_bounds(bounds, format_size) for bounds in (row.paid, row.saved, row.possible)]
    return (
        format_size(pool.size),
        "all" if pool.node is None else str(pool.node),
        *map(str, counts),
        optimised,
        *sizes,
    )


def _bounds(bounds: tuple[int, int], form: Callable[[int], str]) -> str:
    low, high = (form(bound) for bound in bounds)
    return low if low == high else f"{low}..{high}"


def interval_lines(status: Status) -> Iterator[str]:
    """Why what is shown as an interval is one."""
    reasons = {row.optimized.reason for row in status.pools if row.optimized.exact is None}
    yield from (
        f"{_INDENT}how many are optimised is known within bounds only: {reason}"
        for reason in sorted(reasons)
    )


def memmap_line(status: Status) -> str:
    """What the kernel counts of the memory map."""
    memmap = status.memmap
    if memmap.memmap is None or memmap.boot is None or memmap.runtime is None:
        return f"struct pages: not counted by this kernel; MemTotal {format_size(memmap.mem_total)}"
    parts = f"{format_size(memmap.boot)} from boot, {format_size(memmap.runtime)} since"
    return (
        f"struct pages: {format_size(memmap.memmap)} ({parts}); MemTotal"
        f" {format_size(memmap.mem_total)}"
    )
