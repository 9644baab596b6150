"""The properties that `hvo check` searches for violations of, the most severe first."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Property:
    """A property: its sentence, an example that violates it (`bad`), and one that does not."""

    id: str
    sentence: str
    bad: str
    good: str


PROPERTIES = (
    Property(
        "write-read-only",
        "No store goes through a read-only translation.",
        "PG_dcache_clean of a tail is cleared after the tail's page was remapped read-only",
        "PG_dcache_clean of the head is cleared instead",
    ),
    Property(
        "shared-tail-written",
        "No write reaches a shared tail where the architecture leaves it writable (riscv64).",
        "a bit of a tail's flags is cleared: nothing faults, and every tail of the frame changes",
        "the bit is cleared in the flags of the head",
    ),
    Property(
        "access-freed",
        "No translation that a CPU may use leads to a frame that was freed, reused or removed.",
        "a page table is installed whose entries map frames that another CPU has freed",
        "the page table is freed, because another CPU has installed one",
    ),
    Property(
        "freed-while-cached",
        "No frame is freed while a TLB may hold a translation to it.",
        "frames are freed before the TLB invalidation is complete",
        "the invalidation is requested and awaited, then the frames are freed",
    ),
    Property(
        "access-invalid",
        "No access in kernel mode hits an invalid entry in a context that cannot wait.",
        "an interrupt handler reads a struct page between break and make",
        "the other CPUs are stopped between break and make",
    ),
    Property(
        "break-before-make",
        "On arm64 no live entry is replaced by one that a TLB must not hold together with it.",
        "the output address of a writable entry is changed in one store",
        "invalid entry, invalidation, completion, new entry",
    ),
    Property(
        "freed-table",
        "No page table is accessed after it was freed, or freed while a CPU may walk it.",
        "ptdump reads a table that hot-remove has freed",
        "ptdump holds the memory hotplug lock",
    ),
    Property(
        "wrong-frame",
        "Entries that are built from a leaf map the leaf's frames.",
        "the frame of a table that another CPU has just installed is taken for the leaf's",
        "leaf and frame are read under the page-table lock",
    ),
    Property(
        "old-contents",
        "No entry maps a frame before the stores to that frame are visible to all CPUs.",
        "an entry is pointed at a copy without a write barrier",
        "copy, write barrier, entry",
    ),
    Property(
        "stale-contents",
        "A struct page leads to the same head in every frame that a TLB may hold for its address.",
        "the old frames are overwritten before the flush",
        "flush, then overwrite them",
    ),
    Property(
        "mixed-sizes",
        "On x86-64 a 4 KiB entry agrees with a 2 MiB entry that a TLB may still hold.",
        "a leaf is split, and an entry of its table is changed before the flush",
        "split, flush, change the entry",
    ),
    Property(
        "lost-update",
        "No store to a struct page is lost when its vmemmap page is copied.",
        "a flag of the head is set in the old frame after it was copied",
        "the flag is set before the copy",
    ),
    Property(
        "tail-writable",
        "Entries that map a shared tail page are read-only after optimise.",
        "the range to write-protect is given in pages instead of bytes",
        "every entry is write-protected",
    ),
    Property(
        "wrong-head",
        "`compound_head()` of every tail returns its head.",
        "restored vmemmap pages begin with copies of the head",
        "their first struct pages are reset to tails",
    ),
    Property(
        "wrong-zone",
        "A page's tails are those of its own zone.",
        "the shared tail of another zone is mapped",
        "`vmemmap_tails` of the page's zone is looked up",
    ),
    Property(
        "poison-freed",
        "No frame with a recorded error reaches the page allocator without HWPoison.",
        "an error is recorded after the record was moved to the base pages",
        "the record is moved after the HugeTLB flag is cleared",
    ),
    Property(
        "leak",
        "No frame is leaked, and none is freed twice.",
        "a page table is overwritten by another CPU's",
        "the loser frees its table",
    ),
    Property(
        "counters",
        "Counters and flags agree with the page tables when all actors are done.",
        "a failed optimise leaves the static key raised",
        "optimise lowers the key again on failure",
    ),
    Property(
        "assertion",
        "What an actor asserts holds.",
        "a reader asserts that the page it found is a head, and it is a tail",
        "it looks at the static key first",
    ),
    Property(
        "deadlock",
        "As long as an actor is not done, some actor can take a step.",
        "two CPUs wait for each other's lock",
        "both take the locks in the same order",
    ),
    Property(
        "no-progress",
        "A page whose restore failed leaves the pool once any node has free memory.",
        "restore allocates from one node only, and that node has none",
        "restore falls back to other nodes",
    ),
)
"""Every property, in the order in which a violation is reported."""

SEVERITY = {rule.id: place for place, rule in enumerate(PROPERTIES)}
"""Place of each property; 0 is the most severe."""
