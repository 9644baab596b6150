"""What a person should do on a host, most valuable first, each with the exact command."""

from collections.abc import Iterator
from dataclasses import dataclass

from hvo.host.kernel import BOOT_PARAMETER, Kernel
from hvo.host.optimized import Estimate
from hvo.host.pools import Pool
from hvo.layout.units import format_size

_BUDDY_MAX = 1 << 10  # base pages of the largest block of the page allocator: larger HugeTLB pages are gigantic


@dataclass(frozen=True)
class Advice:
    """One thing to do."""

    text: str
    command: str | None
    """What to type, `None` when no command does it."""
    gain: int
    """Bytes that it gives back at most, 0 when it is a warning or concerns later pages only."""


Row = tuple[Pool, Estimate, int]
"""A pool of all nodes, how much of it is optimised, and bytes that optimising one of its pages gives back."""


def is_gigantic(kernel: Kernel, size: int) -> bool:
    """Whether pages of `size` bytes are larger than the page allocator's blocks, so that they may not come back once given back."""
    pmd = kernel.page_size // 8 * kernel.page_size  # what a table of 8-byte entries covers: one PMD leaf
    return size > max(pmd, _BUDDY_MAX * kernel.page_size)


def advise(kernel: Kernel, rows: list[Row]) -> tuple[Advice, ...]:
    """What to do: warnings first, then by what it gives back."""
    if not kernel.supports:
        return (Advice(f"this kernel cannot optimise: {kernel.reason}", None, 0),)
    warnings = [Advice(_warning(kernel), None, 0)] if kernel.defects else []
    todo = [] if kernel.defects else [*_gate(kernel, rows), *(advice for row in rows for advice in _pool(kernel, row))]
    return (*warnings, *sorted(todo, key=lambda advice: -advice.gain), *(advice for row in rows for advice in _surplus(row)))


def _warning(kernel: Kernel) -> str:
    defect = kernel.defects[0]
    return f"known defect {defect.id} of this kernel: {defect.summary}; give no HugeTLB pages back, and install a kernel without it"


def _gate(kernel: Kernel, rows: list[Row]) -> Iterator[Advice]:
    gain = sum((pool.pages - known.low) * saved for pool, known, saved in rows)
    if not kernel.enabled:
        command = "hvo enable --persist" if kernel.switchable else None
        text = "switch the optimisation on" if command else f"boot with {BOOT_PARAMETER}=on"
        yield Advice(f"{text}: HugeTLB pages allocated from then on are optimised, those there now once converted", command, gain)
    gigantic = sum((pool.pages - known.low) * saved for pool, known, saved in rows if is_gigantic(kernel, pool.size))
    if gigantic and not kernel.on_at_boot:
        yield Advice("pages reserved at boot are optimised when the boot command line says so", "hvo enable --boot", gigantic)


def _pool(kernel: Kernel, row: Row) -> Iterator[Advice]:
    pool, known, saved = row
    size, missing = format_size(pool.size), pool.pages - known.low
    if not saved or not missing:
        return
    available = min(missing, max(0, pool.free - (pool.reserved or 0)))
    if available and kernel.enabled and kernel.switchable and not pool.surplus:
        gigantic = is_gigantic(kernel, pool.size)
        risk = "; they may not come back if memory is fragmented" if gigantic else ""
        upto = "" if known.exact is not None and pool.in_use == 0 else "up to "
        command = f"hvo convert --size {size}{' --gigantic' if gigantic else ''}"
        yield Advice(f"rebuild {upto}{available} free pages of {size}{risk}", command, available * saved)
    busy = missing - available
    if busy and kernel.enabled:
        text = f"up to {busy} pages of {size} are in use or reserved: convert them once their users have ended"
        yield Advice(text, None, busy * saved)


def _surplus(row: Row) -> Iterator[Advice]:
    pool = row[0]
    if pool.surplus > (pool.overcommit or 0):
        yield Advice(
            f"{pool.surplus} pages of {format_size(pool.size)} are surplus, more than may be taken beyond the pool: in use when it shrank, "
            "or free memory was short for their struct pages; free memory, then set the pool again",
            f"hvo resize {format_size(pool.size)}={pool.persistent}",
            0,
        )
