"""The audit of a kernel's memory: which HugeTLB pages are optimised, and is the vmemmap sound.

Nothing depends on a version: the layout is read off the mapping and the values
(`hvo.audit.layout`), what VMCOREINFO exports are hints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hvo.audit.cells import cells
from hvo.audit.classify import OPTIMISED, PARTLY, Classified, classify, first_links
from hvo.audit.constants import check_constants
from hvo.audit.dax import dax
from hvo.audit.defects import found_defects
from hvo.audit.findings import Finding, Spot, with_entries
from hvo.audit.frames import FREE, Frames
from hvo.audit.heads import Heads, find_heads
from hvo.audit.layout import Expected, Layout, detect, expected
from hvo.audit.links import Links
from hvo.audit.notes import notes
from hvo.audit.outside import LostPage, Outside, hole_spots, lost_pages, lost_spots, orphan_spots
from hvo.audit.outside_frames import outside_frame_spots
from hvo.audit.page_findings import (
    entry_spots,
    link_findings,
    poison_spots,
    state_spots,
    tail_spots,
)
from hvo.audit.pages import HugePages, huge_pages, within_memory
from hvo.audit.protection import protects_tails, unprotected_spots
from hvo.audit.recover import hidden_frames, unmapped_heads
from hvo.audit.result import Audit, Counts, Pool
from hvo.audit.self_hosted import Block, in_blocks, self_hosted_blocks, self_hosted_spots
from hvo.audit.tables import TableFault, Tables, read_tables
from hvo.audit.tail_links import plain_link_findings
from hvo.audit.vmemmap import VmemmapPages
from hvo.errors import HvoError
from hvo.kernel.image import KernelImage, KernelMemory
from hvo.kernel.page_members import PageMembers
from hvo.kernel.sections import Pfns, Sections
from hvo.kernel.zone_bits import ZoneBits
from hvo.memory.core import CoreMemory

Announce = Callable[[str], None]


def _silent(phase: str) -> None:
    """Nobody watches."""


def audit(memory: KernelMemory, announce: Announce = _silent) -> Audit:
    """Audit the kernel in `memory`; `announce` is told what is being done.

    Raises `HvoError` when the kernel's page tables or memory sections cannot be found or read.
    """
    return _Auditor.of(memory, announce).audit()


@dataclass(frozen=True)
class _Auditor:
    """What all parts of an audit look at."""

    image: KernelImage
    sections: Sections
    members: PageMembers
    tables: Tables
    vmemmap: VmemmapPages
    heads: Heads
    outside_memory: Heads
    zones: ZoneBits
    announce: Announce

    @classmethod
    def of(cls, memory: KernelMemory, announce: Announce) -> _Auditor:
        announce("finding the vmemmap")
        check_constants(memory.vmcoreinfo)
        image = KernelImage.of(memory)
        sections = Sections.of(image)
        if not len(sections.numbers):
            raise HvoError(
                f"kernel {memory.vmcoreinfo.text('OSRELEASE')}: mem_section[] has no section,"
                " expected some with struct pages"
            )
        if (
            sections.pages * sections.struct_page_size % image.page_size
            or (sections.memmap % np.uint64(image.page_size)).any()
        ):
            raise HvoError(
                "the struct pages of a section do not begin and end with a page: mem_section[] or"
                " its constants are damaged"
            )
        tables = read_tables(image, sections)
        announce("walking the vmemmap")
        vmemmap = VmemmapPages.read(image, sections, tables)
        announce("finding HugeTLB pages")
        members = PageMembers.of(image, sections)
        heads = find_heads(vmemmap, members)
        inside = within_memory(vmemmap, heads)
        return cls(
            image,
            sections,
            members,
            tables,
            vmemmap,
            heads.select(inside),
            heads.select(~inside),
            ZoneBits.of(memory.vmcoreinfo, heads.flags),
            announce,
        )

    def audit(self) -> Audit:
        self.announce("looking at HugeTLB pages")
        groups = tuple(huge_pages(self.vmemmap, self.heads))
        links = Links(self.members, self.vmemmap.structs)
        first = [first_links(pages, self.vmemmap, links) for pages in groups]
        outside = Outside.of(self.vmemmap, self.members, groups)
        layout = detect(
            groups, has_masks=self.image.info.offset("page.compound_info", None) is not None
        )
        frames = Frames(self.members, self.vmemmap, self.tables, groups)
        found = [
            classify(pages, self._expected(pages, layout), self.vmemmap, frames, links, begun)
            for pages, begun in zip(groups, first, strict=True)
        ]
        self.announce("looking at the rest of the vmemmap")
        kept = np.concatenate([np.zeros(0, np.int64), *(pages.own_frames for pages in found)])
        lost = lost_pages(outside, kept) if self._whole else []
        spots = [
            *self._page_spots(layout, found, frames, links),
            *self._outside_spots(outside, lost, kept, frames),
        ]
        findings = [*self._table_findings(frames), *with_entries(self.vmemmap, spots)]
        findings += [finding for pages in found for finding in self._link_findings(pages)]
        findings.sort(key=lambda each: (each.severity == "info", each.pfn, each.id))
        return self._result(layout, found, lost, findings, outside)

    def _link_findings(self, found: Classified) -> Iterator[Finding]:
        if self._whole and found.pages.vmemmap_pages:
            return link_findings(found, self.vmemmap)
        return plain_link_findings(found.pages, self.vmemmap, self.members)

    @property
    def _whole(self) -> bool:
        """Whether a vmemmap page has whole struct pages; else no kernel optimises, and none
        straddling two is looked at.
        """
        return self.image.page_size % self.sections.struct_page_size == 0

    def _expected(self, pages: HugePages, layout: Layout) -> Expected:
        return expected(pages, layout, self.members, self.zones)

    def _page_spots(
        self, layout: Layout, found: list[Classified], frames: Frames, links: Links
    ) -> Iterator[Spot]:
        protects = protects_tails(self.image.format, found)
        if not protects:
            yield from unprotected_spots(found)
        for pages in found:
            if pages.pages.vmemmap_pages < 2:
                continue
            yield from entry_spots(pages, frames, protects=protects)
            yield from state_spots(pages)
            yield from self_hosted_spots(pages, self.self_hosted)
            yield from poison_spots(pages, self.image.info.number("PG_hwpoison", None))
            if layout == "tail-shared":
                yield from tail_spots(pages, frames, links)
        for pfn, index in zip(
            self.outside_memory.pfn, self.vmemmap.index_of(self.outside_memory.pfn), strict=True
        ):
            what = "a HugeTLB page reaches into memory that has no struct pages"
            yield Spot("not-present", int(pfn), int(index), what, "sections up to the page's end")

    @cached_property
    def self_hosted(self) -> list[Block]:
        """Memory blocks that host their own vmemmap."""
        return self_hosted_blocks(self.vmemmap, self.members)

    def _outside_spots(
        self, outside: Outside, lost: list[LostPage], kept: Pfns, frames: Frames
    ) -> Iterator[Spot]:
        yield from hole_spots(outside)
        yield from lost_spots(outside, lost)
        yield from orphan_spots(outside, kept)
        yield from outside_frame_spots(outside, frames)

    def _table_findings(self, frames: Frames) -> Iterator[Finding]:
        for fault in self.tables.faults:
            hidden = unmapped_heads(self.vmemmap, self.members, frames, fault).tolist()
            first, last = hidden_frames(self.vmemmap, fault)
            for pfn in hidden or [first]:
                yield _table_finding(fault, pfn, last, len(hidden))
        states = frames.states(self.tables.all)
        for frame in self.tables.all[states == FREE].tolist():
            message = (
                f"the page table in frame {frame:#x}, which maps vmemmap, is free in the page"
                " allocator"
            )
            yield Finding(
                "frame-free",
                frame,
                frame * self.image.page_size,
                0,
                "a frame that is allocated",
                message,
            )

    def _result(
        self,
        layout: Layout,
        found: list[Classified],
        lost: list[LostPage],
        findings: list[Finding],
        outside: Outside,
    ) -> Audit:
        info = self.image.info
        pools = tuple(_pool(pages, self) for pages in found)
        return Audit(
            info.text("OSRELEASE"),
            self.image.arch,
            self.image.page_size,
            self.sections.struct_page_size,
            layout,
            len(self.sections.numbers),
            self.tables.cost_frames * self.image.page_size,
            pools,
            tuple(lost),
            tuple(found_defects(found, lost, self.image.page_size)),
            dax(self.vmemmap),
            tuple(findings),
            tuple(notes(self.sections.struct_page_size, pools)),
            tuple(self._missing(found, outside)),
            cells(self.vmemmap, found, findings),
        )

    def _missing(self, found: list[Classified], outside: Outside) -> Iterator[str]:
        hidden = sum(int(np.count_nonzero(pages.held.links.wrong < 0)) for pages in found)
        hidden += outside.missing
        if hidden:
            yield (
                f"{hidden} vmemmap pages are not in the memory: their struct pages were not"
                " looked at"
            )
        if isinstance(self.image.memory, CoreMemory):
            yield from self.image.memory.lacks()
        if len(self.heads.unreadable):
            yield (
                f"{len(self.heads.unreadable)} frames could be HugeTLB pages, but their struct"
                " pages are not mapped or not in the memory"
            )


def _table_finding(fault: TableFault, pfn: int, last: int, hidden: int) -> Finding:
    about = (
        f"the struct pages of {hidden} HugeTLB pages are behind it, one of them this"
        if hidden
        else f"the struct pages of all frames up to {last:#x} are behind it"
    )
    message = (
        f"pfn {pfn:#x}: the entry {fault.entry:#x} of level {fault.level} for {fault.address:#x}"
        f" {fault.what}; {about}"
    )
    return Finding(
        fault.rule,
        pfn,
        fault.address,
        fault.entry,
        "an entry that leads to a table of its own",
        message,
    )


def _pool(found: Classified, auditor: _Auditor) -> Pool:
    pages = found.pages
    node = auditor.zones.node(pages.flags)
    hosted = in_blocks(pages.pfn, auditor.self_hosted)

    def counts(which: NDArray[np.bool_]) -> Counts:
        return _counts(found, which, hosted, auditor)

    total, numbers = counts(np.ones(len(node), np.bool_)), np.flatnonzero(np.bincount(node))
    several = len(numbers) > 1
    nodes = {each: counts(node == each) if several else total for each in numbers.tolist()}
    return Pool(
        pages.size,
        pages.vmemmap_pages,
        found.frames,
        total,
        nodes,
        pages.pfn,
        node,
        found.state,
        pages.flagged,
    )


def _counts(
    found: Classified,
    which: NDArray[np.bool_],
    hosted: NDArray[np.bool_],
    auditor: _Auditor,
) -> Counts:
    state, size = found.state[which], auditor.image.page_size
    shared = int(found.shared_tails[which].sum())
    tails = int(found.own_tails[which & ~hosted].sum())
    power_of_two = auditor.sections.struct_page_size.bit_count() == 1
    return Counts(
        pages=int(np.count_nonzero(which)),
        optimized=int(np.count_nonzero(state == OPTIMISED)),
        partial=int(np.count_nonzero(state == PARTLY)),
        flagged=int(np.count_nonzero(found.pages.flagged[which])),
        free=int(np.count_nonzero(found.pages.free[which])),
        self_hosted=int(np.count_nonzero(which & hosted)),
        saved=shared * size,
        possible=tails * size if power_of_two else 0,
    )
