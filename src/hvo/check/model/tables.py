"""Entries that are written: what a TLB may still hold of the old one, and what becomes reachable by
the new one; and frames that are freed, to which nothing may lead any more.
"""

from hvo.check.model.access import is_live, leads_to, slots_of
from hvo.check.model.break_before_make import check_pmd, check_pte
from hvo.check.model.contents import check_reads
from hvo.check.model.footprint import (
    COPY,
    FRAME,
    FREED,
    TRANSLATION,
    WORDS_OF_FRAME,
)
from hvo.check.model.geometry import PAGE, PMD_FRAME
from hvo.check.model.state import (
    ALLOCATED,
    FREE,
    FREED_TO_BUDDY,
    KIND,
    LEVEL1,
    OFFLINED,
    PRIVATE,
    STATUS,
    TABLE,
)
from hvo.check.model.store_buffer import forget_stores, publish
from hvo.check.model.tlb import keep
from hvo.check.model.world import World


def write_entry(world: World, location: int, value: int, level: int) -> None:
    """Write an entry, remember what a TLB may still hold of the old one, and look at what becomes
    reachable.
    """
    frame, index = location // PAGE, location % PAGE // 8
    world.reads(FRAME + frame)
    if world.status[frame] & STATUS not in (ALLOCATED, PRIVATE):
        raise world.fault("freed-table", f"an entry is written into frame {frame}, which is free")
    world.changes(frame * WORDS_OF_FRAME + index)
    if level == 1:
        _write_pmd(world, index, value)
    elif level == 0:
        _write_pte(world, frame, index, value)
    world.put(frame, index, value)
    if level == 1:
        check_reads(world, range(index * world.leaf, (index + 1) * world.leaf))
    elif level == 0:
        check_reads(world, [slot * world.leaf + index for slot in slots_of(world, frame)])


def _write_pmd(world: World, slot: int, value: int) -> None:
    old = world.contents[PMD_FRAME][slot]
    new, before = world.model.meaning(value, 1), world.model.meaning(old, 1)
    world.changes(TRANSLATION + LEVEL1 + slot)
    world.touched.reads |= world.cells.all_of(TRANSLATION + slot * world.leaf, world.leaf)
    if new.kind == "table":
        world.reads_words(new.frame, 0, world.leaf)
    check_pmd(world, slot, old, value)
    if old != value and before.kind == "table":
        for index in range(world.leaf):
            page = slot * world.leaf + index
            world.changes(TRANSLATION + page)
            keep(world, page, world.contents[before.frame][index], 0, -1)
    if old != value:
        keep(world, LEVEL1 + slot, old, 1, value)
    if new.kind == "table":
        _publish_table(world, new.frame, slot)
    elif new.kind == "leaf":
        for index in range(world.leaf):
            _reachable(world, new.frame + index, slot * world.leaf + index)


def _publish_table(world: World, table: int, slot: int) -> None:
    world.changes(FRAME + table)
    state = world.status[table]
    if state & STATUS not in (ALLOCATED, PRIVATE):
        world.note("freed-table", f"the table in frame {table} is installed, and is free")
    else:
        publish(world, table)
        world.status[table] = ALLOCATED | TABLE
    for index in range(world.leaf):
        meaning = world.model.meaning(world.contents[table][index], 0)
        if meaning.kind == "leaf":
            _reachable(world, meaning.frame, slot * world.leaf + index)


def _write_pte(world: World, frame: int, index: int, value: int) -> None:
    old = world.contents[frame][index]
    meaning = world.model.meaning(value, 0)
    if value:
        check_kind(world, meaning.frame)
    for slot in slots_of(world, frame):
        page = slot * world.leaf + index
        world.changes(TRANSLATION + page)
        check_pte(world, slot, page, old, value)
        if old != value:
            keep(world, page, old, 0, value)
        if meaning.kind == "leaf":
            _reachable(world, meaning.frame, page)


def check_kind(world: World, frame: int) -> None:
    """An entry for a page of struct pages is being made: its frame must not be a table."""
    world.reads(FRAME + frame)
    if frame >= len(world.status) or world.status[frame] & KIND == TABLE:
        world.note(
            "wrong-frame",
            f"an entry is built for frame {frame}, which holds a page table, not struct pages",
        )


def _reachable(world: World, frame: int, page: int) -> None:
    """The walker may fill a translation of `page` to `frame` from now on."""
    if not is_live(world, frame):
        world.note(
            "access-freed",
            f"vmemmap page {page} is mapped to frame {frame}, which is not the vmemmap's any more",
        )
        return
    publish(world, frame)
    if world.status[frame] & STATUS == PRIVATE:
        world.changes(FRAME + frame)
        world.status[frame] = ALLOCATED | world.status[frame] & KIND
    world.reads(COPY + frame)
    for of, source, target, index, changed in world.copies:
        if of == page and target == frame and changed:
            world.note(
                "lost-update",
                f"struct page {index} of frame {source} was changed after it was copied to"
                f" frame {target}",
            )


# -- frames that are freed --


def free(world: World, frame: int) -> None:
    """Give a frame back to the page allocator."""
    state = world.status[frame] if 0 <= frame < len(world.status) else FREE
    world.changes(FRAME + frame)
    if state & STATUS not in (ALLOCATED, PRIVATE):
        world.note(
            "leak",
            f"frame {frame} is freed, and is"
            f" {'gone' if state & STATUS == OFFLINED else 'free already'}",
        )
        return
    if state & STATUS == ALLOCATED:
        world.adds_to(FREED)
        _check_unused(world, frame)
    world.status[frame] = FREE if state & STATUS == PRIVATE else FREED_TO_BUDDY
    world.fill(frame, world.model.empty)
    forget_stores(world, frame)
    for copy in world.copies:
        if frame in (copy[1], copy[2]):
            world.changes(COPY + copy[2])
    world.copies = tuple([copy for copy in world.copies if frame not in (copy[1], copy[2])])


def _check_unused(world: World, frame: int) -> None:
    """Nothing that is in the tables or may be in a TLB leads to `frame`."""
    if slots_of(world, frame):
        world.note("freed-table", f"the table in frame {frame} is freed while a CPU may walk it")
    for page in leads_to(world, frame):
        world.note(
            "freed-while-cached",
            f"frame {frame} is freed while a CPU may hold a translation of vmemmap page {page} to"
            " it",
        )
