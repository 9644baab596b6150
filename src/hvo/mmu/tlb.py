"""What each CPU may still use: translations and pointers to tables that were true since its last
invalidation.

A CPU holds nothing for certain. The hardware walker may fill an entry at any time, and nothing but
an invalidation is sure to remove one: so several translations of one address may coexist, and any
of them may be used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hvo.mmu.format import Format
from hvo.mmu.walk import PathEntry


@dataclass(frozen=True)
class Translation:
    """One leaf that a CPU may have cached; addresses and sizes in bytes."""

    start: int
    """First virtual address that it translates."""
    size: int
    """Bytes that it translates: a whole contiguous group where the leaf is marked as one of it."""
    level: int
    entry: int
    location: int
    output: int
    """Physical address of `start`."""
    writable: bool

    def translate(self, address: int) -> int:
        """Physical address of the virtual `address`, which must lie in the range."""
        return self.output + address - self.start


@dataclass(frozen=True)
class TablePointer:
    """One pointer to a table that a CPU may have cached, so that it walks on from there without
    reading it again.
    """

    start: int
    size: int
    """The virtual range that the table maps, in bytes."""
    level: int
    """Level of the table, one below that of the entry."""
    table: int
    """Physical address of the table."""
    writable: bool
    """Whether the entries on the way here allow to write."""


class Tlb:
    """The may-set of each of `cpus` CPUs that walk tables of one format."""

    def __init__(self, format: Format, cpus: int) -> None:
        self.format = format
        self._cached: tuple[set[Translation | TablePointer], ...] = tuple(
            set() for _ in range(cpus)
        )

    def fill(
        self,
        cpu: int,
        address: int,
        path: Sequence[PathEntry],
        *,
        origin: TablePointer | None = None,
    ) -> None:
        """Cache what the walk of the virtual `address` read (`hvo.mmu.walk.path`), from the cached
        table `origin` on.

        Faults are never cached, and neither is a leaf with the access flag clear where the walker
        does not set it.
        """
        writable = origin is None or origin.writable
        for read in path:
            if self.format.is_table(read.entry, read.level):
                writable = writable and not self.format.is_write_protecting(read.entry)
                self._cached[cpu].add(_table_pointer(self.format, address, read, writable))
            elif _is_cacheable(self.format, read):
                self._cached[cpu].add(_translation(self.format, address, read, writable))

    def may_use(self, cpu: int, address: int) -> tuple[Translation, ...]:
        """Every cached translation of the virtual `address`, in no order that means anything."""
        return tuple(
            held
            for held in self._cached[cpu]
            if isinstance(held, Translation) and _covers(held, address)
        )

    def may_walk_from(self, cpu: int, address: int) -> tuple[TablePointer, ...]:
        """Every cached pointer to a table on the way to the virtual `address`."""
        return tuple(
            held
            for held in self._cached[cpu]
            if isinstance(held, TablePointer) and _covers(held, address)
        )

    def invalidate(
        self, start: int, end: int, cpu: int | None = None, *, last_level: bool = False
    ) -> None:
        """Forget what translates any of the virtual `start` to `end`, on one CPU or on all.

        With `last_level` pointers to tables may stay, as for arm64 `TLBI VALE1IS` and in
        `flush_tlb_kernel_range()`.
        """
        for held in self._cached if cpu is None else (self._cached[cpu],):
            held -= {
                one
                for one in held
                if one.start < end
                and start < one.start + one.size
                and not (last_level and isinstance(one, TablePointer))
            }

    def invalidate_all(self, cpu: int | None = None) -> None:
        """Forget everything, on one CPU or on all."""
        for held in self._cached if cpu is None else (self._cached[cpu],):
            held.clear()


def _covers(held: Translation | TablePointer, address: int) -> bool:
    return held.start <= address < held.start + held.size


def _is_cacheable(format: Format, read: PathEntry) -> bool:
    leaf = format.is_leaf(read.entry, read.level) and not format.is_malformed(
        read.entry, read.level
    )
    return leaf and (format.is_accessed(read.entry) or not format.access_flag_faults)


def _table_pointer(format: Format, address: int, read: PathEntry, writable: bool) -> TablePointer:
    span = format.span(read.level)
    table = format.output_address(read.entry, read.level)
    return TablePointer(address // span * span, span, read.level - 1, table, writable)


def _translation(format: Format, address: int, read: PathEntry, writable: bool) -> Translation:
    grouped = format.is_contiguous(read.entry)
    size = format.contiguous_span(read.level) if grouped else format.span(read.level)
    start = address // size * size
    # A group is one translation: its first page lies as far below this leaf's as their virtual
    # addresses do.
    output = format.translate(read.entry, read.level, address) - (address - start)
    allowed = writable and format.is_writable(read.entry)
    return Translation(start, size, read.level, read.entry, read.location, output, allowed)
