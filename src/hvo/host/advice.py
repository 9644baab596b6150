"""What a person should do on a host, most valuable first, each with the exact command."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hvo.host.converted import Converted
from hvo.host.kernel import BOOT_PARAMETER, Kernel
from hvo.host.optimized import Estimate
from hvo.host.pools import Pool
from hvo.layout.units import format_size

_BUDDY_MAX = (
    1 << 10
)  # base pages of the largest block of the page allocator: larger HugeTLB pages are gigantic


@dataclass(frozen=True)
class Advice:
    """One thing to do."""

    text: str
    command: str | None
    """What to type, `None` when no command does it."""
    gain: int
    """Bytes that it gives back at most, 0 when it is a warning or concerns later pages only."""


class Row(NamedTuple):
    """What is known of the pool of a size on all nodes."""

    pool: Pool
    known: Estimate
    saved: int
    """Bytes that optimising one of its pages gives back."""
    stuck: int
    """Surplus pages that nobody uses."""
    converted: Converted | None
    """What the last conversion noted."""
    hosted: int = 0
    """Pages that may lie in memory that hosts its own vmemmap: none is to be gained of them."""

    @property
    def missing(self) -> tuple[int, int]:
        """Pages that are not optimised and could be, at least and at most."""
        rest = self.pool.pages - self.hosted
        return max(0, rest - self.known.high), max(0, rest - self.known.low)

    @property
    def rebuildable(self) -> tuple[int, int]:
        """How many of them are free and not reserved, at least and at most."""
        least, most = self.missing
        return max(0, least - self.pool.busy), min(most, max(0, self.pool.pages - self.pool.busy))


def is_gigantic(kernel: Kernel, size: int) -> bool:
    """Whether pages of `size` bytes are larger than the page allocator's blocks, so that they may
    not come back once given back.
    """
    pmd = (
        kernel.page_size // 8 * kernel.page_size
    )  # what a table of 8-byte entries covers: one PMD leaf
    return size > max(pmd, _BUDDY_MAX * kernel.page_size)


def advise(kernel: Kernel, rows: list[Row]) -> tuple[Advice, ...]:
    """What to do: warnings first, then by what it gives back."""
    if not kernel.supports:
        return (Advice(f"this kernel cannot optimise: {kernel.reason}", None, 0),)
    warnings = list(_defects(kernel))
    todo = (
        []
        if kernel.defects
        else [*_gate(kernel, rows), *(advice for row in rows for advice in _pool(kernel, row))]
    )
    todo += [advice for row in rows for advice in _surplus(kernel, row)]
    return (*warnings, *sorted(todo, key=lambda advice: -advice.gain))


def _defects(kernel: Kernel) -> Iterator[Advice]:
    for defect in kernel.defects[:1]:
        known = f"known defect {defect.id} of this kernel: {defect.summary}"
        yield Advice(
            f"{known}; give no HugeTLB pages back, and install a kernel without it", None, 0
        )
        if kernel.enabled and kernel.switchable:
            more = (
                "pages allocated while the optimisation is on will be lost as well: switch it off"
                " until another kernel runs"
            )
            yield Advice(more, "hvo disable --persist", 0)


def _gate(kernel: Kernel, rows: list[Row]) -> Iterator[Advice]:
    gain = sum(row.missing[1] * row.saved for row in rows)
    if not kernel.enabled:
        command = "hvo enable --persist" if kernel.switchable else None
        text = "switch the optimisation on" if command else f"boot with {BOOT_PARAMETER}=on"
        yield Advice(
            f"{text}: HugeTLB pages allocated from then on are optimised, those there now once"
            " converted",
            command,
            gain,
        )
    gigantic = sum(row.missing[1] * row.saved for row in rows if is_gigantic(kernel, row.pool.size))
    if gigantic and kernel.reserves_at_boot and kernel.switchable and not kernel.on_at_boot:
        yield Advice(
            "pages reserved at boot are optimised when the boot command line says so",
            "hvo enable --boot",
            gigantic,
        )


def _pool(kernel: Kernel, row: Row) -> Iterator[Advice]:
    missing = row.missing[1]
    if not kernel.enabled or not row.saved or not missing:
        return
    size, (_, available) = format_size(row.pool.size), row.rebuildable
    if row.converted and row.converted.still_says(row.pool, row.known):
        yield _later(kernel, row, row.converted)
        return
    if available and kernel.switchable and not row.pool.surplus:
        risk = (
            "; they may not come back if memory is fragmented"
            if is_gigantic(kernel, row.pool.size)
            else ""
        )
        yield Advice(
            f"rebuild {_number(row.rebuildable)} free pages of {size}{risk}",
            _convert(kernel, row),
            available * row.saved,
        )
    busy = missing - available
    if busy:
        pages = _number((max(0, row.missing[0] - (row.pool.pages - row.pool.busy)), busy))
        yield Advice(
            f"{pages} pages of {size} are in use or reserved: convert them once their users have"
            " ended",
            None,
            busy * row.saved,
        )


def _later(kernel: Kernel, row: Row, converted: Converted) -> Advice:
    """What is left after a conversion that rebuilt all it might."""
    missing = row.missing[1]
    pages = f"{_number((row.missing[0], missing))} pages of {format_size(row.pool.size)}"
    if converted.kept:
        return Advice(
            f"{pages} are not optimised: {converted.kept} stayed free when hvo convert rebuilt the"
            " others, the rest was in use or reserved",
            f"{_convert(kernel, row)} --keep-free 0",
            missing * row.saved,
        )
    since = "in use or reserved when hvo convert rebuilt the others, and no fewer are now"
    return Advice(
        f"{pages} are not optimised: {since}; convert again once their users have ended",
        None,
        missing * row.saved,
    )


def _convert(kernel: Kernel, row: Row) -> str:
    gigantic = " --gigantic" if is_gigantic(kernel, row.pool.size) else ""
    return f"hvo convert --size {format_size(row.pool.size)}{gigantic}"


def _number(bounds: tuple[int, int]) -> str:
    least, most = bounds
    return str(most) if least == most else f"{least} to {most}" if least else f"up to {most}"


def _surplus(kernel: Kernel, row: Row) -> Iterator[Advice]:
    pool, size = row.pool, format_size(row.pool.size)
    if row.stuck:
        command = None if kernel.defects else f"hvo resize {size}={pool.persistent}"
        text = (
            f"{row.stuck} surplus pages of {size} are used by nobody: memory for their struct pages"
            " was short when they were to go"
        )
        yield Advice(
            f"{text}; free memory, then set the pool again", command, row.stuck * pool.size
        )
    elif pool.surplus > (pool.overcommit or 0):
        over = (
            f"{pool.surplus} pages of {size} are surplus and in use, more than may be taken beyond"
            " the pool"
        )
        yield Advice(
            f"{over}: they go when their users end, or stay when the pool is set to them", None, 0
        )
