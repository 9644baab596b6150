"""What the guests do, and what their own counters then say about optimised pages."""

from typing import NamedTuple

from kernels.guest import Counters, GuestRun


class Scenario(NamedTuple):
    """Words for a guest (see init.sh), its memory in MiB, what is added to its command line, and pages optimised, ever and at the end."""

    words: str
    memory_mib: int = 768
    append: str = ""
    ever_optimized: int = 100
    optimized: int = 100


# The pool's free list is a stack: of 40 pages and 80 on top of them, the 50 that leave are optimised ones.
SCENARIOS = {
    "on": Scenario("hvo 1; pool 100"),
    "off": Scenario("hvo 0; pool 64", ever_optimized=0, optimized=0),
    "mixed": Scenario(
        "hvo 0; pool 40; snap off-40\n"
        "hvo 1; pool 120; snap on-120\n"
        "pool 70; snap shrunk-70\n"
        "$bb mount -t hugetlbfs none /huge; $bb fallocate -l 20971520 /huge/f\n"
        "hvo 0; pool 90",
        ever_optimized=80, optimized=30,
    ),
}


def page_counts(counters: Counters) -> dict[int, int]:
    """HugeTLB pages by their size in bytes; sizes without pages are left out."""
    sizes = {name.partition("@")[2]: value for name, value in counters.items() if name.startswith("nr_hugepages@")}
    return {int(size.removesuffix("kB")) << 10: pages for size, pages in sizes.items() if pages}


def frames_saved(run: GuestRun) -> int | None:
    """Frames of vmemmap that the kernel has fewer than at boot; None before 6.11, which does not count them."""
    totals = [sum(value for name, value in run.snapshots[when].items() if name.startswith("nr_memmap")) for when in ("boot", "end")]
    return totals[0] - totals[1] if totals[0] else None


def memory_gained(run: GuestRun) -> int:
    """KiB that MemTotal grew since boot."""
    return run.snapshots["end"]["MemTotal"] - run.snapshots["boot"]["MemTotal"]
