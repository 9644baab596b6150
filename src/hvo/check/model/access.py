"""How an access finds its frame: everything that a TLB may hold or a walker may find, and what must
not be met on the way.
"""

from hvo.check.model.footprint import FAULTS, FRAME, TRANSLATION, WORDS_OF_FRAME, Footprint
from hvo.check.model.geometry import KERNEL_FRAME, PMD_FRAME
from hvo.check.model.state import (
    ALLOCATED,
    KIND,
    LEVEL1,
    PRIVATE,
    STATUS,
    STRUCT,
    Meaning,
)
from hvo.check.model.world import Fault, Waits, World


def translations(world: World, page: int, cpus: int) -> list[Meaning]:
    """Everything that one of `cpus` (bits) may use for vmemmap page `page`: leaves of pages, "none"
    where a walk may end in a fault.
    """
    slot, index = divmod(page, world.leaf)
    model = world.model
    out: list[Meaning] = []
    world.touched.reads |= (
        world.cells[TRANSLATION + page] | world.cells[TRANSLATION + LEVEL1 + slot]
    )
    pmds = [world.contents[PMD_FRAME][slot]]
    for key, entry, mask in world.stale:
        if not mask & cpus:
            continue
        if key == page:
            out.append(model.meaning(entry, 0))
        elif key == LEVEL1 + slot:
            pmds.append(entry)
    for pmd in pmds:
        meaning = model.meaning(pmd, 1)
        if meaning.kind == "leaf":
            out.append(Meaning("leaf", meaning.frame + index, meaning.writable, meaning.cacheable))
        elif meaning.kind == "table":
            world.reads(FRAME + meaning.frame)
            if world.status[meaning.frame] & STATUS not in (ALLOCATED, PRIVATE):
                world.note(
                    "freed-table",
                    f"a walk for vmemmap page {page} reads the table in frame {meaning.frame},"
                    " which is free",
                )
            out.append(model.meaning(world.contents[meaning.frame][index], 0))
        else:
            out.append(meaning)
    return out


def is_live(world: World, frame: int) -> bool:
    """Whether a frame that the vmemmap maps is still its own."""
    world.reads(FRAME + frame)
    if frame >= len(world.status):
        return False
    state = world.status[frame]
    return state & STATUS in (ALLOCATED, PRIVATE) and state & KIND in (0, STRUCT)


def frames_of(world: World, page: int, *, write: bool, what: str) -> list[int]:
    """The frames that an access to the vmemmap page `page` may reach; notes what must not happen on
    the way.
    """
    if not 0 <= page < world.model.geometry.vmemmap_pages:
        raise world.fault("wrong-head", f"{what} leaves the vmemmap: a link leads nowhere")
    usable: list[int] = []
    before, waits = len(world.found), False
    for meaning in translations(world, page, world.model.cpu(world.actor)):
        if meaning.kind != "leaf":
            waits = _meet_invalid(world, page, what) or waits
        elif not meaning.cacheable and not _set_access_flag(world, page):
            world.note(
                "access-invalid",
                f"{what} meets an entry of vmemmap page {page} whose access flag is clear",
            )
        elif write and not meaning.writable:
            if _is_spurious(world, page, meaning.frame):
                continue
            world.note(
                "write-read-only", f"{what} writes vmemmap page {page}, which is mapped read-only"
            )
        elif write and _is_shared_tail(world, page, meaning.frame):
            world.note(
                "shared-tail-written",
                f"{what} writes vmemmap page {page}, whose frame {meaning.frame} other tails share",
            )
        elif not is_live(world, meaning.frame):
            world.note(
                "access-freed",
                f"{what} reaches frame {meaning.frame} by vmemmap page {page}: it is not the"
                " vmemmap's any more",
            )
        elif meaning.frame not in usable:
            usable.append(meaning.frame)
    _conflict_abort(world, page, what)
    if len(world.found) > before:
        raise Fault
    if waits and not usable:
        raise Waits
    return usable


def _is_spurious(world: World, page: int, frame: int) -> bool:
    """Whether a write that met a read-only translation is tried again with what the tables say now,
    where the same frame is writable (`spurious_kernel_fault`, arch/x86/mm/fault.c; the fault drops
    the translation). No other architecture here does that for a permission fault.
    """
    slot, index = divmod(page, world.leaf)
    pmd = world.model.meaning(world.contents[PMD_FRAME][slot], 1)
    now = pmd._replace(frame=pmd.frame + index)
    if pmd.kind == "table":
        now = world.model.meaning(world.contents[pmd.frame][index], 0)
    return (
        world.model.hardware.handles_spurious_faults
        and now.kind == "leaf"
        and now.writable
        and now.frame == frame
    )


def leads_to(world: World, frame: int) -> list[int]:
    """The vmemmap pages for which any CPU may use a translation to `frame`.

    A page that cannot lead there now can only by a step that looks at the frame's fate, so what is
    read of other pages is not declared.
    """
    touched, pages = world.touched, list[int]()
    for page in range(world.model.geometry.vmemmap_pages):
        world.touched = Footprint()
        if any(
            meaning.kind == "leaf" and meaning.frame == frame
            for meaning in translations(world, page, world.model.every_cpu)
        ):
            pages.append(page)
            touched.include(world.touched)
    world.touched = touched
    return pages


def _is_shared_tail(world: World, page: int, frame: int) -> bool:
    """Whether vmemmap page `page` is a tail's and shows other tails' frame, on a machine that lets
    it be written.
    """
    v, g = world.model.v, world.model.geometry
    head, index = page - page % g.group, page % g.group
    if v.format.protects or index < v.era.layout.kept_pages:
        return False
    world.reads_words(KERNEL_FRAME, 0, 8)
    others = [other for other in range(head, head + g.used) if other != page]
    return frame + 1 in world.contents[KERNEL_FRAME][:8] or any(
        meaning.kind == "leaf" and meaning.frame == frame
        for other in others
        for meaning in translations(world, other, 0)
    )


def _meet_invalid(world: World, page: int, what: str) -> bool:
    """A fault in kernel mode is an error, unless it is handled by waiting and the one who meets it
    may wait -> whether it waits.
    """
    world.reads(FAULTS)
    if world.faults_wait and not world.urgent:
        return True
    waiting = " where it cannot wait" if world.faults_wait else ""
    world.note("access-invalid", f"{what} meets an invalid entry of vmemmap page {page}{waiting}")
    return False


# -- the access flag --


def _set_access_flag(world: World, page: int) -> bool:
    """The walker finds the access flag clear -> whether the hardware sets it, in the block or in
    the entry of the page; else the access faults.
    """
    if not world.model.hardware.hardware_access_flag:
        return False
    slot, index = divmod(page, world.leaf)
    pmd = world.model.meaning(world.contents[PMD_FRAME][slot], 1)
    if pmd.kind == "leaf" and not pmd.cacheable:
        set_access_flag(world, PMD_FRAME, slot, 1)
    elif pmd.kind == "table":
        set_access_flag(world, pmd.frame, index, 0)
    return True


def walk_on_a_guess(world: World, table: int, index: int, level: int) -> None:
    """Before an entry is written, a walker may have set a clear access flag with no access
    (FEAT_HAFDBS lets it do so), of a block as of a page.
    """
    if level > 1 or not world.model.hardware.hardware_access_flag:
        return
    meaning = world.model.meaning(world.contents[table][index], level)
    if meaning.kind == "leaf" and not meaning.cacheable and world.choose(2):
        set_access_flag(world, table, index, level)


def set_access_flag(world: World, table: int, index: int, level: int) -> None:
    """The hardware sets the access flag of an entry."""
    world.changes(table * WORDS_OF_FRAME + index)
    if level:
        world.changes(TRANSLATION + LEVEL1 + index)
    else:
        for slot in slots_of(world, table):
            world.changes(TRANSLATION + slot * world.leaf + index)
    world.put(table, index, world.contents[table][index] | world.model.v.format.accessed)


def slots_of(world: World, table: int) -> list[int]:
    """The PMD slots through which a walk may reach the table in frame `table`.

    Whoever makes another one lead there changes the frame's fate, which the caller reads.
    """
    meaning = world.model.meaning
    found = {
        slot
        for slot, pmd in enumerate(world.contents[PMD_FRAME][: world.model.geometry.leaves])
        if meaning(pmd, 1)[:2] == ("table", table)
    }
    found |= {
        key - LEVEL1
        for key, entry, _ in world.stale
        if key >= LEVEL1 and meaning(entry, 1)[:2] == ("table", table)
    }
    for slot in found:
        world.reads(TRANSLATION + LEVEL1 + slot)
    return sorted(found)


def _conflict_abort(world: World, page: int, what: str) -> None:
    """With FEAT_BBM level 2 entries of two sizes may make the TLB abort, except on cores known not
    to.
    """
    hardware = world.model.hardware
    if not hardware.breaks_before_make or hardware.bbm_level != 2 or hardware.noabort:
        return
    slot, index = divmod(page, world.leaf)
    stale = [entry for key, entry, _ in world.stale if key == LEVEL1 + slot]
    pmd = world.model.meaning(world.contents[PMD_FRAME][slot], 1)
    kinds = {world.model.meaning(entry, 1).kind for entry in stale}
    if stale and kinds | {pmd.kind} >= {"leaf", "table"}:
        world.note(
            "access-invalid", f"{what} meets a block and its table at once: TLB conflict abort"
        )
    stale = [entry for key, entry, _ in world.stale if key == page]
    entries = stale + ([world.contents[pmd.frame][index]] if pmd.kind == "table" else [])
    groups = {
        world.model.v.format.is_contiguous(entry)
        for entry in entries
        if world.model.meaning(entry, 0).cacheable
    }
    if stale and len(groups) > 1:
        world.note(
            "access-invalid",
            f"{what} meets an entry of a contiguous group and one of none at once: TLB conflict"
            " abort",
        )
