"""The rules that no interleaving may break, the most severe first: each with an id, a sentence, and
an example on either side.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Property:
    """One rule: what must never happen, one run that breaks it, and one that comes close and does
    not.
    """

    id: str
    sentence: str
    bad: str
    good: str


PROPERTIES = (
    Property(
        "write-read-only",
        "No write meets a translation that is read-only.",
        "a bit of a tail's flags is cleared after the tail's page was made read-only",
        "the bit is cleared in the flags of the head",
    ),
    Property(
        "shared-tail-written",
        "No write reaches a shared tail where the architecture leaves it writable (riscv64).",
        "a bit of a tail's flags is cleared: nothing faults, and every tail of the frame changes",
        "the bit is cleared in the flags of the head",
    ),
    Property(
        "access-freed",
        "No translation that may be used leads to a frame that was freed, reused or has vanished.",
        "a table is installed whose entries map frames that another CPU gave back",
        "the table is thrown away, because one is there",
    ),
    Property(
        "freed-while-cached",
        "No frame is freed while a CPU may still hold a translation to it.",
        "the frames go before the flush is complete",
        "request, wait, free",
    ),
    Property(
        "access-invalid",
        "No access in kernel mode meets an entry that is invalid, unless it can wait there.",
        "a struct page is read while its entry is broken",
        "the other CPUs are stopped meanwhile",
    ),
    Property(
        "break-before-make",
        "On arm64 a live entry is not exchanged for one that a TLB must not hold beside it.",
        "an entry is pointed at another frame while it is writable",
        "invalid entry, invalidation, completion, new entry",
    ),
    Property(
        "freed-table",
        "No page table is read or written after it was freed, nor freed while a CPU may walk it.",
        "a dump reads on in a table that hot-remove gave back",
        "the dump holds the hotplug lock",
    ),
    Property(
        "wrong-frame",
        "An entry that is built from a leaf maps the leaf's frames.",
        "the frame of a table, just installed by another CPU, is taken for the leaf's",
        "leaf and frame are read together under the lock",
    ),
    Property(
        "old-contents",
        "Nothing leads to a frame before what was stored in it is visible to all CPUs.",
        "an entry is pointed at a copy with no barrier between",
        "copy, write barrier, entry",
    ),
    Property(
        "mixed-sizes",
        "On x86-64 a page's entry agrees with a large one that a TLB may hold beside it.",
        "a leaf is split, and an entry of its table leads elsewhere before the flush",
        "split, flush, then exchange the entry",
    ),
    Property(
        "lost-update",
        "A struct page that was copied is not changed in the old place before the copy takes over.",
        "a flag is set in the head's old frame after it was copied",
        "the flag is set before the copy",
    ),
    Property(
        "tail-writable",
        "The entries of shared tails are read-only once the page is optimised.",
        "the end of the range is counted in pages instead of bytes",
        "every entry is protected",
    ),
    Property(
        "wrong-head",
        "Every tail leads to its head, in every era's way of looking.",
        "restored vmemmap pages still hold copies of the head",
        "their first struct pages are reset to tails",
    ),
    Property(
        "poison-freed",
        "No poisoned frame reaches the page allocator unmarked.",
        "an error is recorded after the record was moved to the pages",
        "the record is moved after the mark is gone",
    ),
    Property(
        "leak",
        "In the end every frame is mapped, a table, known to the kernel, or free; and none is freed"
        " twice.",
        "a table is overwritten by another CPU's",
        "the loser frees its table",
    ),
    Property(
        "counters",
        "In the end the counters, and what each huge page says of itself, agree with the mapping.",
        "a failed optimise leaves the key raised",
        "the key goes down again on failure",
    ),
    Property(
        "deadlock",
        "Somebody can always go on until all are done.",
        "two CPUs wait for each other's lock",
        "one order of locks",
    ),
    Property(
        "no-progress",
        "A page whose vmemmap cannot be restored leaves the pool once there is memory anywhere.",
        "restore asks one node only, which has none",
        "it falls back to other nodes",
    ),
)
"""Every property, in the order in which a violation is reported."""

SEVERITY = {rule.id: place for place, rule in enumerate(PROPERTIES)}
"""Place of each property; 0 is the most severe."""
