"""VMCOREINFO of a machine that was built: the constants that a kernel of its era and architecture
exports (kernel/vmcore_info.c).
"""

from hvo.kernel.flag_widths import zonelists_end
from hvo.kernel.struct_page import (
    COUNTS,
    FLAGS,
    LINK,
    MAPPING,
    NOT_MAPPED,
    PRIVATE,
    STRUCT_PAGE_SIZE,
    StructPageLayout,
)
from hvo.machine.boot.build import Plan
from hvo.machine.boot.kernel_data import MEM_SECTION_SIZE, KernelData
from hvo.memory.vmcoreinfo import VmcoreInfo
from hvo.world.state import World

_MODELLED_ON = {"5.14": "5.14.0", "5.18": "6.1.0", "6.2": "6.12.0", "7.1": "7.1.0"}
"""The kernel of each era whose struct pages a built machine has."""


def vmcoreinfo(world: World, what: Plan, data: KernelData) -> VmcoreInfo:
    """What the machine would export; its mem_section[] and top table are where `data` says."""
    page_size, era = what.geometry.page_size, world.vmemmap.era.name
    entries = {
        "OSRELEASE": f"{_MODELLED_ON[era]}-hvo",
        "PAGESIZE": page_size,
        "SYMBOL(swapper_pg_dir)": f"{data.virtual(world.root):x}",
        "SYMBOL(_stext)": f"{data.virtual(data.frame * page_size):x}",
        **_sections(data),
        **_page(world.layout),
        "SIZE(list_head)": 16,
        "OFFSET(list_head.next)": 0,
        "OFFSET(list_head.prev)": 8,
        **_zones(world.layout),
        "LENGTH(zone.free_area)": world.zones.zones[0].max_order + 1,
        "NUMBER(NR_FREE_PAGES)": 0,
        **_flags(world.layout),
        "LENGTH(node_data)": 1 << (64 - world.layout.node_shift),
        **_architecture(world, what, data),
        "KERNELOFFSET": 0,
    }
    if world.vmemmap.era.batched:
        entries["SYMBOL(vmemmap)"] = f"{world.vmemmap.base:x}"
    return VmcoreInfo({key: str(value) for key, value in entries.items()})


def _sections(data: KernelData) -> dict[str, str | int]:
    return {
        "SYMBOL(mem_section)": f"{data.virtual(data.roots):x}",
        "LENGTH(mem_section)": data.root_count,
        "SIZE(mem_section)": MEM_SECTION_SIZE,
        "OFFSET(mem_section.section_mem_map)": 0,
        "NUMBER(SECTION_SIZE_BITS)": data.section_bits,
        "NUMBER(MAX_PHYSMEM_BITS)": data.physical_bits,
    }


_ZONE_SIZE = 1728
"""Of a `struct zone`, in 6.12."""


def _zones(layout: StructPageLayout) -> dict[str, str | int]:
    """What tells how many bits of flags hold node and zone (`hvo.kernel.flag_widths`)."""
    nodes, zones = 64 - layout.node_shift, layout.node_shift - layout.zone_shift
    end = zonelists_end(_ZONE_SIZE, (1 << zones - 1) + 1, nodes)
    return {"SIZE(zone)": _ZONE_SIZE, "OFFSET(pglist_data.nr_zones)": end}


def _page(layout: StructPageLayout) -> dict[str, str | int]:
    """Members of struct page; `lru` shares its place with the link of tails, which 7.1 renamed."""
    link = "compound_info" if layout.link == "mask" else "compound_head"
    return {
        "SIZE(page)": STRUCT_PAGE_SIZE,
        "OFFSET(page.flags)": FLAGS * 8,
        "OFFSET(page._refcount)": COUNTS * 8 + 4,
        "OFFSET(page.mapping)": MAPPING * 8,
        "OFFSET(page.lru)": LINK * 8,
        "OFFSET(page._mapcount)": COUNTS * 8,
        "OFFSET(page.private)": PRIVATE * 8,
        f"OFFSET(page.{link})": LINK * 8,
    }


def _flags(layout: StructPageLayout) -> dict[str, str | int]:
    """Page flags and the mark of HugeTLB pages, as the era has it."""
    out: dict[str, str | int] = {
        "NUMBER(PG_private)": layout.reserved_bit + 1,
        "NUMBER(PG_hwpoison)": layout.hwpoison_bit,
        "NUMBER(PG_head_mask)": 1 << layout.head_bit,
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": _signed(layout.buddy),
    }
    mark = layout.hugetlb
    if mark.marks is None:
        return out | {"NUMBER(PG_hugetlb)": mark.shift}
    if mark.marks[0] == NOT_MAPPED:
        return out | {"NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)": _signed(mark.marks[1])}
    dtor, order = (field.word * 8 + field.shift // 8 for field in (mark, layout.order))
    members: dict[str, str | int] = {
        "OFFSET(page.compound_dtor)": dtor,
        "OFFSET(page.compound_order)": order,
    }
    return out | members | {"NUMBER(HUGETLB_PAGE_DTOR)": mark.marks[1]}


def _signed(value: int) -> int:
    """A 32-bit constant as the kernel prints it, which has an int."""
    return value - (1 << 32) if value >> 31 else value


def _architecture(world: World, what: Plan, data: KernelData) -> dict[str, str | int]:
    """What each architecture adds (arch/*/kernel/vmcore_info.c)."""
    bits = what.format.va_bits
    if what.geometry.arch == "x86_64":
        top = f"{data.virtual(world.root):x}"
        five = int(what.format.levels == 5)
        return {
            "NUMBER(phys_base)": 0,
            "SYMBOL(init_top_pgt)": top,
            "NUMBER(pgtable_l5_enabled)": five,
            "NUMBER(sme_mask)": 0,
        }
    if what.geometry.arch == "riscv64":
        return {
            "NUMBER(VA_BITS)": bits,
            "NUMBER(phys_ram_base)": 0,
            "NUMBER(va_kernel_pa_offset)": f"{data.image:#x}",
        }
    return {
        "NUMBER(VA_BITS)": bits,
        "NUMBER(kimage_voffset)": f"{data.image:#x}",
        "NUMBER(PHYS_OFFSET)": "0x0",
        "NUMBER(TCR_EL1_T1SZ)": f"{64 - bits:#x}",
    }
