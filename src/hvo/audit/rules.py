"""The rules of the audit: one for each kind of finding.

`docs/findings.md` is made of these (`hvo.audit.findings_page`).
"""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]
"""error: the vmemmap is inconsistent, or memory is lost; warning: neither, but worth knowing;
info: a fact about the kernel, nothing is wrong.
"""


class Rule(NamedTuple):
    """A rule: its `sentence`, a vmemmap that breaks it (`bad`), and one that does not (`good`)."""

    id: str
    severity: Severity
    sentence: str
    bad: str
    good: str


RULES = {
    rule.id: rule
    for rule in (
        Rule(
            "tail-writable",
            "error",
            "A vmemmap page that maps the shared frame of an optimised HugeTLB page is read-only.",
            "vmemmap page 3 maps the head's frame writable: a store to struct page 200 also"
            " changes struct page 8",
            "vmemmap pages 1 to 7 map the head's frame read-only",
        ),
        Rule(
            "tail-unprotected",
            "info",
            "The kernels of the architecture can map shared tails read-only. Told once.",
            "riscv64 and loongarch64 define no PAGE_KERNEL_RO, and the fallback is PAGE_KERNEL:"
            " shared tails are writable, and a store to one is no fault but changes every tail that"
            " shares the frame",
            "x86-64 and arm64 map shared tails read-only",
        ),
        Rule(
            "tail-frame",
            "error",
            "A vmemmap page of a HugeTLB page maps the shared frame or a frame of its own"
            " struct pages.",
            "vmemmap pages 1 to 6 map frame 0x5c20, page 7 maps frame 0x1234, which is a page"
            " table",
            "vmemmap pages 1 to 7 all map frame 0x5c20",
        ),
        Rule(
            "own-read-only",
            "error",
            "A vmemmap page with a frame of its own, such as that of the head, is writable.",
            "vmemmap page 0 is read-only: the kernel faults when it takes a reference to the"
            " HugeTLB page",
            "vmemmap page 0 is writable",
        ),
        Rule(
            "not-present",
            "error",
            "Every vmemmap page of online memory is mapped.",
            "the entry of vmemmap page 5 of a HugeTLB page is 0: a load from struct page 320"
            " faults",
            "only the vmemmap of offline memory is unmapped",
        ),
        Rule(
            "beyond-ram",
            "error",
            "A vmemmap page maps a frame that exists.",
            "vmemmap page 2 maps frame 0xffffff000 on a machine with 1 GiB",
            "every mapped frame is in a memory section",
        ),
        Rule(
            "flag-without-mapping",
            "error",
            "A HugeTLB page with HPG_vmemmap_optimized set is mapped as optimised.",
            "the flag is set, but all 8 vmemmap pages have frames of their own: restore leaks 7"
            " frames",
            "the flag is set, and vmemmap pages 1 to 7 share a frame",
        ),
        Rule(
            "mapping-without-flag",
            "error",
            "A HugeTLB page whose vmemmap pages share a frame has HPG_vmemmap_optimized set.",
            "vmemmap pages 1 to 7 share a frame, but the flag is clear: the page is freed"
            " without restore",
            "the flag is clear, and every vmemmap page has a frame of its own",
        ),
        Rule(
            "partly-optimised",
            "warning",
            "Either all vmemmap pages behind the kept ones share a frame, or none does.",
            "vmemmap pages 1 to 4 share the head's frame, pages 5 to 7 have frames of their own"
            " with valid struct pages",
            "vmemmap pages 1 to 7 share the head's frame",
        ),
        Rule(
            "frame-free",
            "error",
            "No frame that the vmemmap or a page table of it uses is free in the page allocator.",
            "the head's frame 0x5c20 lies in a free block, whose first struct page is PageBuddy:"
            " whoever allocates it overwrites struct pages",
            "the head's frame is in no free block; it may have no reference of its own, as all but"
            " the first frame of a larger allocation",
        ),
        Rule(
            "frame-foreign",
            "error",
            "A frame of the vmemmap has no other use.",
            "vmemmap page 4 maps frame 0x8400, which is part of another HugeTLB page",
            "the frame is allocated, in no compound page, and mapped nowhere else",
        ),
        Rule(
            "frame-shared",
            "error",
            "Except for shared tail pages, no frame holds the struct pages of two places.",
            "the first vmemmap pages of the HugeTLB pages 0x8400 and 0x8600 map the same frame",
            "every HugeTLB page has its own head frame; all map the shared tail page of their zone",
        ),
        Rule(
            "tail-link",
            "error",
            "`compound_head()` of every tail of a HugeTLB page returns its head.",
            "compound_head of struct page 130 points to the head of the neighbouring page",
            "the first struct page of a shared vmemmap page is a fake head (5.18 to 7.0); all"
            " others point to the real head",
        ),
        Rule(
            "tail-zone",
            "error",
            "A shared tail page is used in one zone of one node, by HugeTLB pages of one order.",
            "a HugeTLB page in zone Normal maps the shared tail page of zone DMA32",
            "all 2 MiB HugeTLB pages of a zone map one shared tail page",
        ),
        Rule(
            "table-loop",
            "error",
            "A page table is referenced once: the tables form a tree.",
            "an entry of a PMD table points to the same PMD table",
            "every table of the vmemmap has one parent entry",
        ),
        Rule(
            "table-beyond-ram",
            "error",
            "A page table lies in a frame that exists.",
            "an entry points to a table in frame 0xffffff000 on a machine with 1 GiB",
            "every table is in a memory section",
        ),
        Rule(
            "self-hosted",
            "error",
            "The vmemmap of self-hosted memory (memmap_on_memory) is not optimised.",
            "a HugeTLB page in a block that holds its own vmemmap is optimised: vmemmap frames"
            " of the block were freed",
            "HugeTLB pages in such a block map the block's own vmemmap frames",
        ),
        Rule(
            "lost-page",
            "error",
            "A vmemmap page with a frame of its own holds no copy of a head.",
            "vmemmap pages 1 to 7 of a restored page begin with copies of its head: the"
            " allocator refuses the 512 frames (hazard H19: restored vmemmap pages are copies"
            " of the head)",
            "a vmemmap page begins with the head of a compound page, or with no head",
        ),
        Rule(
            "orphaned-remap",
            "error",
            "Only HugeTLB pages have vmemmap pages that are read-only or share a frame.",
            "vmemmap pages share a frame read-only where no HugeTLB page is: the kernel faults when"
            " it writes these struct pages",
            "vmemmap outside HugeTLB pages may be written, each page on a frame of its own;"
            " device-DAX memory, in no online section, may share frames of tails",
        ),
        Rule(
            "poisoned",
            "warning",
            "An optimised HugeTLB page has no hardware error.",
            "PG_hwpoison is set in the head of an optimised HugeTLB page: its struct pages do"
            " not tell which frame is poisoned",
            "PG_hwpoison is clear",
        ),
    )
}
"""Every rule by its id, in the order of the documentation."""
