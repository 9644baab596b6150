"""Commits of Linux that introduced, fixed or removed something, as the kernel's history names
them.

Hashes, subjects and versions were read in `Fixes:` tags, in "commit ... upstream" lines of the
stable lists and in the push logs of kernel.org.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Commit:
    """A commit of mainline: 12 digits of its hash, its subject, and the first release that has it.

    `hash` is None if only revisions from before the merge were found.
    """

    hash: str | None
    subject: str
    version: str

    def __str__(self) -> str:
        """As in a kernel log: `d8d55f5616cf ("mm: ...") in v5.18`."""
        quoted = f'"{self.subject}" in {self.version}'
        return quoted if self.hash is None else f'{self.hash} ("{self.subject}") in {self.version}'

    def short(self) -> str:
        """Hash and version, for tables: `d8d55f5616cf v5.18`."""
        return f"{self.hash or '(no hash)'} {self.version}"


ARM64_DISABLED = Commit(
    "060a2c92d1b6", "arm64: mm: hugetlb: Disable HUGETLB_PAGE_OPTIMIZE_VMEMMAP", "v6.3"
)
ARM64_ENABLED = Commit(
    "1e63ac088f20", "arm64: mm: hugetlb: enable HUGETLB_PAGE_FREE_VMEMMAP for arm64", "v5.19"
)
BOOT_TIME_HVO = Commit("752fe17af693", "mm/hugetlb: add pre-HVO framework", "v6.15")
DTOR_AFTER_VMEMMAP = Commit(
    "32c877191e02", "hugetlb: do not clear hugetlb dtor until allocating vmemmap", "v6.5"
)
FLAG_BEFORE_OPTIMIZING = Commit(
    "d8f5f7e445f0", "hugetlb: set hugetlb page flag before optimizing vmemmap", "v6.7"
)
HWPOISON_AFTER_FLAG = Commit(
    "5596d9e8b553",
    "mm/hugetlb: fix potential race in __update_and_free_hugetlb_folio()",
    "v6.10",
)
LEAF_PAGE_UNDER_LOCK = Commit(
    "3ce2c24cb68f", "mm: hugetlb_vmemmap: fix a race between vmemmap pmd split", "v6.6"
)
LOADS_ORDERED = Commit(None, "mm/hugetlb_vmemmap: fix memory loads ordering", "v6.14")
ODD_STRUCT_PAGE_REFUSED = Commit(
    "0effdf461c57",
    "mm: hugetlb_vmemmap: disable hugetlb_optimize_vmemmap when struct page crosses page"
    " boundaries",
    "v5.19",
)
OTHER_NODES = Commit(
    "2eaa6c2abb9d",
    "mm: hugetlb_vmemmap: fix hugetlb page number decrease failed on movable nodes",
    "v6.7",
)
PAGE_TABLE_LOCK = Commit(
    "d8d55f5616cf",
    "mm: sparsemem: use page table lock to protect kernel pmd operations",
    "v5.18",
)
PTDUMP_HOTPLUG_LOCK = Commit(
    "59305202c67f",
    "mm/ptdump: take the memory hotplug lock inside ptdump_walk_pgd()",
    "v6.17",
)
ROLLBACK = Commit(
    "c7bde43f6daf", "mm/hugetlb_vmemmap: fix incorrect vmemmap restore in rollback", "v7.1"
)
S390_DISABLED = Commit("64e2f60f355e", "s390: Disable ARCH_WANT_OPTIMIZE_HUGETLB_VMEMMAP", "v6.18")
SELF_HOSTED = Commit(
    "66361095129b",
    "mm: memory_hotplug: make hugetlb_optimize_vmemmap compatible with memmap_on_memory",
    "v6.0",
)
SPECULATIVE_WALKERS = Commit(
    "bd225530a4c7", "mm/hugetlb_vmemmap: fix race with speculative PFN walkers", "v6.10"
)
WRITE_PROTECT_RANGE = Commit(
    None, "mm/hugetlb_vmemmap: fix __hugetlb_vmemmap_optimize_folios()", "v7.2"
)
