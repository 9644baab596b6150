"""What the changing commands (`hvo enable`, `disable`, `resize`, `convert`) show on a terminal."""

from collections.abc import Iterator
from statistics import median

from hvo.host.bench import HostBench, Timing
from hvo.host.outcome import Change, Outcome, expected
from hvo.host.tree import Write
from hvo.layout.units import format_size
from hvo.report.status import columns

_MOST_WRITES = 20  # a conversion of a large pool has thousands


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """The lines of the report: what was or would be written, how the counters changed, and
    remarks.
    """
    yield from _writes(outcome)
    yield from (f"{change.counter}: {_change(change)}" for change in outcome.changes)
    if outcome.details:
        yield ", ".join(
            _detail(name, value) for name, value in outcome.details.items() if value is not None
        )
    yield from (f"note: {note}" for note in outcome.notes)


def made_line(outcome: Outcome) -> str | None:
    """What was written, in one line; None if nothing was."""
    if outcome.dry_run or not outcome.writes:
        return None
    first, last = _write(outcome.writes[0]), _write(outcome.writes[-1])
    count = len(outcome.writes)
    return first if count == 1 else f"{count} writes, from {first} to {last}"


def bench_lines(found: HostBench) -> Iterator[str]:
    """The lines of `hvo bench-host`: microseconds a page with the switch off and on, then what was
    written.
    """
    if found.times["allocate", True].rounds:
        yield "microseconds a page: median (least to most)"
        times = [
            (what, *(_timing(found.times[what, on]) for on in (False, True)))
            for what in ("allocate", "free")
        ]
        yield from columns([("", "off", "on"), *times])
    yield from outcome_lines(found.outcome)


def _timing(timing: Timing) -> str:
    rounds = [nanoseconds / 1000 for nanoseconds in timing.rounds]
    return f"{median(rounds):.1f} ({min(rounds):.1f} to {max(rounds):.1f})"


def _writes(outcome: Outcome) -> Iterator[str]:
    if not outcome.writes:
        yield f"{outcome.command}: nothing to write"
        return
    yield f"{outcome.command}: {'would write' if outcome.dry_run else 'wrote'}"
    yield from (f"  {_write(write)}" for write in outcome.writes[:_MOST_WRITES])
    if len(outcome.writes) > _MOST_WRITES:
        yield (
            f"  and {len(outcome.writes) - _MOST_WRITES} more, the last"
            f" {_write(outcome.writes[-1])}"
        )


def _detail(name: str, value: int) -> str:
    return f"{name.replace('_', ' ')} {format_size(value) if name == 'size' else value}"


def _write(write: Write) -> str:
    return f"{write.path} <- {write.value}"


def _change(change: Change) -> str:
    if change.measured is None:
        return f"would change by {expected(change)}"
    return (
        f"changed by {change.measured:+d}, expected"
        f" {expected(change)}{'' if change.holds else '  WRONG'}"
    )
