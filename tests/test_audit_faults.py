"""Every rule of the audit: a fault that breaks it is planted in a real kernel's memory, and it is
found, where it is, and nothing else.
"""

import pytest

from hvo.audit.rules import RULES
from planted import Planted
from shared_files import OWN, SHARED, truth

OPTIMISED = [
    "x86-6.1-on",
    "x86-6.12-on",
    "x86-7.3-on",
    "arm64-6.1-4k-on",
    "arm64-6.1-64k-few",
    "arm64-7.3-4k-sizes",
    "x86-6.12-gig",
    "x86-7.3.4-dimm",
]
UNPROTECTED = ["riscv64-7.2-sv57", "riscv64-6.12-sv48", "riscv64-7.2-2nodes"]
"""Optimised as well; the architecture has no read-only tails."""
MIXED = [
    "x86-6.12.94-mixed",
    "arm64-6.1-4k-mixed",
    "x86-7.3.4-dimm",
    "riscv64-7.2-sv57",
    "riscv64-6.12-sv48",
]
PAGED = ["arm64-7.2.13-16k"]
"""Not optimised, with a vmemmap that is mapped page by page."""
PLAIN = ["arm64-7.3-stock", "x86-6.12-off", "arm64-7.2.13-16k", "arm64-6.12.117"]
COVERED: set[str] = set()


def heads(name, kind="optimized_heads"):
    """Heads of the smallest size that fills a vmemmap page."""
    pools = [pool for pool in truth()[name]["pools"] if pool["vmemmap_pages"]]
    return min(pools, key=lambda pool: pool["size"])[kind]


def some_heads(name):
    """Heads that are optimised, or all where none is."""
    return heads(name) or heads(name, "heads")


def plain_heads(name):
    """Heads that are not optimised."""
    return sorted(set(heads(name, "heads")) - set(heads(name)))


def check(planted, *expected):
    """Exactly these findings."""
    COVERED.update(rule for rule, _ in expected)
    assert planted.found() == sorted(expected, key=lambda finding: (finding[1], finding[0]))


@pytest.fixture
def plant(tmp_path):
    """Makes a core that can be changed."""
    return lambda name: Planted(name, tmp_path)


@pytest.mark.parametrize("name", OPTIMISED)
def test_a_writable_tail(plant, name):
    """On the first, the last and all tails, each time one finding at the head."""
    core, pfn = plant(name), heads(name)[1]
    for tails in ((1,), (7,), range(1, 8)):
        for tail in tails:
            core.map(core.page_of(pfn, tail), core.frame(core.page_of(pfn, tail)), writable=True)
        check(core, ("tail-writable", pfn))
        for tail in tails:
            core.map(core.page_of(pfn, tail), core.frame(core.page_of(pfn, tail)), writable=False)
    check(core)


def test_most_tails_of_a_gigantic_page_writable(plant):
    """H15: the range to protect taken in pages instead of bytes; one finding that counts them."""
    core = plant("x86-6.12-gig")
    pfn = truth()["x86-6.12-gig"]["pools"][1]["heads"][0]
    for tail in range(2, 4096):
        core.map(core.page_of(pfn, tail), core.frame(core.page_of(pfn, tail)), writable=True)
    check(core, ("tail-writable", pfn))
    assert core.audit().findings[0].count == 4094
    assert core.audit().pools[1].counts.optimized == 1


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED])
@pytest.mark.parametrize("writable", [False, True])
def test_a_tail_on_a_page_table(plant, name, writable):
    """The finding says whose the frame is."""
    core, pfn = plant(name), heads(name)[2]
    table = core.entry(core.page_of(pfn, 3)) // core.image.page_size
    core.map(core.page_of(pfn, 3), table, writable=writable)
    check(core, ("tail-frame", pfn))
    finding = core.audit().findings[0]
    assert "a page table" in finding.message
    assert finding.address == core.page_of(pfn, 3)
    assert finding.entry == core.word(core.entry(core.page_of(pfn, 3)))


@pytest.mark.parametrize(
    "name", ["x86-6.12-on", "arm64-6.1-4k-on", "x86-7.3-on", "x86-7.3.4-dimm", *UNPROTECTED]
)
def test_tails_on_the_head_frame_of_another(plant, name):
    """Whether one tail or all."""
    core, (first, second) = plant(name), heads(name)[4:6]
    for tail in range(1, 8):
        core.map(core.page_of(second, tail), core.frame(core.struct_page(first)), writable=False)
        check(core, ("tail-frame", second))
    assert f"{first:#x}" in core.audit().findings[0].message


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED, *PAGED])
def test_a_read_only_head(plant, name):
    """The head's entry must be writable."""
    core, pfn = plant(name), some_heads(name)[0]
    core.map(core.struct_page(pfn), core.frame(core.struct_page(pfn)), writable=False)
    check(core, ("own-read-only", pfn))


@pytest.mark.parametrize("name", [*MIXED, *PAGED])
def test_a_read_only_page_of_a_plain_huge_page(plant, name):
    """A vmemmap page of its own that is read-only, in a page that is not optimised."""
    core = plant(name)
    pfn = next(pfn for pfn in plain_heads(name) if split(core, pfn))
    core.map(core.page_of(pfn, 5), core.frame(core.page_of(pfn, 5)), writable=False)
    check(core, ("own-read-only", pfn))


def split(core, pfn):
    """Whether the vmemmap of the page is mapped by pages."""
    from hvo.mmu.walk import path

    return (
        len(path(core.original, core.format, core.image.root, core.struct_page(pfn)))
        == core.format.levels
    )


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED, *PAGED])
def test_entries_that_are_not_present(plant, name):
    """A tail, and then the head: its page is then known by its tails only, and the hole is at its
    frame.
    """
    core, pfn = plant(name), some_heads(name)[1]
    before = core.word(core.entry(core.page_of(pfn, 6)))
    core.write(core.entry(core.page_of(pfn, 6)), 0)
    check(core, ("not-present", pfn))
    core.write(core.entry(core.page_of(pfn, 6)), before)
    core.write(core.entry(core.struct_page(pfn)), 0)
    check(core, ("not-present", pfn))


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED, *PAGED])
def test_entries_beyond_ram(plant, name):
    """A tail, and the head."""
    core, pfn = plant(name), some_heads(name)[1]
    before = core.word(core.entry(core.page_of(pfn, 6)))
    core.map(core.page_of(pfn, 6), 0xABCDE0000 // (core.image.page_size // 4096), writable=False)
    check(core, ("beyond-ram", pfn))
    core.write(core.entry(core.page_of(pfn, 6)), before)
    core.map(core.struct_page(pfn), 0xABCDE0000 // (core.image.page_size // 4096), writable=True)
    check(core, ("beyond-ram", pfn))


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED])
def test_the_flag_of_an_optimised_page_cleared(plant, name):
    """The mapping says more than the kernel knows."""
    core, pfn = plant(name), heads(name)[1]
    core.change(pfn, core.members.private, lambda word: word & ~16)
    check(core, ("mapping-without-flag", pfn))


@pytest.mark.parametrize("name", [*MIXED, *PLAIN])
def test_the_flag_of_a_plain_page_set(plant, name):
    """The kernel believes more than the mapping says; also where no page is optimised at all."""
    core = plant(name)
    pfn = (plain_heads(name) or heads(name, "heads"))[3]
    core.change(pfn, core.members.private, lambda word: word | 16)
    check(core, ("flag-without-mapping", pfn))


@pytest.mark.parametrize("name", MIXED)
def test_a_page_that_is_optimised_in_part(plant, name):
    """Some tails on the shared frame, others with frames of their own and sound struct pages."""
    core = plant(name)
    pfn = next(pfn for pfn in plain_heads(name) if split(core, pfn))
    zone_tails = truth()[name]["layout"] == "tail-shared"
    shared = core.page_of(heads(name)[0], 1) if zone_tails else core.struct_page(pfn)
    for tail in (1, 2, 3):
        core.map(core.page_of(pfn, tail), core.frame(shared), writable=False)
    check(core, ("partly-optimised", pfn))
    pool = core.audit().pools[0]
    assert (pool.counts.partial, pool.counts.optimized) == (1, len(heads(name)))
    assert pool.counts.saved == (len(heads(name)) * 7 + 3) * 4096


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED, *PAGED])
def test_a_head_frame_that_is_free(plant, name):
    """Its own struct page is PageBuddy."""
    core, pfn = plant(name), some_heads(name)[-1]
    core.free(core.frame(core.struct_page(pfn)))
    check(core, ("frame-free", pfn))


@pytest.mark.parametrize("name", ["x86-6.12-on", "x86-7.3.4-dimm", "riscv64-7.2-sv57"])
@pytest.mark.parametrize("order", [3, 9])
def test_a_head_frame_within_a_free_block(plant, name, order):
    """Only the first struct page of a block is PageBuddy; without it no reference means nothing."""
    core, pfn = plant(name), heads(name)[-1]
    frame = core.frame(core.struct_page(pfn))
    first = frame >> order << order
    if frame == first:
        pytest.skip(f"{name}: the head's frame is the first of a block of order {order}")
    core.set(frame, core.members.refcount, 0)
    check(core)
    core.set(first, core.members.mapcount, core.image.info.number("PAGE_BUDDY_MAPCOUNT_VALUE"))
    core.set(first, core.members.private, order)
    assert ("frame-free", pfn) in core.found()
    core.set(first, core.members.private, 0)
    assert ("frame-free", pfn) not in core.found()


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED, *PAGED])
def test_a_head_frame_of_somebody_else(plant, name):
    """Its own struct page is a tail of a compound page."""
    core, pfn = plant(name), some_heads(name)[-1]
    frame = core.frame(core.struct_page(pfn))
    core.change(
        frame,
        core.members.flags,
        lambda word: word & ~(1 << (core.image.info.number("PG_private") - 1)),
    )
    core.change(frame, core.members.link, lambda _: core.struct_page(frame - 1) | 1)
    check(core, ("frame-foreign", pfn))


@pytest.mark.parametrize(
    "name",
    [
        "x86-6.12-on",
        "arm64-6.1-4k-on",
        "x86-7.3-on",
        "arm64-7.3-4k-sizes",
        "x86-7.3.4-dimm",
        *UNPROTECTED,
        *PAGED,
    ],
)
def test_two_heads_on_one_frame(plant, name):
    """The second's head entry leads to the first's frame: where tails hold pointers it is then no
    HugeTLB page any more.
    """
    core, (first, second) = plant(name), some_heads(name)[4:6]
    core.map(core.struct_page(second), core.frame(core.struct_page(first)), writable=True)
    check(core, ("frame-shared", second))


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED, *PAGED])
@pytest.mark.parametrize("tail", [1, 5, 63])
def test_a_wrong_link_on_the_head_page(plant, name, tail):
    """The link of one tail leads to another head, or it is none."""
    core, pfn = plant(name), some_heads(name)[1]
    core.change(pfn + tail, core.members.link, lambda _: core.struct_page(some_heads(name)[2]) | 1)
    check(core, ("tail-link", pfn))
    finding = core.audit().findings[0]
    assert finding.address == core.struct_page(pfn + tail)
    core.change(pfn + tail, core.members.link, lambda _: 0)
    check(core, ("tail-link", pfn))


@pytest.mark.parametrize("name", [*MIXED, *PLAIN])
@pytest.mark.parametrize("tail", [64, 130, 511])
def test_a_wrong_link_of_a_plain_page(plant, name, tail):
    """In any vmemmap page, the first struct page of one included: without sharing there is no fake
    head.
    """
    core = plant(name)
    pfn = (plain_heads(name) or heads(name, "heads"))[3]
    core.change(pfn + tail, core.members.link, lambda _: core.struct_page(pfn + 512) | 1)
    check(core, ("tail-link", pfn))


@pytest.mark.parametrize(
    ("name", "size"), [("arm64-7.2.13-16k", 0), ("arm64-6.12.117", 0), ("loong64-7.2", 0)]
)
@pytest.mark.parametrize("link", [0, 1])
def test_a_wrong_link_without_whole_vmemmap_pages(plant, name, size, link):
    """Pages whose struct pages fill less than a vmemmap page, or straddle two."""
    core = plant(name)
    pfn, other = truth()[name]["pools"][size]["heads"][2:4]
    core.change(pfn + 15, core.members.link, lambda _: core.struct_page(other) | 1 if link else 0)
    check(core, ("tail-link", pfn))
    assert core.audit().findings[0].address == core.struct_page(pfn + 15)


def test_a_restored_page_that_still_is_a_huge_page(plant):
    """H19 in place: a page whose vmemmap pages begin with copies of the head."""
    core = plant("x86-6.12-off")
    pfn = heads("x86-6.12-off", "heads")[7]
    for tail in range(1, 8):
        for word in range(16):
            at = core.struct_page(pfn) + 8 * word
            value = core.word(core.frame(at) * 4096 + at % 4096)
            target = core.page_of(pfn, tail) + 8 * word
            core.write(core.frame(target) * 4096 + target % 4096, value)
    check(core, ("tail-link", pfn))


@pytest.mark.parametrize(
    ("name", "size"), [("x86-7.3-on", 0), ("arm64-7.3-4k-sizes", 0), ("arm64-7.3-4k-sizes", 1)]
)
def test_tails_of_another_zone(plant, name, size):
    """The head says that it lies in another zone than the tails that it shares."""
    core = plant(name)
    pfn = truth()[name]["pools"][size]["heads"][1]
    core.change(
        pfn,
        core.members.flags,
        lambda word: (
            word ^ (1 << (64 - core.image.info.length("node_data", 1).bit_length() + 1 - 2))
        ),
    )
    check(core, ("tail-zone", pfn))


def test_a_frame_of_tails_of_another_zone(plant):
    """The shared frame itself is of another zone: one finding, not one for each page."""
    core = plant("x86-7.3-on")
    pfn = heads("x86-7.3-on")[0]
    core.change_at(core.page_of(pfn, 1), core.members.flags, lambda word: word ^ (1 << 52))
    check(core, ("tail-zone", pfn))


def test_a_frame_of_tails_with_a_wrong_link(plant):
    """All who share it are concerned: one finding."""
    core = plant("x86-7.3-on")
    pfn = heads("x86-7.3-on")[0]
    core.change_at(core.page_of(pfn, 3) + 64 * 9, core.members.link, lambda word: word ^ (1 << 20))
    check(core, ("tail-link", pfn))


@pytest.mark.parametrize(
    "name",
    [
        "x86-6.12.94-mixed",
        "arm64-6.1-4k-on",
        "x86-6.1-dump-on",
        "x86-7.3-on",
        "arm64-7.3-4k-sizes",
        "x86-7.3.4-dimm",
        *UNPROTECTED,
    ],
)
def test_a_table_that_leads_back(plant, name):
    """At each level but the root's: the HugeTLB pages behind it are named, the others are
    audited.
    """
    core, pfn = plant(name), heads(name, "heads")[-1]
    virtual = core.struct_page(pfn)
    table = core.entry(virtual, 1) // core.image.page_size
    core.write(core.entry(virtual, 1), core.format.make_table(table * core.image.page_size))
    span = core.format.span(1)
    behind = [
        head for head in heads(name, "heads") if core.struct_page(head) // span == virtual // span
    ]
    check(core, *(("table-loop", head) for head in behind))
    assert core.audit().pools[0].counts.pages == len(heads(name, "heads")) - len(behind)


def test_a_table_that_hides_all_memory(plant):
    """16 KiB pages: one last-level table maps the struct pages of all sections. Every HugeTLB page
    is named, by its neighbours on the lists of its pool, those of less than a vmemmap page too.
    """
    name = "arm64-7.2.13-16k"
    core = plant(name)
    virtual = core.struct_page(heads(name, "heads")[0])
    table = core.entry(virtual, 1) // core.image.page_size
    core.write(core.entry(virtual, 1), core.format.make_table(table * core.image.page_size))
    every = [pfn for pool in truth()[name]["pools"] for pfn in pool["heads"]]
    check(core, *(("table-loop", pfn) for pfn in every))
    assert core.audit().pools == ()


def test_a_table_that_hides_no_huge_page(plant):
    """The finding says which frames it hides."""
    name = "x86-7.3-on"
    core = plant(name)
    taken = {core.struct_page(head) // core.format.span(1) for head in heads(name, "heads")}
    pfn = next(
        pfn
        for start in core.sections.start_pfn.tolist()
        for pfn in range(start, start + core.sections.pages, 512)
        if core.struct_page(pfn) // core.format.span(1) not in taken
    )
    virtual = core.struct_page(pfn)
    table = core.entry(virtual, 2) // core.image.page_size
    core.write(core.entry(virtual, 1), core.format.make_table(table * core.image.page_size))
    (finding,) = [each for each in core.audit().findings if each.id == "table-loop"]
    assert finding.pfn == pfn
    last = pfn + core.format.span(1) // 64 - 1
    assert f"all frames up to {last:#x}" in finding.message


def test_two_entries_that_lead_to_one_table(plant):
    """The second in address is taken for the wrong one."""
    name = "x86-6.12.94-mixed"
    core = plant(name)
    tables = {
        core.struct_page(head) // core.format.span(1): head
        for head in heads(name, "heads")
        if split(core, head)
    }
    first, second = [tables[span] for span in sorted(tables)][:2]
    core.write(
        core.entry(core.struct_page(second), 1), core.word(core.entry(core.struct_page(first), 1))
    )
    span = core.format.span(1)
    behind = [
        head
        for head in heads(name, "heads")
        if core.struct_page(head) // span == core.struct_page(second) // span
    ]
    check(core, *(("table-loop", head) for head in behind))


@pytest.mark.parametrize("name", ["x86-6.12.94-mixed", "arm64-6.1-4k-on"])
def test_a_table_beyond_ram(plant, name):
    """An entry that leads to a table where no RAM is."""
    core, pfn = plant(name), heads(name, "heads")[-1]
    virtual, span = core.struct_page(pfn), core.format.span(1)
    core.write(core.entry(virtual, 1), core.format.make_table(0xABCDE0000000))
    behind = [
        head for head in heads(name, "heads") if core.struct_page(head) // span == virtual // span
    ]
    check(core, *(("table-beyond-ram", head) for head in behind))


def test_a_table_that_is_free(plant):
    """The frame of a last-level table is PageBuddy."""
    core, pfn = plant("x86-6.12-on"), heads("x86-6.12-on")[3]
    table = core.entry(core.struct_page(pfn)) // 4096
    core.free(table)
    check(core, ("frame-free", table))


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED])
def test_a_poisoned_page(plant, name):
    """An optimised page with a hardware error, where the kernel handles them."""
    core, pfn = plant(name), heads(name)[1]
    bit = core.image.info.number("PG_hwpoison", None)
    if bit is None:
        pytest.skip(f"{name}: this kernel has no PG_hwpoison")
    core.change(pfn, core.members.flags, lambda word: word | 1 << bit)
    check(core, ("poisoned", pfn))
    assert core.audit().findings[0].severity == "warning"


@pytest.mark.parametrize("name", [*OPTIMISED, *UNPROTECTED])
def test_a_page_that_lost_its_mark(plant, name):
    """The vmemmap is optimised, and no HugeTLB page is there."""
    from hvo.kernel.vmcore import hugetlb_mark

    core, pfn = plant(name), heads(name)[1]
    mark = hugetlb_mark(core.members)
    shift = mark.member.offset % 8 * 8
    core.change(pfn, mark.member, lambda word: word ^ (0x55 << shift))
    check(core, ("orphaned-remap", pfn))


def plain_memory(core, name):
    """A place for a HugeTLB page where none is, whose vmemmap is mapped page by page."""
    taken = set(heads(name, "heads"))
    return next(
        pfn
        for start in core.sections.start_pfn.tolist()
        for pfn in range(start + 512, start + core.sections.pages, 512)
        if pfn not in taken and split(core, pfn)
    )


@pytest.mark.parametrize("name", MIXED)
def test_frames_outside_huge_pages(plant, name):
    """A vmemmap page on a head's frame, on its neighbour's, read-only, and on a free one."""
    core, pfn = plant(name), heads(name)[0]
    place = plain_memory(core, name)
    virtual, at = core.page_of(place, 2), place + 128
    core.map(virtual, core.frame(core.struct_page(pfn)), writable=True)
    check(core, ("frame-shared", at))
    core.map(virtual, core.frame(core.page_of(place, 3)), writable=True)
    check(core, ("frame-shared", at))
    core.map(virtual, core.frame(virtual), writable=False)
    check(core, ("orphaned-remap", place))
    core.map(virtual, core.frame(virtual), writable=True)
    check(core)
    core.free(core.frame(virtual))
    check(core, ("frame-free", at))


def test_lost_pages():
    """What a kernel with H19 left behind: 50 huge pages, 350 frames."""
    from hvo.audit.audit import audit
    from hvo.memory.core import open_core
    from shared_files import core

    found = audit(open_core(core("defect-x86-6.12.117-mixed")))
    told = truth()["defect-x86-6.12.117-mixed"]["defect"]
    assert len(found.lost) == told["huge_pages_lost"]
    assert sum(page.frames for page in found.lost) == told["frames"]
    assert {finding.id for finding in found.findings} == {"lost-page"}
    COVERED.add("lost-page")


def test_every_rule_was_broken():
    """No rule is without its fault: `self-hosted` is in test_audit_machines.py."""
    if len(COVERED) < 5 or SHARED == OWN:
        pytest.skip("the other tests of this file did not run, or not on all the cores they need")
    informative = {rule.id for rule in RULES.values() if rule.severity == "info"}
    assert set(RULES) - COVERED == {"self-hosted", *informative}
