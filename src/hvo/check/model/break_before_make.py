"""arm64's break-before-make, looked at whenever an entry is written: no reader is needed, for a
walker may have cached the old one.

x86-64 may exchange live entries, but a large one that a TLB still holds must agree with the small
ones that the tables have by then (mm/huge_memory.c, `__split_huge_pmd_locked`, says which errata
that is for).
"""

from typing import TYPE_CHECKING

from hvo.check.model.footprint import FRAME
from hvo.check.model.geometry import ROW
from hvo.check.model.hardware import size_change_allowed
from hvo.check.model.state import LEVEL1
from hvo.check.model.store_buffer import is_unordered
from hvo.mmu.break_before_make import needs_break

if TYPE_CHECKING:
    from hvo.check.model.state import Meaning
    from hvo.check.model.world import World

_NAMES = {"leaf": "block", "table": "table"}


def check_pmd(world: "World", slot: int, old: int, value: int) -> None:
    """Note what is wrong with `value` in the PMD slot `slot`, where `old` is and older entries may
    be in a TLB.
    """
    model = world.model
    if not _is_looked_at(world) or not model.meaning(value, 1).cacheable:
        return
    check = _check_pmd_pair if model.hardware.breaks_before_make else _check_sizes
    for entry in [old] + [e for key, e, _ in world.stale if key == LEVEL1 + slot]:
        if entry != value and model.meaning(entry, 1).cacheable:
            check(world, slot, entry, value)
    if model.meaning(value, 1).kind == "leaf":
        _check_pages_under(world, slot, value)


def _check_pages_under(world: "World", slot: int, block: int) -> None:
    """Note when `block` comes into force while TLBs may still hold pages of a table that was there,
    which must be gone or must agree.
    """
    hardware, first = world.model.hardware, world.model.meaning(block, 1).frame
    for page, entry, _ in world.stale:
        held = world.model.meaning(entry, 0) if page // world.leaf == slot else None
        if held is None or not held.cacheable:
            continue
        new = (block, first + page % world.leaf)
        if hardware.sizes_must_agree:
            _check_agree(world, page, (entry, held.frame), new)
        elif not size_change_allowed(hardware, contiguous_only=False) or _conflict(
            world, entry, held.frame, *new
        ):
            world.note(
                "break-before-make",
                f"a block is put over vmemmap page {page} while a TLB may hold its entry",
            )


def _is_looked_at(world: "World") -> bool:
    hardware = world.model.hardware
    return world.model.live and (hardware.breaks_before_make or hardware.sizes_must_agree)


def _check_sizes(world: "World", slot: int, held: int, value: int) -> None:
    """x86-64: of a large entry and the small ones of a table, one in force and the other maybe in a
    TLB.
    """
    if world.model.meaning(held, 1).kind == world.model.meaning(value, 1).kind:
        return
    for index in range(world.leaf):
        a, b = _page_entry(world, held, index), _page_entry(world, value, index)
        if a is not None and b is not None:
            _check_agree(world, slot * world.leaf + index, a, b)


def _check_agree(world: "World", page: int, held: tuple[int, int], new: tuple[int, int]) -> None:
    """Note when two entries of different sizes, each with the frame that it maps `page` to, do not
    say the same.
    """
    writable = world.model.v.format.is_writable
    if held[1] != new[1] or writable(held[0]) != writable(new[0]):
        ways = " and to ".join(
            f"frame {frame} {'rw' if writable(entry) else 'ro'}" for entry, frame in (held, new)
        )
        world.note(
            "mixed-sizes",
            f"a large entry and a small one, of which a TLB may hold both, map vmemmap page {page}"
            f" to {ways}",
        )


def _check_pmd_pair(world: "World", slot: int, old: int, value: int) -> None:
    held, new = world.model.meaning(old, 1), world.model.meaning(value, 1)
    if held.kind != new.kind and not size_change_allowed(
        world.model.hardware, contiguous_only=False
    ):
        world.note(
            "break-before-make", f"a live {_NAMES[held.kind]} is replaced by a {_NAMES[new.kind]}"
        )
        return
    if held.kind == new.kind == "leaf" and _regroups(world, old, value):
        world.note(
            "break-before-make", f"the contiguous bit of the live block of PMD {slot} changes"
        )
        return
    for index in range(world.leaf):
        a, b = _page_entry(world, old, index), _page_entry(world, value, index)
        if a is not None and b is not None and _conflict(world, *a, *b):
            world.note(
                "break-before-make",
                f"vmemmap page {slot * world.leaf + index} changes under a live PMD entry",
            )
            return


def _page_entry(world: "World", pmd: int, index: int) -> tuple[int, int] | None:
    """(entry, frame) of page `index` under a PMD entry; None where there is nothing a TLB may
    hold.
    """
    meaning = world.model.meaning(pmd, 1)
    if meaning.kind == "leaf":
        return pmd, meaning.frame + index
    entry = world.contents[meaning.frame][index]
    page = world.model.meaning(entry, 0)
    return (entry, page.frame) if page.cacheable else None


def check_pte(world: "World", slot: int, page: int, old: int, value: int) -> None:
    """Note what is wrong with `value` as the entry of the vmemmap page `page`, where `old` is and
    older entries may be in a TLB.
    """
    model = world.model
    if not _is_looked_at(world) or not model.meaning(value, 0).cacheable:
        return
    frame = model.meaning(value, 0).frame
    blocks = [
        (entry, block.frame + page % world.leaf) for entry, block in _stale_blocks(world, slot)
    ]
    if model.hardware.sizes_must_agree:
        for block in blocks:
            _check_agree(world, page, block, (value, frame))
        return
    held = [old] + [entry for key, entry, _ in world.stale if key == page]
    pairs = [
        (entry, model.meaning(entry, 0).frame)
        for entry in held
        if entry != value and model.meaning(entry, 0).cacheable
    ]
    if any(_regroups(world, entry, value) for entry, _ in pairs):
        world.note(
            "break-before-make",
            f"the contiguous bit of the live entry of vmemmap page {page} changes",
        )
        return
    for entry, where in pairs + blocks:
        if _conflict(world, entry, where, value, frame):
            what = f"the entry of vmemmap page {page} goes from frame {where} to frame {frame}"
            if where == frame:
                what = f"the attributes in the entry of vmemmap page {page} change"
            world.note("break-before-make", f"{what} while a TLB may hold the old one")
            return


def _stale_blocks(world: "World", slot: int) -> "list[tuple[int, Meaning]]":
    """The blocks that TLBs may still hold of the PMD slot `slot`: entries, and what they say."""
    found = [
        (entry, world.model.meaning(entry, 1))
        for key, entry, _ in world.stale
        if key == LEVEL1 + slot
    ]
    return [(entry, block) for entry, block in found if block.kind == "leaf"]


def _regroups(world: "World", old: int, new: int) -> bool:
    """Whether one of two leaves of a level is in a contiguous group and the other is not, on a CPU
    that wants a break for that.
    """
    is_contiguous = world.model.v.format.is_contiguous
    return is_contiguous(old) != is_contiguous(new) and not size_change_allowed(
        world.model.hardware, contiguous_only=True
    )


def _conflict(world: "World", old: int, old_frame: int, new: int, new_frame: int) -> bool:
    """Whether two leaves must not be in a TLB together; frames whose stores are not visible yet are
    not equal.
    """
    for frame in (old_frame, new_frame):
        world.reads(FRAME + frame)
        world.reads_words(frame, 0, ROW)
    visible = not is_unordered(world, old_frame) and not is_unordered(world, new_frame)
    equal = visible and world.contents[old_frame] == world.contents[new_frame]
    same = old_frame == new_frame
    return needs_break(
        world.model.v.format, old, new, same_output=same, same_contents=same or equal
    )
