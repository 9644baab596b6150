"""What `hvo audit --json` and `hvo ptdump --json` print."""

from typing import Annotated, Literal, TypedDict

from hvo.report.contracts.units import Bytes, Command, Count, Frames, Pages, Share, VmemmapPages


class Counts(TypedDict):
    """HugeTLB pages of one size."""

    pages: Pages
    optimized: Annotated[Pages, "of which all vmemmap pages behind the kept ones share a frame"]
    partial: Annotated[Pages, "of which only some do"]
    flagged: Annotated[Pages, "that the kernel takes for optimised"]
    free: Pages
    self_hosted: Annotated[
        Pages, "in memory blocks that host their own vmemmap, which no kernel optimises"
    ]
    saved: Annotated[Bytes, "given back by those that are optimised"]
    possible: Annotated[Bytes, "that optimising the others would give back"]


class NodeCounts(Counts):
    """HugeTLB pages of one size on one node."""

    node: Annotated[int, "NUMA node"]


class AuditPool(Counts):
    """HugeTLB pages of one size, on all nodes and on each."""

    size: Annotated[Bytes, "one page"]
    vmemmap_pages: Annotated[VmemmapPages, "of one page"]
    backing_frames: Annotated[Frames, "that all their vmemmap pages are on"]
    nodes: Annotated[list[NodeCounts], "nodes that have pages of this size"]


class Lost(TypedDict):
    """HugeTLB pages that were given back and that the page allocator has refused."""

    pages: Pages
    frames: Annotated[Frames, "behind their vmemmap"]
    bytes: Annotated[Bytes, "memory that nobody has"]


class FoundDefect(TypedDict):
    """A known defect of released kernels that this memory shows."""

    id: Annotated[str, "as in docs/hazards.md"]
    summary: str
    pages: Annotated[Pages, "that it concerns"]
    frames: Annotated[VmemmapPages, "that are wrong in them"]
    fixed: Annotated[str | None, "release that mended it, null if none is known"]


class Dax(TypedDict):
    """What device DAX saves by itself, apart from HugeTLB."""

    vmemmap_pages: Annotated[VmemmapPages, "of its memory"]
    frames: Annotated[Frames, "that they map"]
    saved: Bytes


class Finding(TypedDict):
    """One thing that is wrong, or with severity info a fact about the kernel."""

    id: Annotated[str, "the rule that is broken (docs/findings.md)"]
    severity: Literal["error", "warning", "info"]
    pfn: Annotated[int, "the frame; if it is about a HugeTLB page, its head's"]
    address: Annotated[int, "virtual address"]
    message: Annotated[str, "one line for people"]
    entry: Annotated[int, "what was found there: a page-table entry, or the word in a struct page"]
    expected: Annotated[str, "what should be there"]
    count: Annotated[Count, "vmemmap pages that are so; the first is named"]


class Cells(TypedDict):
    """A picture of the vmemmap: the lists have an element for each of its equal parts."""

    frames: Annotated[Frames, "that one part covers"]
    start: Annotated[list[int], "first frame of each part"]
    outside: Annotated[list[Share], "struct pages outside HugeTLB pages"]
    own: Annotated[list[Share], "in a HugeTLB page, on a frame of their own"]
    shared: Annotated[list[Share], "in a HugeTLB page, on a shared frame"]
    findings: Annotated[list[Share], "that a finding is about"]
    unmapped: Annotated[list[Share], "not mapped"]


class KernelAudit(TypedDict):
    """The HugeTLB pages and the vmemmap of one kernel's memory."""

    kernel: Annotated[str, "release"]
    arch: str
    page_size: Annotated[Bytes, "base page"]
    struct_page_size: Bytes
    layout: Annotated[
        Literal["none", "two-kept", "head-shared", "tail-shared"],
        "who shares which frame, as the page tables show",
    ]
    sections: Annotated[Count, "memory sections"]
    table_cost: Annotated[Bytes, "tables in place of leaves that were split"]
    saved: Bytes
    possible: Annotated[Bytes, "that optimising the other pages would give back"]
    pools: Annotated[list[AuditPool], "one for each size there is"]
    lost: Lost
    defects: list[FoundDefect]
    dax: Dax
    findings: list[Finding]
    notes: Annotated[list[str], "what cannot be optimised, and why"]
    missing: Annotated[list[str], "what the memory lacks and was not looked at"]
    cells: Cells


class Audit(KernelAudit):
    """What `hvo audit --json` prints: the HugeTLB pages and the vmemmap of one kernel's memory."""

    command: Command


class Ptdump(TypedDict):
    """What `hvo ptdump --json` prints: the kernel's own dump of its page tables."""

    region: Annotated[Literal["vmemmap"], "part of the kernel's address space"]
    start: Annotated[int, "its first virtual address"]
    end: Annotated[int, "the address behind it"]
    lines: Annotated[list[str], "of /sys/kernel/debug/kernel_page_tables"]
    command: Command
