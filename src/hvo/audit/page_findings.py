"""Findings about HugeTLB pages: made of what `hvo.audit.classify` found."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from hvo.audit.classify import OPTIMISED, PARTLY, PLAIN, Classified
from hvo.audit.findings import Finding, Spot
from hvo.audit.frames import FREE, Frames
from hvo.audit.links import Links
from hvo.audit.pages import Matrix, row_any
from hvo.audit.vmemmap import BEYOND, VmemmapPages

_HELD = (
    ("frame-free", "a frame that is allocated"),
    ("tail-frame", "the shared frame, or one with its own struct pages"),
    ("frame-shared", "a frame of its own"),
    ("frame-foreign", "a frame that only holds struct pages"),
    ("own-read-only", "a writable entry"),
)
"""Rules about a vmemmap page that is not on the shared frame, and what would have been right."""


def entry_spots(found: Classified, frames: Frames, *, protects: bool) -> Iterator[Spot]:
    """What is wrong with entries of HugeTLB pages; one spot for each page and rule, the first entry
    named. `protects`: the kernel maps shared tails read-only.
    """
    pages = found.pages
    writable = pages.writable & protects
    shared_at = found.expected.frame
    yield from _each(
        found,
        "tail-writable",
        found.shared & writable,
        lambda row, _: (
            f"a tail is writable, on the shared frame {int(shared_at[row]):#x}",
            f"a read-only entry of frame {int(shared_at[row]):#x}",
        ),
    )
    yield from _each(
        found,
        "not-present",
        found.lacking,
        lambda row, column: (f"vmemmap page {column} is not mapped", "a valid entry"),
    )
    yield from _each(
        found,
        "beyond-ram",
        pages.bits & np.uint8(BEYOND) != 0,
        lambda row, column: (
            f"vmemmap page {column} maps a frame that no memory section has",
            "a frame in RAM",
        ),
    )
    for rule, wanted in _HELD:
        yield from _held(found, frames, rule, wanted)


def _each(
    found: Classified, rule: str, where: Matrix, say: Callable[[int, int], tuple[str, str]]
) -> Iterator[Spot]:
    """A spot for each row of `where` that has any; `say(row, column)` gives what and what was
    expected.
    """
    for row in np.flatnonzero(row_any(where)).tolist():
        column = int(np.argmax(where[row]))
        what, expected = say(row, column)
        yield Spot(
            rule,
            int(found.pages.pfn[row]),
            int(found.pages.index[row]) + column,
            what,
            expected,
            int(where[row].sum()),
        )


def _held(found: Classified, frames: Frames, rule: str, wanted: str) -> Iterator[Spot]:
    held = found.held
    here = held.breaking(rule)
    rows, first, counts = np.unique(held.row[here], return_index=True, return_counts=True)
    for row, at, count in zip(rows.tolist(), here[first].tolist(), counts.tolist(), strict=True):
        column, frame = int(held.column[at]), int(held.frame[at])
        index = int(found.pages.index[row]) + column
        kind = "read-only" if not found.pages.writable[row, column] else "writable"
        what = f"vmemmap page {column} maps frame {frame:#x} {kind}, {frames.whose(frame, index)},"
        yield Spot(
            rule,
            int(found.pages.pfn[row]),
            index,
            what,
            _expected(found, row, column, wanted),
            count,
        )


def _expected(found: Classified, row: int, column: int, otherwise: str) -> str:
    """The shared frame where other tails of the page are on it."""
    if column >= found.expected.kept and found.shared[row].any():
        return f"a read-only entry of frame {int(found.expected.frame[row]):#x}"
    return otherwise


def state_spots(found: Classified) -> Iterator[Spot]:
    """Where the kernel's flag and the mapping disagree, and pages that are optimised in part."""
    pages, state = found.pages, found.state
    usable = row_any(found.own[:, found.expected.kept :])
    yield from _rows(
        found,
        "flag-without-mapping",
        pages.flagged & (state == PLAIN) & usable,
        "the kernel takes the page for optimised, but its vmemmap pages have frames of their own",
        "shared tails, or no flag",
    )
    yield from _rows(
        found,
        "mapping-without-flag",
        ~pages.flagged & (state == OPTIMISED),
        "its vmemmap pages share a frame, but the kernel does not take the page for optimised",
        "HPG_vmemmap_optimized set",
    )
    tails = found.shared.shape[1] - found.expected.kept
    for row in np.flatnonzero(state == PARTLY).tolist():
        count = int(found.shared[row].sum())
        own = found.expected.kept + int(np.argmax(found.own[row, found.expected.kept :]))
        what = f"{count} of {tails} tails share a frame, vmemmap page {own} has one of its own"
        yield Spot(
            "partly-optimised",
            int(pages.pfn[row]),
            int(pages.index[row]) + own,
            what,
            "all or none",
        )


def poison_spots(found: Classified, bit: int | None) -> Iterator[Spot]:
    """Optimised HugeTLB pages whose heads have PG_hwpoison, which is `bit` of the flags (None: this
    kernel has it not).
    """
    if bit is not None:
        poisoned = (found.pages.flags >> np.uint64(bit)) & np.uint64(1) != 0
        what = "the page has a hardware error, and is optimised"
        yield from _rows(found, "poisoned", poisoned & (found.state != PLAIN), what, "no error")


def _rows(
    found: Classified, rule: str, which: NDArray[np.bool_], what: str, expected: str
) -> Iterator[Spot]:
    column = min(found.expected.kept, found.pages.vmemmap_pages - 1)
    for row in np.flatnonzero(which).tolist():
        yield Spot(
            rule, int(found.pages.pfn[row]), int(found.pages.index[row]) + column, what, expected
        )


def tail_spots(found: Classified, frames: Frames, links: Links) -> Iterator[Spot]:
    """Shared frames of tails: of another zone, with other contents than tails, or free; one spot
    where all who share one are concerned.
    """
    expected, pages = found.expected, found.pages
    wrong = expected.wrong_zone & row_any(found.shared)
    for frame in np.unique(expected.frame[wrong]).tolist():
        users = np.flatnonzero((expected.frame == frame) & row_any(found.shared))
        named = users[:1] if wrong[users].all() else users[wrong[users]]
        for row in named.tolist():
            what = f"the frame of tails {frame:#x} belongs to another zone or order"
            own = "the frame of tails of the page's own zone and order"
            yield Spot("tail-zone", int(pages.pfn[row]), int(pages.index[row]) + 1, what, own)
    yield from _contents(
        found, frames, links, np.unique(expected.frame[~wrong & row_any(found.shared)])
    )


def _contents(
    found: Classified, frames: Frames, links: Links, shared: NDArray[np.int64]
) -> Iterator[Spot]:
    sound, states = links.masks(shared, found.pages.order), frames.states(shared)
    for frame, well, state in zip(shared.tolist(), sound.tolist(), states.tolist(), strict=True):
        row = int(np.flatnonzero((found.expected.frame == frame) & row_any(found.shared))[0])
        at = (
            int(found.pages.pfn[row]),
            int(found.pages.index[row]) + int(np.argmax(found.shared[row])),
        )
        if state == FREE:
            yield Spot(
                "frame-free",
                *at,
                f"the frame of tails {frame:#x} is free in the page allocator,",
                "a frame that is allocated",
            )
        elif not well:
            yield Spot(
                "tail-link",
                *at,
                f"the frame of tails {frame:#x} holds others than tails of such pages,",
                "links that are masks",
            )


def link_findings(found: Classified, vmemmap: VmemmapPages) -> Iterator[Finding]:
    """Tails that do not lead to their head: one finding a HugeTLB page, the first one named."""
    held = found.held
    here = held.breaking("tail-link")
    rows, first = np.unique(held.row[here], return_index=True)
    for row, at in zip(rows.tolist(), here[first].tolist(), strict=True):
        mine = here[held.row[here] == row]
        count, which = int(held.links.wrong[mine].sum()), int(held.links.which[at])
        index = np.array([found.pages.index[row] + held.column[at]], np.intp)
        yield tail_link_finding(
            pfn=int(found.pages.pfn[row]),
            tail=int(vmemmap.pfn(index)[0]) + which,
            address=int(vmemmap.address(index)[0]) + which * vmemmap.sections.struct_page_size,
            link=int(held.links.value[at]),
            head=int(held.links.expected[at]),
            count=count,
        )


def tail_link_finding(
    *, pfn: int, tail: int, address: int, link: int, head: int, count: int
) -> Finding:
    """The HugeTLB page at `pfn` has `count` tails with wrong links, the first of which is that of
    frame `tail`, whose struct page is at the virtual `address`.
    """
    more = f" ({count} tails, the first is named)" if count > 1 else ""
    message = (
        f"pfn {pfn:#x}: the struct page of tail {tail:#x} at {address:#x} has link"
        f" {link:#x}{more}; expected one to {head:#x}"
    )
    expected = f"a link to the head's struct page at {head:#x}"
    return Finding("tail-link", pfn, address, link, expected, message, count)
