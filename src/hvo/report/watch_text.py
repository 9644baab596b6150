"""What `hvo watch` shows of one moment, as lines and texts that fit a width; pure functions of what
was read.
"""

import time
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from hvo.host.status import Status
from hvo.host.watching import Mapped, Point
from hvo.layout.units import format_size
from hvo.report.status import HEADINGS, columns, interval_lines, memmap_line, pool_cells, state
from hvo.safe_text import escape_controls

_LEFT_OUT = ("paid", "reserved", "in use", "node")
"""Columns that go first where all do not fit; what is in use is what is not free."""
_MAP_ROWS = 24
_BARS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = len(_BARS) - 1


def title(status: Status, interval: float, now: float) -> str:
    """The first line: which host and kernel, how often, and when."""
    kernel = status.kernel
    when = f"{time.strftime('%H:%M:%S', time.localtime(now))}, every {interval:g} s"
    return (
        f"{status.host or 'hvo watch'}  {when}  kernel {kernel.release}, {kernel.arch},"
        f" {format_size(kernel.page_size)} pages"
    )


def state_text(status: Status) -> Text:
    """Whether the optimisation is on and why, and known defects."""
    style = {"on": "bold green", "off": "bold yellow"}.get(state(status), "bold red")
    reason = escape_controls(status.kernel.reason)
    text = Text.assemble("optimisation: ", (state(status), style), f" ({reason})")
    for defect in status.kernel.defects:
        text.append(f"\nWARNING: known defect {defect.id}: {defect.summary}", "bold red")
    return text


def pool_lines(status: Status, width: int) -> Iterator[str]:
    """The table of the pools in as many columns as fit into `width` characters, and why intervals
    are intervals.
    """
    if not status.pools:
        yield "no HugeTLB pools"
        return
    rows = [HEADINGS, *(pool_cells(row) for row in status.pools)]
    kept = [
        number
        for number, heading in enumerate(HEADINGS)
        if heading != "node" or len({row[number] for row in rows}) > 2
    ]
    for heading in _LEFT_OUT:
        if max(map(len, columns(_chosen(rows, kept)))) > width and HEADINGS.index(heading) in kept:
            kept.remove(HEADINGS.index(heading))
    yield from columns(_chosen(rows, kept))
    yield from interval_lines(status)


def _chosen(rows: list[tuple[str, ...]], kept: Sequence[int]) -> list[tuple[str, ...]]:
    return [tuple(row[number] for number in kept) for row in rows]


def counter_lines(status: Status, history: Sequence[Point]) -> Iterator[str]:
    """The memory map's counters, and how they changed since the first look."""
    yield memmap_line(status)
    first, last = history[0], history[-1]
    if first.memmap is not None and last.memmap is not None:
        yield f"changed by {_signed(last.memmap - first.memmap)} in {_ago(last.at - first.at)}"


def saving_line(history: Sequence[Point]) -> str:
    """What is saved now, and between what it was."""
    low, high = history[-1].saved
    now = format_size(low) if low == high else f"{format_size(low)}..{format_size(high)}"
    lows = [point.saved[0] for point in history]
    what = "saved" if low == high else "saved, at least"
    return (
        f"{what}: {now} (from {format_size(min(lows))} to {format_size(max(lows))} in"
        f" {_ago(history[-1].at - history[0].at)})"
    )


def curve(history: Sequence[Point], width: int) -> Iterator[str]:
    """What was saved at least, over time: bars in two lines, up from nothing; neighbours are joined
    where there are more than `width`.
    """
    joined = -(-len(history) // width)
    shown = [point.saved[0] for point in list(history)[::-1][::joined][::-1]]
    heights = [round(2 * _EIGHTHS * amount / max(*shown, 1)) for amount in shown]
    for floor in (_EIGHTHS, 0):
        yield "".join(_BARS[min(max(height - floor, 0), _EIGHTHS)] for height in heights)


def advice_line(status: Status) -> str:
    """The most valuable thing to do."""
    if not status.advice:
        return "nothing to do"
    first = status.advice[0]
    return f"{first.text}: {first.command}" if first.command else first.text


def map_text(mapped: Mapped | None) -> RenderableType:
    """The vmemmap, what an audit says of it, or why it is not shown; `None` while it is being
    looked at.
    """
    from hvo.report.audit import vmemmap_map  # late: it brings numpy
    from hvo.report.audit_table import verdict

    if mapped is None:
        return Text("vmemmap: looking at it ...", "dim")
    if mapped.audit is None:
        return Text(f"vmemmap: not shown: {escape_controls(mapped.reason or '')}")
    sound = Text(verdict(mapped.audit), style="green" if mapped.audit.sound else "bold red")
    return Group(sound, vmemmap_map(mapped.audit, _MAP_ROWS))


def _ago(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole} s"
        if whole < 120
        else f"{whole // 60} min"
        if whole < 7200
        else f"{whole // 3600} h"
    )


def _signed(amount: int) -> str:
    return f"-{format_size(-amount)}" if amount < 0 else f"+{format_size(amount)}"
