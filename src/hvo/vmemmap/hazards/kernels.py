"""H01 to H19: hazards of released kernels, of their development, and of the proposals for arm64."""

from hvo.vmemmap.hazards import commit
from hvo.vmemmap.hazards.hazard import Hazard

KERNEL_HAZARDS = (
    Hazard(
        "H01a",
        "Split of a live block without break-before-make",
        "The split stores a table descriptor over a live block descriptor. On arm64 without"
        " FEAT_BBM level 2 that requires break-before-make: a CPU whose walker has cached the block"
        " may hold both translations. No reader is needed for the violation.",
        "v5.19 on arm64",
        commit.ARM64_DISABLED,
        "break-before-make",
        note="Stable 6.1.16 and 6.2.3 disable it too. A new arm64 series is under review.",
    ),
    Hazard(
        "H01b",
        "Remap of a live writable entry without break-before-make",
        "The remap stores (shared frame, read-only) over (own frame, writable). The output address"
        " changes and the old entry is writable, so arm64 requires break-before-make at every"
        " FEAT_BBM level.",
        "v5.19 on arm64",
        commit.ARM64_DISABLED,
        "break-before-make",
        note="Stable 6.1.16 and 6.2.3 disable it too. A new arm64 series is under review.",
    ),
    Hazard(
        "H02",
        "Cache maintenance writes the flags of a tail",
        "flush_dcache_page() and __sync_icache_dcache() change PG_dcache_clean in the struct page"
        " they are given. For a tail of an optimised page that is a store to a read-only mapping.",
        "v5.14 on architectures that keep PG_dcache_clean",
        commit.ARM64_ENABLED,
        "write-read-only",
        note="The commit that enabled the optimisation on arm64 redirects to the head's flags, so"
        " no arm64 release has the hazard.",
    ),
    Hazard(
        "H03a",
        "Speculative reference to a page that became a tail",
        "A page-frame walker reads the nonzero reference count of an ordinary page. The page is"
        " freed, becomes a tail of a huge page and is remapped read-only before the walker"
        " increments the count.",
        "v5.14",
        commit.SPECULATIVE_WALKERS,
        "write-read-only",
    ),
    Hazard(
        "H03b",
        "Fake-head check done before the reference-count check",
        "The fix of H03a lets a walker test for a fake head and for a nonzero count, in that order"
        " or, on a weakly ordered machine, in either. The page is optimised between the two loads,"
        " and the walker increments a read-only count.",
        "v6.10",
        commit.LOADS_ORDERED,
        "write-read-only",
        note="Only revisions of this fix from before its merge were found, hence no hash.",
    ),
    Hazard(
        "H03c",
        "Speculative reference without a read-side section",
        "From v7.1 compound_head() masks the address of a tail, and walkers take references outside"
        " an RCU read-side section. A walker that looked up the head of an ordinary page does its"
        " compare-and-swap after the page became a tail.",
        "v7.1",
        None,
        "write-read-only",
        note="Found by `hvo check`. No report and no fix is known.",
    ),
    Hazard(
        "H04",
        "Two splits of one leaf",
        "Two huge pages share a leaf, and two CPUs that optimise them both see the leaf. The second"
        " table replaces the first: entries map frames that the first CPU freed, and the first"
        " table leaks.",
        "v5.14",
        commit.PAGE_TABLE_LOCK,
        "access-freed",
    ),
    Hazard(
        "H05",
        "Frame of the leaf read outside the page-table lock",
        "The split reads the frame of the leaf without the lock. If another CPU splits the leaf in"
        " between, entries are built from the frame of that CPU's table. The table is discarded"
        " under the lock, but set_pte_at() has seen a wrong struct page.",
        "v5.18",
        commit.LEAF_PAGE_UNDER_LOCK,
        "wrong-frame",
    ),
    Hazard(
        "H06",
        "HugeTLB flag cleared before the vmemmap is restored",
        "The free path clears the HugeTLB flag and restores the vmemmap afterwards. Memory failure"
        " in between sees a base page and sets HWPoison in a read-only tail.",
        "v5.14",
        commit.DTOR_AFTER_VMEMMAP,
        "write-read-only",
    ),
    Hazard(
        "H07",
        "Page optimised before its HugeTLB flag is set",
        "A new page is optimised first and gets the HugeTLB flag later. Memory failure in between"
        " sees a base page and sets HWPoison in a read-only tail.",
        "v5.14",
        commit.FLAG_BEFORE_OPTIMIZING,
        "write-read-only",
    ),
    Hazard(
        "H08",
        "Poison record lost while a page is freed",
        "The free path moves the list of raw errors to the base pages and then clears the HugeTLB"
        " flag. An error that memory failure records in between stays on the list, and its frame"
        " reaches the page allocator without HWPoison.",
        "v6.5",
        commit.HWPOISON_AFTER_FLAG,
        "poison-freed",
        note=f"Introduced by the fix of H06, {commit.DTOR_AFTER_VMEMMAP.hash}.",
    ),
    Hazard(
        "H09",
        "Self-hosted vmemmap optimised",
        "A block added with memmap_on_memory holds its own vmemmap. Optimisation frees vmemmap"
        " frames of the block to the buddy allocator; hot-remove then takes away frames that are in"
        " use.",
        "v6.0 without its check",
        commit.SELF_HOSTED,
        "access-freed",
        note="The commit that allows both features at once has the check, so no release has the"
        " hazard.",
    ),
    Hazard(
        "H10",
        "struct page that straddles two vmemmap pages",
        "If sizeof(struct page) is not a power of two, a struct page may cross the boundary of a"
        " vmemmap page. With shared tail pages its second half belongs to another struct page.",
        "v5.14",
        commit.ODD_STRUCT_PAGE_REFUSED,
        "wrong-head",
    ),
    Hazard(
        "H11",
        "Frames freed without a TLB flush",
        "The batch frees its frames after flush_tlb_all(). If that flushes no kernel translation,"
        " as on s390, another CPU still reads through its old translation when the allocator hands"
        " the frame out.",
        "v6.7 on s390",
        commit.S390_DISABLED,
        "access-freed",
    ),
    Hazard(
        "H12",
        "Restore allocates from one node only",
        "Restore allocates with __GFP_THISNODE. If the node has only movable memory, the page never"
        " leaves the pool although other nodes have free memory.",
        "v5.14",
        commit.OTHER_NODES,
        "no-progress",
    ),
    Hazard(
        "H13",
        "Rollback rebuilds the head from the tail template",
        "The second leaf of a page cannot be split. The rollback restores every entry from the tail"
        " template, the first one too, which maps the copied head.",
        "v7.1-rc1",
        commit.ROLLBACK,
        "wrong-head",
        note='Introduced by c0b495b91a47 ("mm/hugetlb: refactor code around vmemmap_walk") and'
        " fixed before v7.1.",
    ),
    Hazard(
        "H14",
        "Two CPUs publish a shared tail",
        "Two CPUs see that a zone has no shared tail, allocate one each, and both store theirs. The"
        " first frame leaks.",
        "v7.1 in development",
        None,
        "leak",
        note="Not in a release: v7.1 publishes with a compare-and-swap, and the loser frees its"
        " frame.",
    ),
    Hazard(
        "H15",
        "Shared tails of boot-time pages left writable",
        "The range to write-protect is given in pages instead of bytes. Of the 4095 tail entries of"
        " a 1 GiB page that was reserved at boot, 4032 stay writable.",
        "v6.15 on x86-64",
        commit.WRITE_PROTECT_RANGE,
        "tail-writable",
        note=f"Introduced by {commit.BOOT_TIME_HVO.hash}; measured in 6.16.12, 6.18.15, 6.19.14,"
        " 7.0.13 and 7.1.13, gone in 7.2.12. Only revisions of the fix from before its merge were"
        " found, hence no hash.",
    ),
    Hazard(
        "H16",
        "Page-table dump races with hot-remove",
        "ptdump reads a PMD that points to a table. Hot-remove frees the table, and the dump reads"
        " it.",
        "before v5.14",
        commit.PTDUMP_HOTPLUG_LOCK,
        "freed-table",
        note="Optimise and restore free no table, so a dump without any lock is safe against them.",
    ),
    Hazard(
        "H17",
        "Flush, free and retry in the middle of a batch",
        "After -ENOMEM a batch flushes all TLBs, frees its list of frames and tries the page again."
        " A frame would be freed too early if the same page had entries remapped after that flush.",
        "v6.7",
        None,
        "freed-while-cached",
        note="Not a defect: `hvo check` finds no violation.",
    ),
    Hazard(
        "H18",
        "Update of an entry that fails half-way",
        "With the access-flag protocol an update may return -EAGAIN after some entries of a page"
        " were remapped. The page is optimised in part; without the optimized flag its tails look"
        " writable.",
        "arm64 series of 2026",
        None,
        "write-read-only",
        note="Under review.",
    ),
    Hazard(
        "H19",
        "Restored vmemmap pages are copies of the head",
        "Stable 6.12.114 takes the restore of v7.1, which copies the mapped frame as it is. In 6.12"
        " that frame is the head's, and its first struct pages must be reset to tails. The"
        " allocator refuses the frames (Bad page state), and every optimised page that is freed is"
        " lost.",
        "stable 6.12.114",
        None,
        "wrong-head",
        note="No fix is known up to 6.12.117; 6.12.113 and 6.18.44 do not have it. 6.18.51"
        f" backports {commit.ROLLBACK.hash} as d73f79d1a2c2 and has not been measured.",
    ),
)
"""The first list."""
