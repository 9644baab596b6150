"""Finding a kernel's tables, sections, HugeTLB pages and reserved memory: in made-up kernels of
every era, and in real ones.
"""

from dataclasses import dataclass, field
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvo.errors import HvoError
from hvo.kernel.image import KernelImage
from hvo.kernel.linked_lists import list_places
from hvo.kernel.memory_map import MemoryMap, memory_map
from hvo.kernel.sections import Sections
from hvo.kernel.vmcore import HugetlbHeads, compound_head, hugetlb_heads
from hvo.memory.core import open_core
from hvo.memory.vmcoreinfo import VmcoreInfo
from hvo.mmu.formats import format_for
from hvo.mmu.mapping import map_range
from hvo.mmu.walk import walk
from shared_files import CORES, core, truth

LINEAR, VMEMMAP = 0xFFFF_C000_0000_0000, 0xFFFF_F000_0000_0000
RAM = 0x4000_0000
ROOT = RAM + 0x10000
WORD = 1 << 64
# (arch, page size, bits of virtual addresses, VA_BITS the kernel was built for)
MACHINES = {
    "x86-4-levels": ("x86_64", 4096, 48, 48),
    "x86-5-levels": ("x86_64", 4096, 57, 57),
    "arm64-4k": ("arm64", 4096, 48, 48),
    "arm64-4k-52-runs-48": ("arm64", 4096, 48, 52),
    "arm64-16k": ("arm64", 16384, 47, 47),
    "arm64-64k-52": ("arm64", 65536, 52, 52),
    "arm64-64k-52-runs-48": ("arm64", 65536, 48, 52),
    "riscv64-sv48": ("riscv64", 4096, 48, 48),
}


@dataclass
class FlatMemory:
    """Physical memory from `RAM` on, as one array."""

    arch: str
    page_size: int
    words: np.ndarray
    vmcoreinfo: VmcoreInfo = field(default_factory=lambda: VmcoreInfo({}))

    def index(self, addresses: np.ndarray) -> np.ndarray:
        assert self.readable(addresses).all()
        return (addresses - np.uint64(RAM)) >> np.uint64(3)

    def read(self, address: int, length: int) -> bytes:
        return self.words.tobytes()[address - RAM : address - RAM + length]

    def read_words(self, addresses: np.ndarray) -> np.ndarray:
        return self.words[self.index(addresses)]

    def readable(self, addresses: np.ndarray) -> np.ndarray:
        return (addresses >= RAM) & (addresses < RAM + 8 * len(self.words))

    def write(self, address: int, data: bytes) -> None:
        self.words[(address - RAM) // 8 : (address - RAM + len(data)) // 8] = np.frombuffer(
            data, "<u8"
        )

    def write_words(self, addresses: np.ndarray, values: np.ndarray) -> None:
        self.words[self.index(addresses)] = values


class Kernel:
    """A made-up kernel with two sections, `first` online and `second` (in another page of
    mem_section[]) not.
    """

    def __init__(
        self, machine: str, marks: dict[str, int] | None = None, *, extreme: bool = True
    ) -> None:
        self.arch, self.page_size, self.va_bits, self.built_for = MACHINES[machine]
        self.section_bits = 29 if self.page_size == 65536 else 27
        self.section_pages = (1 << self.section_bits) // self.page_size
        self.memory = FlatMemory(self.arch, self.page_size, np.zeros(16 << 17, np.uint64))
        self.format = format_for(self.arch, self.page_size, self.va_bits)
        self.root = ROOT + (7680 if machine == "arm64-64k-52-runs-48" else 0)
        self._free = (RAM + 0x40000 + n * self.page_size for n in count())
        self.each = self.page_size // 16  # entries in a page of mem_section[]
        self.first = RAM >> self.section_bits
        self.second = self.first + (self.each if extreme else 3)
        self.pages = {
            number: self._memmap(i, number) for i, number in enumerate((self.first, self.second))
        }
        self._mem_section(extreme)
        self._info(extreme, marks or {})

    def _memmap(self, i: int, number: int) -> np.ndarray:
        """Map the struct pages of a section with base pages; return them as words of shape (frames,
        8).
        """
        size, physical = self.section_pages * 64, RAM + (4 << 20) + i * (4 << 20)
        map_range(
            self.memory,
            self.format,
            self.root,
            VMEMMAP + number * size,
            physical,
            size,
            0,
            self._allocate,
        )
        pages = self.memory.words[(physical - RAM) // 8 :][: size // 8].reshape(-1, 8)
        pages[:, 6] = 0xFFFF_FFFF  # not mapped, no reference
        return pages

    def _allocate(self, frames: int) -> np.ndarray:
        return np.array([next(self._free) for _ in range(frames)], np.uint64)

    def _mem_section(self, extreme: bool) -> None:
        size = 4 * self.page_size
        physical = RAM + (12 << 20)
        map_range(self.memory, self.format, self.root, LINEAR, physical, size, 0, self._allocate)
        self.mem_section = LINEAR
        table = self.memory.words[(physical - RAM) // 8 :]
        for i, (number, flags) in enumerate(
            ((self.first, 0xF), (self.second, 0xB), (self.first + 1, 0x1))
        ):
            if extreme:
                array = LINEAR + (1 + i % 2) * self.page_size
                table[number // self.each] = array
                entry = (array - LINEAR) // 8 + number % self.each * 2
            else:
                entry = number * 2
            table[entry] = VMEMMAP + flags

    def _info(self, extreme: bool, marks: dict[str, int]) -> None:
        length = 16
        physical_bits = (
            self.section_bits + (length * (self.each if extreme else 1)).bit_length() - 1
        )
        lines: dict[str, object] = {
            "PAGESIZE": self.page_size,
            "SYMBOL(mem_section)": f"{self.mem_section:x}",
            "LENGTH(mem_section)": length,
            "SIZE(mem_section)": 16,
            "OFFSET(mem_section.section_mem_map)": 0,
            "NUMBER(SECTION_SIZE_BITS)": self.section_bits,
            "NUMBER(MAX_PHYSMEM_BITS)": physical_bits,
            "SIZE(page)": 64,
            "OFFSET(page.flags)": 0,
            "OFFSET(page._refcount)": 52,
            "OFFSET(page.lru)": 8,
            "OFFSET(page._mapcount)": 48,
            "OFFSET(page.private)": 40,
            "OFFSET(page.compound_head)": 8,
            "OFFSET(list_head.next)": 0,
            "OFFSET(list_head.prev)": 8,
            "NUMBER(PG_private)": 13,
            "NUMBER(PG_head_mask)": 65536,
            "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": -129,
            "SYMBOL(swapper_pg_dir)": f"{0xFFFF_FFFF_8000_0000 + ROOT:x}",
        }
        lines |= {
            "x86_64": {
                "NUMBER(phys_base)": 0,
                "NUMBER(pgtable_l5_enabled)": int(self.va_bits == 57),
            },
            "riscv64": {
                "NUMBER(va_kernel_pa_offset)": "0xffffffff80000000",
                "NUMBER(VA_BITS)": self.va_bits,
            },
            "arm64": {
                "NUMBER(kimage_voffset)": "0xffffffff80000000",
                "NUMBER(VA_BITS)": self.built_for,
                "NUMBER(TCR_EL1_T1SZ)": hex(64 - self.va_bits),
            },
        }[self.arch]
        self.memory.vmcoreinfo = VmcoreInfo(
            {key: str(value) for key, value in (lines | marks).items()}
        )

    def found(self) -> HugetlbHeads:
        image = KernelImage.of(self.memory)
        return hugetlb_heads(image, Sections.of(image))

    @property
    def start(self) -> int:
        return self.first * self.section_pages

    def struct_page(self, pfn: int) -> int:
        return VMEMMAP + pfn * 64


# --- tables and sections


@pytest.mark.parametrize("machine", MACHINES)
def test_tables_are_found_and_read_through(machine: str):
    kernel = Kernel(machine)
    image = KernelImage.of(kernel.memory)
    assert (image.root, image.va_bits, image.page_size) == (
        kernel.root,
        kernel.va_bits,
        kernel.page_size,
    )
    kernel.pages[kernel.first][3] = range(8)
    addresses = np.uint64(kernel.struct_page(kernel.start + 3)) + np.arange(
        8, dtype=np.uint64
    ).reshape(2, 4) * np.uint64(8)
    assert image.words(addresses).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_root_that_is_not_exported_is_named():
    kernel = Kernel("arm64-4k")
    del kernel.memory.vmcoreinfo.entries["NUMBER(kimage_voffset)"]
    with pytest.raises(HvoError, match=r"no NUMBER\(kimage_voffset\)"):
        KernelImage.of(kernel.memory)


def test_older_arm64_kernels_export_their_address_bits_only():
    kernel = Kernel("arm64-16k")
    del kernel.memory.vmcoreinfo.entries["NUMBER(TCR_EL1_T1SZ)"]
    assert KernelImage.of(kernel.memory).va_bits == 47


def test_memory_encryption_bit_is_no_part_of_an_address():
    kernel = Kernel("x86-4-levels")
    sme = 1 << 47
    tables = kernel.memory.words[: 1 << 19]
    tables[tables & np.uint64(1) != 0] |= np.uint64(sme)
    kernel.memory.vmcoreinfo.entries["NUMBER(sme_mask)"] = str(sme)
    image = KernelImage.of(kernel.memory)
    assert image.physical(np.array([LINEAR + 8], np.uint64)).tolist() == [RAM + (12 << 20) + 8]


def test_translation_keeps_shape_and_tells_what_is_not_mapped():
    image = KernelImage.of(Kernel("riscv64-sv48").memory)
    asked = np.array(
        [[LINEAR, LINEAR + 0xFFF], [0xFFFF_E000_0000_0000, LINEAR + 0x1000]], np.uint64
    )
    found = image.translate(asked)
    assert found.valid.tolist() == [[True, True], [False, True]]
    assert found.addresses[found.valid].tolist() == [
        RAM + (12 << 20) + offset for offset in (0, 0xFFF, 0x1000)
    ]
    with pytest.raises(HvoError, match="0xffffe00000000000 is not mapped"):
        image.physical(asked)
    assert image.translate(asked[:0]).addresses.shape == (0, 2)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("extreme", [True, False])
def test_sections_are_those_with_a_memory_map(machine: str, extreme: bool):
    """Both shapes of mem_section[]: pointers to pages of entries (SPARSEMEM_EXTREME), and plain
    entries.
    """
    kernel = Kernel(machine, extreme=extreme)
    sections = Sections.of(KernelImage.of(kernel.memory))
    assert sections.numbers.tolist() == [kernel.first, kernel.second]
    assert sections.online.tolist() == [True, False]
    assert (sections.vmemmap_base, sections.pages) == (VMEMMAP, kernel.section_pages)
    last = kernel.second * kernel.section_pages + kernel.section_pages - 1
    pfns = np.array([[kernel.start, last]], np.int64)
    assert sections.struct_page_address(pfns).tolist() == [
        [kernel.struct_page(kernel.start), kernel.struct_page(last)]
    ]
    outside = np.array(
        [0, kernel.start - 1, kernel.start, kernel.start + kernel.section_pages, last, last + 1],
        np.int64,
    )
    assert sections.contain(outside).tolist() == [False, False, True, False, True, False]
    with pytest.raises(HvoError, match=f"frame {last + 1:#x} lies in no section"):
        sections.struct_page_address(outside[4:])


def test_frames_come_aligned_and_in_pieces():
    kernel = Kernel("x86-4-levels")
    sections = Sections.of(KernelImage.of(kernel.memory))
    pieces = list(sections.frames(512, at_a_time=10))
    assert [len(piece) for piece in pieces] == [64, 64]
    assert np.concatenate(pieces).tolist() == [
        first + offset
        for first in sections.start_pfn.tolist()
        for offset in range(0, kernel.section_pages, 512)
    ]
    assert [len(piece) for piece in sections.frames(online=True)] == [kernel.section_pages]


def test_sections_that_do_not_agree_on_a_base_have_none():
    sections = Sections.of(KernelImage.of(Kernel("x86-4-levels").memory))
    moved = Sections(
        sections.numbers,
        sections.start_pfn,
        sections.memmap + np.array([0, 4096], np.uint64),
        sections.online,
        sections.pages,
        64,
    )
    assert moved.vmemmap_base is None


# --- HugeTLB pages of every era


TYPE = 0xF400_0000
ERAS = {
    "5.14": {
        "NUMBER(HUGETLB_PAGE_DTOR)": 2,
        "OFFSET(page.compound_dtor)": 16,
        "OFFSET(page.compound_order)": 17,
    },
    "6.3": {
        "NUMBER(HUGETLB_PAGE_DTOR)": 2,
        "OFFSET(folio._folio_dtor)": 80,
        "OFFSET(folio._folio_order)": 81,
    },
    "6.6": {"NUMBER(PG_hugetlb)": 8},
    "6.9": {"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": TYPE - (1 << 32)},
    "7.1": {
        "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": TYPE - (1 << 32),
        "OFFSET(page.compound_info)": 8,
    },
}


def compound(
    kernel: Kernel,
    pfn: int,
    order: int,
    era: str,
    *,
    hugetlb: bool = True,
    private: int = 0,
    refcount: int = 0,
) -> None:
    """Make the frames from `pfn` on a compound page, marked as HugeTLB's or not, as kernels of
    `era` do.
    """
    for number, pages in kernel.pages.items():
        start = number * kernel.section_pages
        first, last = max(pfn, start), min(pfn + (1 << order), start + kernel.section_pages)
        if first < last:
            pages[first - start : last - start, 1] = (
                WORD - (64 << order) if era == "7.1" else kernel.struct_page(pfn)
            ) + 1
    pages, at = kernel.pages[pfn // kernel.section_pages], pfn % kernel.section_pages
    pages[at, :2] = 1 << 16, 0
    pages[at, 5], pages[at, 6] = private, (refcount << 32) | 0xFFFF_FFFF
    if era in ("5.14", "6.3"):
        pages[at + 1, 2] = order << 8 | (2 if hugetlb else 1)
    else:
        pages[at + 1, 0] = order | (hugetlb << 8 if era == "6.6" else 0)
    if hugetlb and era in ("6.9", "7.1"):
        pages[at, 6] = (refcount << 32) | TYPE


@pytest.mark.parametrize("era", ERAS)
def test_huge_pages_of_each_era_are_found(era: str):
    """Two HugeTLB pages, one at the end of a section, beside a compound page of another user and
    one out of its natural place.
    """
    kernel = Kernel("x86-4-levels", ERAS[era])
    last = kernel.second * kernel.section_pages + kernel.section_pages - 512
    compound(kernel, kernel.start + 1024, 9, era, private=0x18)
    compound(kernel, last, 9, era, private=0x2, refcount=3)
    compound(kernel, kernel.start + 2048, 9, era, hugetlb=False)
    compound(kernel, kernel.start + 512 * 9, 10, era)
    heads = kernel.found()
    assert heads.pfn.tolist() == [kernel.start + 1024, last]
    assert heads.order.tolist() == [9, 9]
    assert heads.refcount.tolist() == [0, 3]
    assert (heads.flagged.tolist(), heads.free.tolist()) == ([True, False], [True, False])
    assert not len(heads.unreadable)


@pytest.mark.parametrize("era", ["5.14", "6.3", "6.6", "6.9"])
@pytest.mark.parametrize("order", [9, 18])
def test_fake_heads_are_not_found(era: str, order: int):
    """Every vmemmap page of an optimised page (here the part of a 1 GiB page in the first section)
    repeats the head's frame.

    Their places tell most of them; the one that is left behind in a naturally aligned place is told
    by its tail's link only.
    """
    kernel = Kernel("x86-4-levels", ERAS[era])
    assert kernel.start % (1 << 18) == 0
    compound(kernel, kernel.start, order, era, private=0x10)
    pages = kernel.pages[kernel.first][: 1 << order]
    pages[:] = np.tile(pages[:64], (len(pages) // 64, 1))
    if order == 9:
        kernel.pages[kernel.first][4096:4160] = pages[:64]
    assert kernel.found().pfn.tolist() == [kernel.start]


def test_links_are_told_apart_by_value():
    """A pointer, masks of orders 9 and 18, and a pointer whose address is a negative power of two
    (arm64 with 64K pages).
    """
    links = np.array(
        [0xFFFF_F000_0000_0001, WORD - (64 << 9) + 1, WORD - (64 << 18) + 1, 0xFFFF_FFFF_0000_0001],
        np.uint64,
    )
    pages = np.array(
        [
            0xFFFF_F000_0000_0040,
            0xFFFF_F000_0000_8040,
            0xFFFF_F000_0100_0FC0,
            0xFFFF_FFFF_0000_0040,
        ],
        np.uint64,
    )
    heads = [
        0xFFFF_F000_0000_0000,
        0xFFFF_F000_0000_8000,
        0xFFFF_F000_0100_0000,
        0xFFFF_FFFF_0000_0000,
    ]
    assert compound_head(pages, links).tolist() == heads


@pytest.mark.parametrize(
    ("machine", "small"),
    [("arm64-4k", 4), ("arm64-16k", 7), ("arm64-64k-52", 5), ("riscv64-sv48", 4)],
)
@pytest.mark.parametrize("era", ["5.14", "6.9"])
def test_contiguous_pages_are_found_beside_larger_ones(machine: str, small: int, era: str):
    kernel = Kernel(machine, ERAS[era])
    large = {4096: 9, 16384: 11, 65536: 13}[kernel.page_size]
    second = kernel.second * kernel.section_pages
    compound(kernel, kernel.start, large, era, private=0x18)
    for pfn in (second, second + (5 << small)):
        compound(kernel, pfn, small, era, private=0x8)
    compound(kernel, second + (9 << small), small, era, hugetlb=False)
    heads = kernel.found()
    assert list(zip(heads.pfn.tolist(), heads.order.tolist(), strict=True)) == [
        (kernel.start, large),
        (second, small),
        (second + (5 << small), small),
    ]


def test_a_kernel_without_hugetlb_has_no_huge_pages():
    kernel = Kernel("x86-4-levels")
    compound(kernel, kernel.start, 9, "5.14")
    heads = kernel.found()
    assert (len(heads.pfn), len(heads.order), len(heads.list_head), heads.free_list(9)) == (
        0,
        0,
        0,
        [],
    )


def test_struct_pages_that_cannot_be_read_are_told():
    """One table entry of the vmemmap is gone: 64 struct pages, one of which could be a head's."""
    kernel = Kernel("x86-4-levels", ERAS["6.9"])
    compound(kernel, kernel.start + 512, 9, "6.9")
    compound(kernel, kernel.start + 1024, 9, "6.9")
    entry = walk(
        kernel.memory,
        kernel.format,
        kernel.root,
        np.array([kernel.struct_page(kernel.start + 512)], np.uint64),
    ).location
    kernel.memory.write_words(entry, np.zeros(1, np.uint64))
    heads = kernel.found()
    assert heads.pfn.tolist() == [kernel.start + 1024]
    assert heads.unreadable.tolist() == [kernel.start + 512]


# --- lists


def naive_places(
    nodes: list[int], following: list[int], preceding: list[int]
) -> list[tuple[int, int]]:
    """Follow every list from each of its possible fronts."""
    place = dict.fromkeys(nodes, (0, -1))
    after = dict(zip(nodes, following, strict=True))
    for front, head in zip(nodes, preceding, strict=True):
        way = [front]
        while way[-1] in after and len(way) <= len(nodes):
            way.append(after[way[-1]])
        if head not in after and way[-1] == head:
            place |= {node: (head, i) for i, node in enumerate(way[:-1])}
    return [place[node] for node in nodes]


@st.composite
def rings(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    """Some rings, each cut at its own head or not, and some pages that are on none."""
    nodes = draw(st.permutations(range(100, 100 + 8 * draw(st.integers(0, 12)), 8)))
    after: dict[int, tuple[int, int]] = {}
    heads = count(1)
    cuts = sorted(draw(st.lists(st.integers(0, len(nodes)), max_size=3)))
    for start, end in pairwise([0, *cuts, len(nodes)]):
        kind, part = draw(st.sampled_from(["list", "circle", "poison"])), nodes[start:end]
        head = next(heads)
        ring = [head, *part, head] if kind == "list" else [*part[-1:], *part, *part[:1]]
        for i, node in enumerate(part):
            after[node] = (0xDEAD0100, 0xDEAD0122) if kind == "poison" else (ring[i + 2], ring[i])
    ordered = sorted(after)
    return ordered, [after[node][0] for node in ordered], [after[node][1] for node in ordered]


@settings(derandomize=True, max_examples=200)
@given(rings())
def test_places_are_those_of_following_each_list(lists: tuple[list[int], list[int], list[int]]):
    found = list_places(*(np.array(part, np.uint64) for part in lists))
    assert list(zip(found.list_head.tolist(), found.place.tolist(), strict=True)) == naive_places(
        *lists
    )


def test_a_list_whose_front_points_elsewhere_is_not_followed():
    found = list_places(
        *(np.array(part, np.uint64) for part in ([8, 16, 24], [16, 24, 1], [2, 8, 16]))
    )
    assert (found.list_head.tolist(), found.place.tolist()) == ([0, 0, 0], [-1, -1, -1])


# --- memory map


def test_memory_map_counts_reserved_and_free_frames_of_online_sections():
    kernel = Kernel("x86-4-levels")
    first, second = kernel.pages[kernel.first], kernel.pages[kernel.second]
    for piece in (slice(0, 5), slice(7, 8), slice(-2, None)):
        first[piece, 0] |= np.uint64(1 << 12)
    second[:, 0] |= np.uint64(1 << 12)
    for pfn, order in ((16, 4), (64, 0), (1024, 10)):
        first[pfn, 5:7] = order, 0xFFFF_FF7F
    image = KernelImage.of(kernel.memory)
    found = memory_map(image, Sections.of(image))
    start, end = kernel.start, kernel.start + kernel.section_pages
    assert found.present_pages == kernel.section_pages
    assert found.reserved_start.tolist() == [start, start + 7, end - 2]
    assert found.reserved_end.tolist() == [start + 5, start + 8, end]
    assert (found.reserved_pages, found.managed_pages) == (8, kernel.section_pages - 8)
    assert list(zip((found.free_pfn - start).tolist(), found.free_order.tolist(), strict=True)) == [
        (16, 4),
        (64, 0),
        (1024, 10),
    ]
    assert found.free_pages == 16 + 1 + 1024


def test_memory_map_without_reserved_or_free_frames_is_empty():
    image = KernelImage.of(Kernel("arm64-16k").memory)
    found = memory_map(image, Sections.of(image))
    assert (found.reserved_pages, found.free_pages, len(found.free_pfn)) == (0, 0, 0)


# --- real kernels


@dataclass
class Found:
    """A real core and everything found in it."""

    name: str
    image: KernelImage
    sections: Sections
    heads: HugetlbHeads
    frames: MemoryMap

    def end(self) -> dict[str, int]:
        """The last counters the kernel printed."""
        return list(truth()[self.name]["snapshots"].values())[-1]


@pytest.fixture(scope="module", params=CORES)
def real(request: pytest.FixtureRequest) -> Found:
    image = KernelImage.of(open_core(core(request.param)))
    sections = Sections.of(image)
    return Found(
        request.param, image, sections, hugetlb_heads(image, sections), memory_map(image, sections)
    )


def test_real_kernel_has_the_true_shape(real: Found):
    expected = truth()[real.name]
    assert real.image.memory.vmcoreinfo.text("OSRELEASE") == expected["kernel"]
    assert (real.image.arch, real.image.page_size) == (expected["arch"], expected["page_size"])
    assert (real.image.va_bits, len(real.image.format.index_bits)) == (
        expected["va_bits"],
        expected["levels"],
    )
    assert len(real.sections.numbers) == expected["sections"]
    assert real.sections.pages * real.image.page_size == expected["section_size"]
    assert real.sections.struct_page_size == expected["struct_page_size"]


def test_vmemmap_base_is_the_one_newer_kernels_export(real: Found):
    base = real.sections.vmemmap_base
    assert base is not None
    exported = real.image.info.symbol("vmemmap", None)
    if exported is not None:
        assert base == exported


def test_real_huge_pages_are_the_true_ones(real: Found):
    for pool in truth()[real.name]["pools"]:
        mine = real.heads.order == (pool["size"] // real.image.page_size).bit_length() - 1
        assert real.heads.pfn[mine].tolist() == pool["heads"]
        assert int(real.heads.flagged[mine].sum()) == pool["flagged"]
    assert len(real.heads.pfn) == sum(pool["pages"] for pool in truth()[real.name]["pools"])
    assert not len(real.heads.unreadable)


def test_optimised_by_the_mapping_are_the_true_ones(real: Found):
    """A page is optimised when its last vmemmap pages share one frame, read-only."""
    for pool in truth()[real.name]["pools"]:
        heads = real.heads.pfn[
            real.heads.order == (pool["size"] // real.image.page_size).bit_length() - 1
        ]
        pages = np.arange(pool["vmemmap_pages"], dtype=np.uint64) * np.uint64(real.image.page_size)
        found = walk(
            real.image.memory,
            real.image.format,
            real.image.root,
            real.sections.struct_page_address(heads)[:, None] + pages,
        )
        assert found.valid.all()
        shared = (found.address[:, 2:] == found.address[:, -1:]).all(axis=1)
        sealed = ~found.writable[:, 2:].any(axis=1)
        assert heads[shared & sealed].tolist() == pool["optimized_heads"]
        assert (shared == sealed).all()


def test_managed_pages_are_memtotal_to_the_page(real: Found):
    assert real.frames.managed_pages * real.image.page_size == real.end()["MemTotal"] << 10


def test_free_blocks_are_memfree_but_for_the_lists_of_cpus(real: Found):
    """The counter is folded in batches and leaves frames in per-CPU lists out of the buddy lists: a
    few hundred frames either way.
    """
    free = real.frames.free_pages * real.image.page_size
    assert abs(free - (real.end()["MemFree"] << 10)) < 2 << 20
    ends = real.frames.free_pfn + (np.int64(1) << real.frames.free_order)
    assert (real.frames.free_pfn[1:] >= ends[:-1]).all()
    assert (real.frames.free_pfn & ((np.int64(1) << real.frames.free_order) - 1) == 0).all()


def test_every_free_huge_page_is_on_one_free_list(real: Found):
    for pool in truth()[real.name]["pools"]:
        order = (pool["size"] // real.image.page_size).bit_length() - 1
        mine = real.heads.order == order
        (free,) = real.heads.free_list(order)
        assert len(free) == real.end()[f"free_hugepages@{pool['size'] >> 10}kB"]
        assert sorted(free) == real.heads.pfn[mine & real.heads.free].tolist()
        # The pages in use are on the list of the same size's pool that stands right before it in
        # struct hstate.
        assert (real.heads.place[mine] >= 0).all()
        used = set(real.heads.list_head[mine & ~real.heads.free].tolist())
        assert used <= {int(real.heads.list_head[mine & real.heads.free][0]) - 16}


@pytest.mark.parametrize(
    ("name", "front"),
    [
        ("x86-6.12-on", 9216),
        ("arm64-6.1-4k-on", 318464),
        ("x86-6.12.94-mixed", 100864),
        ("x86-7.3-on", 13312),
    ],
)
def test_front_of_the_free_list_is_the_page_to_leave_first(name: str, front: int):
    """Before 6.7 the page allocated last is in front, from 6.7 on the first of the last write."""
    image = KernelImage.of(open_core(core(name)))
    (free,) = hugetlb_heads(image, Sections.of(image)).free_list(9)
    assert free[0] == front


# --- damaged memory


def test_damaged_flag_and_writable_tail_hide_no_page():
    for name, like in (
        ("bad-flag-cleared", "x86-7.3-on"),
        ("bad-tail-writable", "arm64-6.1-4k-mixed"),
    ):
        image = KernelImage.of(open_core(core(name)))
        heads = hugetlb_heads(image, Sections.of(image))
        (pool,) = truth()[like]["pools"]
        assert heads.pfn.tolist() == pool["heads"]
        assert int(heads.flagged.sum()) == pool["flagged"] - (name == "bad-flag-cleared")


def test_table_loop_hides_the_pages_behind_it_and_is_told():
    """A vmemmap table points back up: the struct pages of one 128 MiB section cannot be read, all
    the others can.
    """
    image = KernelImage.of(open_core(core("bad-table-loop")))
    sections = Sections.of(image)
    heads = hugetlb_heads(image, sections)
    hidden = np.unique(heads.unreadable // sections.pages)
    assert len(hidden) == 1
    (pool,) = truth()["x86-6.12.94-mixed"]["pools"]
    assert heads.pfn.tolist() == [
        pfn for pfn in pool["heads"] if pfn // sections.pages != hidden[0]
    ]
    with pytest.raises(HvoError, match="is not mapped"):
        memory_map(image, sections)
