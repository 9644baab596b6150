"""A machine's state, and what each step does to it.

Every handler works on one page or, when its arguments are arrays whose first axis is the page, on
many: the same code serves the executor that goes step by step and the one that runs a block for
half a million pages. Frames that hold struct pages are copied and filled as templates
(`hvo.memory.simulated`), so a copied head costs two struct pages and not 4 KiB.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hvo.kernel.struct_page import LINK, MAPPING, TAIL_MAPPING, StructPageLayout
from hvo.kernel.vmemmap_page_list import VmemmapPageList
from hvo.kernel.zone_layout import zone_number
from hvo.kernel.zones import Zones
from hvo.memory.interface import Words
from hvo.memory.simulated import SimulatedMemory
from hvo.mmu.walk import walk
from hvo.steps.base import Step, Value, strided
from hvo.steps.entries import (
    RESET_STRUCT_PAGES,
    Entry,
    EntryKind,
    FillTable,
    Locate,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    RemapEntries,
    RestoreEntries,
    StoreTableEntry,
    WriteEntry,
    WritePointer,
)
from hvo.steps.frames import (
    AllocateFrame,
    AllocateFrames,
    Count,
    Counter,
    FreeFrame,
    FreeVmemmapPageList,
    ListAdd,
    ListEmpty,
    ListPop,
)
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    EnterReadSection,
    Flush,
    FlushAll,
    Invalidate,
    InvalidateAll,
    LeaveReadSection,
    Lock,
    ReadBarrier,
    Release,
    SynchronizeReaders,
    WriteBarrier,
)
from hvo.steps.struct_pages import (
    CopyFrame,
    CopyTailWords,
    CopyWords,
    FillTail,
    FillTails,
    FreezeCount,
    IncrementUnlessZero,
    LoadPage,
    StorePage,
    TestPage,
)
from hvo.vmemmap.context import Vmemmap

if TYPE_CHECKING:
    from hvo.world.pools import Pools

Frames = NDArray[np.int64]


class KernelFault(Exception):
    """An access that faults in kernel mode: the virtual address, its entry, and why."""

    def __init__(self, address: int, entry: int, why: str) -> None:
        super().__init__(f"{why} at {address:#x} (entry {entry:#x})")
        self.address, self.entry, self.why = address, entry, why


@dataclass
class World:
    """Memory, tables, allocator and counters of one machine.

    `root` is the physical address of the top table; `journal`, where set, collects what undoes each
    change made since.
    """

    memory: SimulatedMemory
    root: int
    vmemmap: Vmemmap
    zones: Zones
    layout: StructPageLayout
    counters: dict[Counter, int] = field(default_factory=lambda: defaultdict(int))
    locks: set[Lock] = field(default_factory=set[Lock])
    vmemmap_page_list: VmemmapPageList = field(default_factory=VmemmapPageList)
    journal: list[Callable[[], None]] | None = None
    pools: "Pools | None" = None
    flushes: int = 0
    frames_freed: int = 0
    synchronizations: int = 0

    def __post_init__(self) -> None:
        self._tables: dict[int, int] = {}
        self._handlers: dict[type, Callable[[Any], Any]] = {
            Locate: self._locate,
            ReadEntry: self._read_entry,
            WriteEntry: self._write_entry,
            ReadPointer: self._read_pointer,
            WritePointer: self._write_pointer,
            PublishPointer: self._publish_pointer,
            AllocateFrame: self._allocate_frame,
            FreeFrame: self._free_frame,
            CopyWords: self._copy_words,
            CopyTailWords: self._copy_tail_words,
            FillTail: self._fill_tail,
            StoreTableEntry: self._store_table_entry,
            TestPage: self._test_page,
            LoadPage: self._load_page,
            StorePage: self._store_page,
            IncrementUnlessZero: self._increment_unless_zero,
            FreezeCount: self._freeze_count,
            Acquire: self._acquire,
            Release: self._release,
            WriteBarrier: _nothing,
            ReadBarrier: _nothing,
            Invalidate: self._invalidate,
            InvalidateAll: self._invalidate,
            AwaitInvalidation: _nothing,
            SynchronizeReaders: self._synchronize,
            EnterReadSection: _nothing,
            LeaveReadSection: _nothing,
            Count: self._count,
            ListAdd: self._list_add,
            ListEmpty: self._list_empty,
            ListPop: self._list_pop,
            AllocateFrames: self._allocate_frames,
            FreeVmemmapPageList: self._free_vmemmap_page_list,
            RemapEntries: self._remap_entries,
            RestoreEntries: self._restore_entries,
            FillTable: self._fill_table,
            CopyFrame: self._copy_frame,
            FillTails: self._fill_tails,
            Flush: self._invalidate,
            FlushAll: self._invalidate,
        }

    def perform(self, step: Step) -> Value:
        """Do one step and give its result."""
        return self._handlers[type(step)](step)

    def can_perform(self, step: Step) -> bool:
        """Whether this state knows the step as a whole (a composite it does not know is taken
        apart).
        """
        return type(step) in self._handlers

    # -- words --

    def store(self, locations: Words, values: Words | int) -> None:
        """Write words, and remember the old ones where a journal is kept."""
        if self.journal is not None:
            self.journal.append(
                partial(self.memory.write_words, locations, self.memory.read_words(locations))
            )
        self.memory.write_words(locations, values)

    def undo(self) -> None:
        """Take back every change made since the journal was begun, the last one first, and end
        it.
        """
        for change in reversed(self.journal or []):
            change()
        self.journal = None

    def teach(self, step_type: type, handler: Callable[[Any], Any]) -> None:
        """Say how steps of one more type are performed."""
        self._handlers[step_type] = handler

    # -- page tables and variables --

    def _locate(self, step: Locate) -> Words:
        v = self.vmemmap
        address = np.asarray(step.address, np.uint64)
        shift = np.uint64(v.format.shift(step.level) + v.format.index_bits[step.level])
        regions, inverse = _runs(address >> shift)
        tables = np.array(
            [self._table_of(int(region << shift), step.level) for region in regions], np.uint64
        )
        index = np.asarray(v.format.index(address, step.level), np.uint64)
        return tables[inverse].reshape(address.shape) + index * np.uint64(8)

    def _table_of(self, address: int, level: int) -> int:
        """Physical address of the table of `level` for `address`; remembered until an entry above
        the PMD is written.
        """
        key = address | level
        if key not in self._tables:
            table = self.root
            for above in range(self.vmemmap.format.top, level, -1):
                entry = self._word(table + 8 * int(self.vmemmap.format.index(address, above)))
                if not self.vmemmap.format.is_table(entry, above):
                    raise KernelFault(address, entry, f"no table of level {above - 1}")
                table = int(self.vmemmap.format.output_address(entry, above))
            self._tables[key] = table
        return self._tables[key]

    def _word(self, location: int) -> int:
        return int(self.memory.read_words(np.array([location], np.uint64))[0])

    def _read_entry(self, step: ReadEntry) -> Entry:
        values = self.memory.read_words(np.asarray(step.location, np.uint64))
        return Entry(self.kind(values, step.level), values)

    def kind(self, values: Words, level: int) -> EntryKind:
        """What entries of `level` are; they must all be the same."""
        leaf = np.asarray(self.vmemmap.format.is_leaf(values, level))
        if leaf.all():
            return EntryKind.LEAF
        table = np.asarray(self.vmemmap.format.is_table(values, level))
        if table.all():
            return EntryKind.TABLE
        if leaf.any() or table.any():
            raise Divergence(np.where(leaf, 0, np.where(table, 1, 2)))
        return EntryKind.NONE

    def _write_entry(self, step: WriteEntry) -> None:
        if step.level > 1:
            self._tables.clear()
        self.store(np.asarray(step.location, np.uint64), np.asarray(step.value, np.uint64))

    def _read_pointer(self, step: ReadPointer) -> Value | None:
        values = self.memory.read_words(np.asarray(step.location, np.uint64))
        null = values == 0
        if null.all():
            return None
        if null.any():
            raise Divergence(null.astype(np.int64))
        return values.astype(np.int64)

    def _write_pointer(self, step: WritePointer) -> None:
        self.store(np.asarray(step.location, np.uint64), np.asarray(step.value).astype(np.uint64))

    def _publish_pointer(self, step: PublishPointer) -> Value | None:
        present = self._read_pointer(ReadPointer(step.location))
        if present is None:
            self._write_pointer(WritePointer(step.location, step.value))
        return present

    # -- frames --

    def _allocate_frame(self, step: AllocateFrame) -> Value | None:
        got = self.take_frames(1, int(step.node), step.this_node_only, step.memmap)
        return None if got is None else int(got[0])

    def _allocate_frames(self, step: AllocateFrames) -> Frames | None:
        return self.take_frames(step.count, int(step.node), step.this_node_only, step.memmap)

    def take_frames(
        self, count: int, node: int, this_node_only: bool, memmap: bool
    ) -> Frames | None:
        """`count` frames, or None; a refusal leaves what trying one by one would leave: those had
        before go to the end of the queue.
        """
        allowed = self.zones.allowed(count, node, this_node_only=this_node_only)
        frames = self.zones.allocate_upto(allowed, node, this_node_only=this_node_only)
        if allowed < count:
            self.zones.free_frames(frames)
            return None
        if memmap:
            self.counters[Counter.MEMMAP] += count
        return frames

    def _free_frame(self, step: FreeFrame) -> None:
        self.give_frames(np.array([step.pfn], np.int64), memmap=step.memmap)

    def give_frames(self, pfns: Frames, *, memmap: bool) -> None:
        """Free `pfns` in that order, with the counters' due; what they hold is gone."""
        self.memory.forget(pfns)
        self.frames_freed += pfns.size
        reserved = self.zones.free_reserved(pfns)
        if memmap:
            self.counters[Counter.MEMMAP_BOOT] -= reserved
            self.counters[Counter.MEMMAP] -= pfns.size - reserved

    def _fill_table(self, step: FillTable) -> None:
        tables = np.atleast_1d(np.asarray(step.table, np.int64))
        self.memory.write_frames(
            tables, np.asarray(step.values, np.uint64).reshape(tables.size, -1)
        )

    def _store_table_entry(self, step: StoreTableEntry) -> None:
        self.memory.write_words(
            self._in_frame(step.table, step.index * 8), np.asarray(step.value, np.uint64)
        )

    def _in_frame(self, pfn: Value, offset: int) -> Words:
        return np.asarray(pfn, np.int64).astype(np.uint64) * np.uint64(
            self.vmemmap.page_size
        ) + np.uint64(offset)

    # -- copies of struct pages --

    def _copy_frame(self, step: CopyFrame) -> None:
        sources = self.frame_of(np.atleast_1d(np.asarray(step.source, np.uint64)))
        self.memory.copy_frames(sources, np.atleast_1d(np.asarray(step.target, np.int64)))

    def _copy_words(self, step: CopyWords) -> None:
        size = self.vmemmap.struct_page_size
        start = np.uint64(step.source) + np.uint64(step.index * size)
        words = self.memory.read_words(self.translate(strided(start, size // 8, 8)))
        self.memory.write_words(
            strided(self._in_frame(step.target, step.index * size), size // 8, 8), words
        )

    def _copy_tail_words(self, step: CopyTailWords) -> None:
        size = self.vmemmap.struct_page_size
        words = self.memory.read_words(
            strided(self._in_frame(step.target, step.source * size), size // 8, 8)
        )
        self.memory.write_words(
            strided(self._in_frame(step.target, step.index * size), size // 8, 8), words
        )

    def tail_row(self, head: int) -> Words:
        """A struct page that is a tail in the zone of pfn `head`; its link is not filled in."""
        zone = self.zones.zones[int(self.vmemmap.zone_of(head))]
        number = zone_number(self.vmemmap.format.arch, zone.name)
        row = self.layout.free_row(zone.node, number)
        row[MAPPING] = TAIL_MAPPING
        return row

    def _tail_link(self, head: Value, order: int) -> Words:
        return self.layout.links(np.atleast_1d(self.vmemmap.address(head)), order)

    def _fill_tails(self, step: FillTails) -> None:
        heads, targets = (
            np.atleast_1d(np.asarray(step.head)),
            np.atleast_1d(np.asarray(step.target, np.int64)),
        )
        for head, target, link in zip(
            heads.tolist(), targets, self._tail_link(heads, step.order), strict=True
        ):
            self.memory.fill_rows(np.array([target]), self.tail_row(head), np.array([link]))

    def _fill_tail(self, step: FillTail) -> None:
        row = self.tail_row(int(step.head))
        row[LINK] = self._tail_link(step.head, step.order)[0]
        self.memory.write_words(
            strided(self._in_frame(step.target, step.index * row.nbytes), row.size, 8), row
        )

    # -- whole runs of entries --

    def _remap_entries(self, step: RemapEntries) -> Words:
        old = self.memory.read_words(step.locations)
        if self.journal is not None:
            self.journal.append(partial(self.memory.write_words, step.locations, old))
        self.memory.write_words(step.locations, step.values)
        return old

    def _restore_entries(self, step: RestoreEntries) -> None:
        if step.source is None:
            sources = self.vmemmap.pfn(self.memory.read_words(step.locations)).ravel()
        else:
            source = self.frame_of(np.atleast_1d(np.asarray(step.source, np.uint64)))
            sources = np.repeat(source, step.frames.shape[-1])
        targets = step.frames.ravel()
        self.memory.copy_frames(sources, targets, reset=RESET_STRUCT_PAGES if step.reset else 0)
        self.store(step.locations, step.values)

    # -- struct pages through the mapping --

    def frame_of(self, addresses: Words) -> Frames:
        """The frames that the virtual `addresses` (page aligned) are mapped to."""
        shift = np.uint64(self.vmemmap.page_size.bit_length() - 1)
        return (self.translate(addresses) >> shift).astype(np.int64)

    def translate(self, addresses: Words, *, write: bool = False) -> Words:
        """Physical addresses of the virtual `addresses`; raises KernelFault where one is not
        mapped, or read-only and to be written.
        """
        addresses = np.asarray(addresses, np.uint64)
        found = walk(self.memory, self.vmemmap.format, self.root, np.atleast_1d(addresses))
        bad = ~found.valid | (~found.writable if write else False)
        if bad.any():
            i = int(np.argmax(bad.ravel()))
            why = (
                "write to a read-only page"
                if found.valid.flat[i]
                else "access to an address that is not mapped"
            )
            raise KernelFault(int(np.atleast_1d(addresses).flat[i]), int(found.entry.flat[i]), why)
        return found.address.reshape(addresses.shape)

    def field_location(self, pfn: Value, name: str, *, write: bool = False) -> Words:
        """Physical address of the word that holds field `name` of the struct pages of `pfn`, as
        mapped now; raises KernelFault.
        """
        place = self.layout.fields[name]
        address = self.vmemmap.address(np.asarray(pfn, np.int64) + place.page) + np.uint64(
            8 * place.word
        )
        return self.translate(address, write=write)

    def load_at(self, locations: Words, name: str) -> Words:
        """Field `name` of the struct pages whose word with it lies at `locations`."""
        return self.layout.fields[name].decode(self.memory.read_words(locations))

    def store_at(self, locations: Words, name: str, value: Value) -> None:
        """Store `value` in field `name` of the struct pages whose word with it lies at
        `locations`.
        """
        self.store(
            locations, self.layout.fields[name].encode(self.memory.read_words(locations), value)
        )

    def _load_page(self, step: LoadPage) -> Words:
        return self.load_at(self.field_location(step.pfn, step.field), step.field)

    def _test_page(self, step: TestPage) -> bool:
        return self.one_answer(self._load_page(LoadPage(step.pfn, step.field)) != 0)

    def one_answer(self, answers: NDArray[np.bool_]) -> bool:
        """The answer that all pages of a run give."""
        if answers.all():
            return True
        if answers.any():
            raise Divergence(answers.astype(np.int64))
        return False

    def _store_page(self, step: StorePage) -> None:
        self.store_at(self.field_location(step.pfn, step.field, write=True), step.field, step.value)

    def _increment_unless_zero(self, step: IncrementUnlessZero) -> bool:
        count = self._load_page(LoadPage(step.pfn, step.field))
        if not self.one_answer(count != 0):
            return False
        self._store_page(StorePage(step.pfn, step.field, count + np.uint64(1)))
        return True

    def _freeze_count(self, step: FreezeCount) -> bool:
        if not self.one_answer(self._load_page(LoadPage(step.pfn, "refcount")) == step.expected):
            return False
        self._store_page(StorePage(step.pfn, "refcount", 0))
        return True

    # -- order and counts --

    def _acquire(self, step: Acquire) -> None:
        if step.lock in self.locks:
            raise AssertionError(
                f"{step.lock.value} is held already: the actor would wait for itself"
            )
        self.locks.add(step.lock)

    def _release(self, step: Release) -> None:
        self.locks.remove(step.lock)

    def _invalidate(self, step: Step) -> None:
        self.flushes += 1

    def _synchronize(self, step: SynchronizeReaders) -> None:
        self.synchronizations += 1

    def _count(self, step: Count) -> None:
        self.counters[step.counter] += step.delta

    # -- the actor's list --

    def _list_add(self, step: ListAdd) -> None:
        self.vmemmap_page_list.push(np.atleast_1d(np.asarray(step.pfns, np.int64)))

    def _list_empty(self, step: ListEmpty) -> bool:
        return len(self.vmemmap_page_list) == 0

    def _list_pop(self, step: ListPop) -> Frames:
        return self.vmemmap_page_list.take(step.count)

    def _free_vmemmap_page_list(self, step: FreeVmemmapPageList) -> None:
        for pfns in self.vmemmap_page_list.take_parts():
            self.give_frames(pfns, memmap=True)


class Divergence(Exception):
    """Pages of a run get different answers where the code between steps may branch; `keys` tells
    them apart.
    """

    def __init__(self, keys: NDArray[np.int64]) -> None:
        super().__init__("pages of one run diverge")
        self.keys = keys


def _nothing(step: Step) -> None:
    """Order that one actor alone cannot see."""


def _runs(values: Words) -> tuple[Words, NDArray[np.int64]]:
    """The distinct neighbours in `values` (any shape), and for each value the index of its run."""
    flat = np.atleast_1d(values).ravel()
    change = np.empty(flat.size, np.bool_)
    change[:1] = True
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    return flat[change], np.cumsum(change) - 1
