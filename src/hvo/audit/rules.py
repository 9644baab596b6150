"""What an audit looks for: one rule for each finding, with an example that breaks it and one that
does not.

`docs/findings.md` is made of these (`hvo.audit.findings_page`).
"""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]
"""error: the vmemmap is unsound, or memory is lost; warning: it is sound, but somebody should know;
info: a fact about the kernel, nothing is wrong.
"""


class Rule(NamedTuple):
    """One rule: `id` as findings name it, what must hold in a `sentence`, and vmemmap that breaks
    it (`bad`) and that keeps it (`good`).
    """

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
            "A vmemmap page of an optimised HugeTLB page that maps the shared frame is read-only.",
            "vmemmap page 3 maps the head's frame and may be written: a store to struct page 200"
            " changes struct page 8 as well",
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
            "A vmemmap page of a HugeTLB page maps the shared frame, or one of its own with its"
            " struct pages.",
            "vmemmap pages 1 to 6 map frame 0x5c20 and page 7 frame 0x1234, which is a page table",
            "vmemmap pages 1 to 7 all map frame 0x5c20",
        ),
        Rule(
            "own-read-only",
            "error",
            "A vmemmap page that has a frame of its own, as that of the head, may be written.",
            "vmemmap page 0 is read-only: the kernel faults when it takes a reference on the"
            " HugeTLB page",
            "vmemmap page 0 is writable, whatever the others are",
        ),
        Rule(
            "not-present",
            "error",
            "Every vmemmap page of memory that is online is mapped.",
            "the entry of vmemmap page 5 of a HugeTLB page is 0: to read struct page 320 is a"
            " fault",
            "the vmemmap of memory that is offline has holes",
        ),
        Rule(
            "beyond-ram",
            "error",
            "A vmemmap page maps a frame that exists.",
            "vmemmap page 2 maps frame 0xffffff000 of a machine with 1 GiB",
            "every frame that is mapped lies in a memory section",
        ),
        Rule(
            "flag-without-mapping",
            "error",
            "A HugeTLB page that the kernel takes for optimised is mapped so.",
            "HPG_vmemmap_optimized is set, all 8 vmemmap pages have frames of their own: to restore"
            " it leaks 7 frames",
            "the flag is set, and vmemmap pages 1 to 7 share a frame",
        ),
        Rule(
            "mapping-without-flag",
            "error",
            "A HugeTLB page whose vmemmap pages share a frame has the kernel's flag.",
            "vmemmap pages 1 to 7 share a frame, HPG_vmemmap_optimized is clear: it is freed"
            " without being restored",
            "the flag is clear, and every vmemmap page has a frame of its own",
        ),
        Rule(
            "partly-optimised",
            "warning",
            "Either all vmemmap pages behind the kept ones share a frame, or none does.",
            "vmemmap pages 1 to 4 share the head's frame, pages 5 to 7 have frames of their own"
            " with sound struct pages",
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
            "A frame of the vmemmap is nothing else.",
            "vmemmap page 4 maps frame 0x8400, which is a part of another HugeTLB page",
            "the frame's own struct page is that of an allocated page, in no compound page and"
            " mapped nowhere else",
        ),
        Rule(
            "frame-shared",
            "error",
            "But for the frames that tails share, no frame holds the struct pages of two places.",
            "the first vmemmap pages of the HugeTLB pages 0x8400 and 0x8600 map the same frame",
            "every HugeTLB page has a head frame of its own; all may map one frame of tails that"
            " belongs to their zone",
        ),
        Rule(
            "tail-link",
            "error",
            "Every tail of a HugeTLB page leads to its head.",
            "the link of struct page 130 leads to the head of the neighbouring page",
            "the first struct page of a shared vmemmap page looks like a head (a fake head, 5.18 to"
            " 7.0); all others lead to the real one",
        ),
        Rule(
            "tail-zone",
            "error",
            "A frame of tails is shared in one zone of one node, by HugeTLB pages of one order.",
            "a HugeTLB page of zone Normal maps the frame of tails that belongs to zone DMA32",
            "all HugeTLB pages of 2 MiB in one zone map one frame of tails",
        ),
        Rule(
            "table-loop",
            "error",
            "A page table is used once: no entry leads back to a table above it, no two entries"
            " lead to one table.",
            "an entry of a middle table points at the very table that it is in",
            "the tables that map the vmemmap are a tree",
        ),
        Rule(
            "table-beyond-ram",
            "error",
            "A page table lies in a frame that exists.",
            "an entry points at a table in frame 0xffffff000 of a machine with 1 GiB",
            "every table lies in a memory section",
        ),
        Rule(
            "self-hosted",
            "error",
            "The vmemmap of memory that hosts it itself (memmap_on_memory) is not optimised.",
            "a HugeTLB page in a block whose first frames hold the block's struct pages is"
            " optimised: those frames were given away",
            "HugeTLB pages in such a block have all their vmemmap pages on the block's own frames",
        ),
        Rule(
            "lost-page",
            "error",
            "A vmemmap page with a frame of its own holds no copy of a head.",
            "a restored page's vmemmap pages 1 to 7 begin with copies of its head: the allocator"
            " refuses the 512 frames (H19)",
            "a vmemmap page begins with the head of a real compound page, or with no head",
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
            "An optimised HugeTLB page has no hardware error (one is no fault of the vmemmap).",
            "PG_hwpoison is set in the head of an optimised HugeTLB page: which of its frames is"
            " broken is not in its struct pages",
            "PG_hwpoison is clear",
        ),
    )
}
"""Every rule by its id, in the order of the documentation."""
