"""What steps on page tables and kernel variables do to a machine's words."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from hvo.memory.interface import Words
from hvo.mmu.format import Format
from hvo.mmu.runs import Runs, read_runs
from hvo.steps.base import Divergence, Value, one_answer, strided
from hvo.steps.entries import (
    RESET_STRUCT_PAGES,
    AllowFaults,
    CompareExchangeEntry,
    Entry,
    EntryKind,
    FillTable,
    Locate,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    ReadRuns,
    RemapEntries,
    RestoreEntries,
    StoreTableEntry,
    TableIsEmpty,
    WriteEntry,
    WritePointer,
)
from hvo.world.state import Handlers, World


def locate(world: World, step: Locate) -> Words:
    """The location of the entry for each address."""
    f = world.vmemmap.format
    address = np.asarray(step.address, np.uint64)
    shift = np.uint64(f.shift(step.level) + f.index_bits[step.level])
    regions, inverse = _runs(address >> shift)
    tables = np.array(
        [world.table_of(int(region << shift), step.level) for region in regions], np.uint64
    )
    index = np.asarray(f.index(address, step.level), np.uint64)
    return tables[inverse].reshape(address.shape) + index * np.uint64(8)


def _runs(values: Words) -> tuple[Words, NDArray[np.int64]]:
    """The distinct neighbours in `values` (any shape), and for each value the index of its run."""
    flat = np.atleast_1d(values).ravel()
    change = np.empty(flat.size, np.bool_)
    change[:1] = True
    np.not_equal(flat[1:], flat[:-1], out=change[1:])
    return flat[change], np.cumsum(change) - 1


def read_entry(world: World, step: ReadEntry) -> Entry:
    """Kind and value."""
    values = world.memory.read_words(np.asarray(step.location, np.uint64))
    return Entry(kind(world.vmemmap.format, values, step.level), values)


def kind(format: Format, values: Words, level: int) -> EntryKind:
    """What entries of `level` are; they must all be the same."""
    leaf = np.asarray(format.is_leaf(values, level))
    if leaf.all():
        return EntryKind.LEAF
    table = np.asarray(format.is_table(values, level))
    if table.all():
        return EntryKind.TABLE
    if leaf.any() or table.any():
        raise Divergence(np.where(leaf, 0, np.where(table, 1, 2)))
    return EntryKind.NONE


def write_entry(world: World, step: WriteEntry) -> None:
    """Store it; above the PMD, tables are looked up anew."""
    if step.level > 1:
        world.forget_tables()
    world.store(np.asarray(step.location, np.uint64), np.asarray(step.value, np.uint64))


def read_pointer(world: World, step: ReadPointer) -> Value | None:
    """The variable, None when it is null."""
    values = world.memory.read_words(np.asarray(step.location, np.uint64))
    null = values == 0
    if null.all():
        return None
    if null.any():
        raise Divergence(null.astype(np.int64))
    return values.astype(np.int64)


def write_pointer(world: World, step: WritePointer) -> None:
    """Store it."""
    world.store(np.asarray(step.location, np.uint64), np.asarray(step.value).astype(np.uint64))


def publish_pointer(world: World, step: PublishPointer) -> Value | None:
    """Store it where the variable is null."""
    present = read_pointer(world, ReadPointer(step.location))
    if present is None:
        write_pointer(world, WritePointer(step.location, step.value))
    return present


def compare_exchange_entry(world: World, step: CompareExchangeEntry) -> bool:
    """Store it where the entry is the expected one."""
    now = world.memory.read_words(np.asarray(step.location, np.uint64))
    if not one_answer(np.asarray(now == np.asarray(step.expected, np.uint64))):
        return False
    write_entry(world, WriteEntry(step.location, step.value, step.level, step.address))
    return True


def store_table_entry(world: World, step: StoreTableEntry) -> None:
    """Store it in the frame."""
    world.memory.write_words(
        world.in_frame(step.table, step.index * 8), np.asarray(step.value, np.uint64)
    )


# -- many entries at once --


def fill_table(world: World, step: FillTable) -> None:
    """Store whole tables."""
    tables = np.atleast_1d(np.asarray(step.table, np.int64))
    world.memory.write_frames(tables, np.asarray(step.values, np.uint64).reshape(tables.size, -1))


def remap_entries(world: World, step: RemapEntries) -> Words:
    """Exchange them."""
    old = world.memory.read_words(step.locations)
    if world.transaction is not None:
        world.transaction.add(partial(world.memory.write_words, step.locations, old))
    world.memory.write_words(step.locations, step.values)
    return old


def restore_entries(world: World, step: RestoreEntries) -> None:
    """Copy frames as templates, then store the entries."""
    if step.source is None:
        sources = world.vmemmap.pfn(world.memory.read_words(step.locations)).ravel()
    else:
        source = world.frame_of(np.asarray(step.source, np.uint64)[..., None])
        sources = np.broadcast_to(source, step.frames.shape).ravel()
    targets = step.frames.ravel()
    world.memory.copy_frames(sources, targets, reset=RESET_STRUCT_PAGES if step.reset else 0)
    world.store(step.locations, step.values)


def table_is_empty(world: World, step: TableIsEmpty) -> bool:
    """Look at all entries."""
    return not world.memory.read_words(strided(step.table, step.entries, 8)).any()


def allow_faults(world: World, step: AllowFaults) -> None:
    """Nobody else is there that could wait."""


def read_page_tables(world: World, step: ReadRuns) -> Runs:
    """Read whole tables as arrays."""
    return read_runs(world.memory, step.format, step.root, step.start, step.end, step.grouping)


HANDLERS: Handlers = {
    Locate: locate,
    ReadEntry: read_entry,
    WriteEntry: write_entry,
    ReadPointer: read_pointer,
    WritePointer: write_pointer,
    PublishPointer: publish_pointer,
    CompareExchangeEntry: compare_exchange_entry,
    StoreTableEntry: store_table_entry,
    FillTable: fill_table,
    RemapEntries: remap_entries,
    RestoreEntries: restore_entries,
    TableIsEmpty: table_is_empty,
    ReadRuns: read_page_tables,
    AllowFaults: allow_faults,
}
