"""arm64's break-before-make, looked at whenever an entry is written: no reader is needed, for a walker may have cached the old one."""

from typing import TYPE_CHECKING

from hvo.check.footprint import STRUCT_PAGE
from hvo.check.geometry import STRUCTS
from hvo.check.model import LEVEL1
from hvo.check.ordering import is_unordered
from hvo.check.rules import needs_break, size_change_allowed

if TYPE_CHECKING:
    from hvo.check.world import World

_NAMES = {"leaf": "block", "table": "table"}


def check_pmd(world: "World", slot: int, old: int, value: int) -> None:
    """Note what is wrong with `value` in the PMD slot `slot`, where `old` is and older entries may be in a TLB."""
    model = world.model
    if not model.rules.breaks_before_make or not model.live or not model.meaning(value, 1).cacheable:
        return
    for entry in [old] + [e for key, e, _ in world.stale if key == LEVEL1 + slot]:
        if entry != value and model.meaning(entry, 1).cacheable:
            _check_pmd_pair(world, slot, entry, value)


def _check_pmd_pair(world: "World", slot: int, old: int, value: int) -> None:
    held, new = world.model.meaning(old, 1), world.model.meaning(value, 1)
    if held.kind != new.kind and not size_change_allowed(world.model.rules, contiguous_only=False):
        world.note("break-before-make", f"a live {_NAMES[held.kind]} is replaced by a {_NAMES[new.kind]}")
        return
    for index in range(world.leaf):
        a, b = _page_entry(world, old, index), _page_entry(world, value, index)
        if a is not None and b is not None and _conflict(world, *a, *b):
            world.note("break-before-make", f"vmemmap page {slot * world.leaf + index} changes under a live PMD entry")
            return


def _page_entry(world: "World", pmd: int, index: int) -> tuple[int, int] | None:
    """(entry, frame) of page `index` under a PMD entry; None where there is nothing a TLB may hold."""
    meaning = world.model.meaning(pmd, 1)
    if meaning.kind == "leaf":
        return pmd, meaning.frame + index
    entry = world.contents[meaning.frame][index]
    page = world.model.meaning(entry, 0)
    return (entry, page.frame) if page.cacheable else None


def check_pte(world: "World", slot: int, page: int, old: int, value: int) -> None:
    """Note what is wrong with `value` as the entry of the vmemmap page `page`, where `old` is and older entries may be in a TLB."""
    model = world.model
    if not model.rules.breaks_before_make or not model.live or not model.meaning(value, 0).cacheable:
        return
    frame = model.meaning(value, 0).frame
    held = [old] + [entry for key, entry, _ in world.stale if key == page]
    pairs = [(entry, model.meaning(entry, 0).frame) for entry in held if entry != value and model.meaning(entry, 0).cacheable]
    for key, entry, _ in world.stale:
        block = model.meaning(entry, 1) if key == LEVEL1 + slot else None
        if block is not None and block.kind == "leaf":
            pairs.append((entry, block.frame + page % world.leaf))
    for entry, where in pairs:
        if _conflict(world, entry, where, value, frame):
            why = "while a TLB may hold the old one"
            world.note("break-before-make", f"the entry of vmemmap page {page} goes from frame {where} to frame {frame} {why}")
            return


def _conflict(world: "World", old: int, old_frame: int, new: int, new_frame: int) -> bool:
    """Whether two leaves must not be in a TLB together; frames whose stores are not visible yet are not equal."""
    for frame in (old_frame, new_frame):
        world.touched += [(STRUCT_PAGE, frame * STRUCTS + index, 0) for index in range(STRUCTS)]
    visible = not is_unordered(world, old_frame) and not is_unordered(world, new_frame)
    equal = visible and world.contents[old_frame] == world.contents[new_frame]
    same = old_frame == new_frame
    return needs_break(world.model.v.format, old, new, same_output=same, same_contents=same or equal)
