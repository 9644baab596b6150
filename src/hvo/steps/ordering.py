"""Steps that order others: locks, barriers, read-side sections, invalidations, other CPUs."""

from dataclasses import dataclass
from enum import Enum

from hvo.steps.base import Composite, Step, Steps, Value


class Lock(Enum):
    """Locks that the actors take."""

    PAGE_TABLE = "init_mm.page_table_lock"
    MMAP_READ = "init_mm.mmap_lock (read)"
    MMAP_WRITE = "init_mm.mmap_lock (write)"
    HUGETLB = "hugetlb_lock"
    HOTPLUG = "mem_hotplug_lock"
    HOTPLUG_READ = "mem_hotplug_lock (read)"


@dataclass(frozen=True, slots=True, eq=False)
class Acquire(Step[None]):
    """Take `lock` -> None, once it is free."""

    lock: Lock


@dataclass(frozen=True, slots=True, eq=False)
class Release(Step[None]):
    """Let `lock` go -> None."""

    lock: Lock


@dataclass(frozen=True, slots=True, eq=False)
class WriteBarrier(Step[None]):
    """Make earlier writes visible before later ones (`smp_wmb`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class StoreVisible(Step[None]):
    """A store that waited in the CPU's store buffer reaches memory: no protocol does that, it
    happens, and is shown so in traces -> None.
    """


@dataclass(frozen=True, slots=True, eq=False)
class FullBarrier(Step[None]):
    """Make earlier writes visible, and take earlier loads, before later ones (`smp_mb`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadBarrier(Step[None]):
    """Take no later load before an earlier one (`smp_rmb`, or the load before is an acquire) ->
    None.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Invalidate(Step[None]):
    """Ask all CPUs to drop translations of [`start`, `end`) (TLBI, or the interrupt of x86) ->
    None.

    With `tables` copies of pointers to tables as well (`__flush_tlb_kernel_pgtable`,
    arch/arm64/include/asm/tlbflush.h): without, an architecture may drop the last level only
    (arm64's VAALE1IS; SFENCE.VMA of an address). With `this_cpu` only the asking CPU does it, at
    once (`flush_tlb_one_kernel` of x86).
    """

    start: Value
    end: Value
    tables: bool = False
    this_cpu: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InvalidateAll(Step[None]):
    """Ask all CPUs to drop every translation, pointers to tables too; with `this_cpu` only the
    asking one does -> None.
    """

    this_cpu: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AwaitInvalidation(Step[None]):
    """Wait until all CPUs have done what `Invalidate` asked for (DSB) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class SynchronizeReaders(Step[None]):
    """Wait for every read-side section that has begun (`synchronize_rcu`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class EnterReadSection(Step[None]):
    """Begin a read-side section (`rcu_read_lock`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class LeaveReadSection(Step[None]):
    """End a read-side section (`rcu_read_unlock`) -> None."""


@dataclass(frozen=True, slots=True, eq=False)
class Flush(Composite[None]):
    """Drop the translations of [`start`, `end`) everywhere, and wait (`flush_tlb_kernel_range`) ->
    None.

    With `tables` copies of pointers to tables as well, where the architecture's plain flush leaves
    them.
    """

    start: Value
    end: Value
    tables: bool = False

    def parts(self) -> Steps[None]:
        """The request, then the wait."""
        yield from Invalidate(self.start, self.end, self.tables)
        yield from AwaitInvalidation()


@dataclass(frozen=True, slots=True, eq=False)
class FlushAll(Composite[None]):
    """Drop every translation everywhere, and wait (`flush_tlb_all`) -> None."""

    def parts(self) -> Steps[None]:
        """The request, then the wait."""
        yield from InvalidateAll()
        yield from AwaitInvalidation()


@dataclass(frozen=True, slots=True, eq=False)
class StopCpus(Step[None]):
    """Stop all other CPUs -> None, once they have stopped.

    With `preemptible` only where they hold no spin lock and are in no read-side section, as
    `stop_machine` does; else wherever an interrupt finds them: not where they have masked
    interrupts. `interrupts`: the stopping CPU itself still takes them.
    """

    preemptible: bool
    interrupts: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ResumeCpus(Step[None]):
    """Let the other CPUs go on -> None."""
