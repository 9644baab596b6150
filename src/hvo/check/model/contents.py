"""What a read of a struct page returns while CPUs may use translations to different frames.

It must not matter which: each of these frames must lead every struct page to the same head, looked
at as the kernel's `compound_head` does. (Flags that are written in one of them only are lost
updates, a property of their own.)
"""

from collections.abc import Iterable

from hvo.check.model.access import leads_to, translations
from hvo.check.model.footprint import COPY, FRAME
from hvo.check.model.geometry import BASE, ROW, STRUCTS
from hvo.check.model.state import KIND, PRIVATE, STATUS, STRUCT
from hvo.check.model.world import World
from hvo.kernel.struct_page import FLAGS, LINK, WORDS
from hvo.mmu.shape import WORD


def check_reads(world: World, pages: Iterable[int]) -> None:
    """Note when a read by one of `pages` could lead to another head, by an entry that a TLB may
    still hold than by the one in the tables.
    """
    if not world.stale or not world.model.live or world.model.geometry.struct_words != WORDS:
        return
    for page in pages:
        leaves = {
            meaning.frame
            for meaning in translations(world, page, world.model.every_cpu)
            if meaning.kind == "leaf" and meaning.frame < len(world.status)
        }
        if len(leaves) > 1:
            _compare(world, page, sorted(leaves))


def check_contents(world: World, frame: int) -> None:
    """Note it when what `frame` holds has changed; one that only its owner sees is in no
    translation.
    """
    world.reads(FRAME + frame)
    if world.model.live and world.status[frame] & STATUS != PRIVATE:
        check_reads(world, leads_to(world, frame))


def _compare(world: World, page: int, frames: list[int]) -> None:
    for frame in frames:
        world.reads(FRAME + frame)
        world.reads_words(frame, 0, ROW)
    found = {
        frame: heads_in(world, page, world.contents[frame])
        for frame in frames
        if world.status[frame] & KIND == STRUCT
    }
    if len(set(found.values())) < 2:
        return
    first, *others = found
    other = next(frame for frame in others if found[frame] != found[first])
    index = next(i for i in range(STRUCTS) if found[first][i] != found[other][i])
    pfn = page * STRUCTS + index
    world.note(
        "stale-contents",
        f"a read of the link of pfn {pfn} leads to pfn {found[first][index]} through frame {first}"
        f" and to pfn {found[other][index]} through frame {other}, and a TLB may hold both",
    )


def heads_in(world: World, page: int, row: tuple[int, ...]) -> tuple[int, ...]:
    """The head of each struct page of vmemmap page `page` where its frame holds `row`."""
    return tuple([_head(world, page * STRUCTS + index, index, row) for index in range(STRUCTS)])


def _head(world: World, pfn: int, index: int, row: tuple[int, ...]) -> int:
    pages, at = world.model.pages, index * WORDS
    if row[at + LINK] & 1:
        return _linked(pages.struct_size, pfn, row[at + LINK])
    field = pages.field("head")
    is_head = row[at + FLAGS] & field.mask
    following = row[at + WORDS + LINK] if index + 1 < STRUCTS else 0
    if is_head and not index and world.model.v.era.layout.shares == "head" and following & 1:
        return _linked(pages.struct_size, pfn + 1, following)
    return pfn


def _linked(struct_size: int, pfn: int, link: int) -> int:
    """Where a link, an address or (7.1) a mask, leads from `pfn`."""
    link &= WORD ^ 1
    if link >> 48 == 0xFFFF:
        return (pfn * struct_size & link) // struct_size
    return (link - BASE) // struct_size


# -- stores --


def put_word(world: World, frame: int, at: int, value: int) -> None:
    """Change a word that a vmemmap page shows, and look whether a copy of it misses that."""
    if world.contents[frame][at] == value:
        return
    changed = world.contents[frame][at] ^ value
    world.put(frame, at, value)
    check_contents(world, frame)
    copies: list[tuple[int, int, int, int, int]] = []
    for copy in world.copies:
        page = copy[0]
        if copy[1] == frame and copy[3] == at // WORDS:
            world.reads_words(copy[2], at, 1)
            if not (world.contents[copy[2]][at] ^ value) & changed:
                copies.append(copy)  # the copy has it too: it saw the store in the buffer
                continue
            world.changes(COPY + copy[2])
            if any(
                meaning.frame == copy[2]
                for meaning in translations(world, page, world.model.every_cpu)
            ):
                world.note(
                    "lost-update",
                    f"a write to vmemmap page {page} reaches frame {frame}, which was copied"
                    f" to frame {copy[2]} before",
                )
            copies.append((*copy[:4], 1))
        else:
            copies.append(copy)
    world.copies = tuple(sorted(set(copies)))
