"""H20 to H29: hazards of a protocol that is changed or ported; no release of mainline is known to
have one of them.
"""

from hvo.vmemmap.hazards.hazard import Hazard

_NOT_SEARCHED = "`hvo check` has no scenario for it yet."
_IN_FILES = "`hvo check FILE` searches it in a protocol file; no built-in protocol has it."


def _hazard(
    id_: str, title: str, story: str, since: str, property_: str | None, note: str = _NOT_SEARCHED
) -> Hazard:
    return Hazard(id_, title, story, since, None, property_, note=note, searched=False)


PROTOCOL_HAZARDS = (
    _hazard(
        "H20",
        "Reads that depend on the translation",
        "Between remap and flush, CPUs read a struct page through either of two frames. If one of"
        " them is written in between, two CPUs read different values of one field.",
        "v6.2, which copies the head",
        "stale-contents",
        _IN_FILES,
    ),
    _hazard(
        "H21",
        "Entry remapped while the static key is off",
        "page_fixed_fake_head() consults hugetlb_optimize_vmemmap_key. If an entry is remapped"
        " before the key is enabled, or restored after it is disabled, compound_head() of a tail"
        " returns the fake head.",
        "v5.18 to v7.0",
        "wrong-head",
        _IN_FILES,
    ),
    _hazard(
        "H22",
        "Handover by two flags without a full barrier",
        "Each side sets its flag and reads the other's. With store buffers both read the old value"
        " and both go on; smp_mb() is needed on either side.",
        "any era",
        None,
    ),
    _hazard(
        "H23",
        "Stores to live struct pages seen out of order",
        "On arm64 and riscv64 two stores to struct pages, or two loads of them, may be seen out of"
        " order. A reader finds new contents behind an old flag.",
        "any era on arm64 and riscv64",
        "wrong-head",
    ),
    _hazard(
        "H24",
        "Rollback that flushes too little",
        "A failed optimise restores its entries and flushes less than the range it walked. A later"
        " user of the page writes through a read-only translation.",
        "v5.14",
        "write-read-only",
        _IN_FILES,
    ),
    _hazard(
        "H25",
        "Shared tail of another zone or order",
        "The struct pages of a shared tail hold its zone, and its head by order. A tail that is"
        " shared with another zone or order returns the wrong one.",
        "v7.1",
        "wrong-zone",
        _IN_FILES,
    ),
    _hazard(
        "H26",
        "Poison record lost when restore is refused",
        "The free path takes the list of raw errors, and restore fails with -ENOMEM. If the list is"
        " not put back, the frame is freed without HWPoison later.",
        "v5.14",
        "poison-freed",
        _IN_FILES,
    ),
    _hazard(
        "H27",
        "Shared tail published before it is filled",
        "The shared tail becomes visible before its struct pages are written. Another CPU maps it"
        " and reads tails without a head.",
        "v7.1",
        "wrong-head",
        _IN_FILES,
    ),
    Hazard(
        "H27b",
        "Store to a shared tail that does not fault",
        "riscv64 defines no PAGE_KERNEL_RO, so shared tails are writable. A store to one tail"
        " changes every tail that shares the frame.",
        "any era on riscv64",
        None,
        "shared-tail-written",
        note="No fix: the architecture has no read-only kernel mapping. Writers use the head.",
    ),
    _hazard(
        "H28",
        "Access-flag protocol of the arm64 series",
        "The series retargets live entries whose access flag is clear, blocks and the head's entry"
        " included, and any update may fail half-way. Five questions about it are open.",
        "arm64 series of 2026",
        None,
    ),
    _hazard(
        "H29",
        "Flag seen before the entry it announces",
        "An entry is made valid and a flag is set, with no barrier between them. A reader that sees"
        " the flag takes a translation fault, which Linux treats as spurious.",
        "any era on arm64",
        "access-invalid",
    ),
)
"""The second list."""
