"""Are the constants of a kernel possible at all: a damaged core must not make an audit run for ever
or ask for all memory.
"""

from hvo.errors import HvoError
from hvo.memory.vmcoreinfo import Lookup, VmcoreInfo

_STRUCT_PAGE = (32, 4096)
_MEMBER = (0, 4 * 4096)
_ADDRESS = (0, (1 << 64) - 1)
_SIGNED = (-(1 << 63), (1 << 64) - 1)


def check_constants(info: VmcoreInfo) -> None:
    """Raise `HvoError` that names the first constant which no kernel has, or which is needed and
    missing.
    """
    for lookup, names, low, high in _required(info):
        for name in names:
            _check(lookup, name, lookup(name), low, high)
    for lookup, names, low, high in _optional(info):
        for name in names:
            value = lookup(name, None)
            if value is not None:
                _check(lookup, name, value, low, high)
    if info.number("MAX_PHYSMEM_BITS") < info.number("SECTION_SIZE_BITS"):
        raise HvoError(
            "VMCOREINFO: NUMBER(MAX_PHYSMEM_BITS) is less than NUMBER(SECTION_SIZE_BITS): no kernel"
            " has such sections"
        )
    if info.size("page") % 8 or info.size("mem_section") % 8:
        raise HvoError("VMCOREINFO: SIZE(page) and SIZE(mem_section) must be multiples of 8")


Row = tuple[Lookup[int], tuple[str, ...], int, int]


def _required(info: VmcoreInfo) -> list[Row]:
    page_size = info.page_size
    return [
        (info.number, ("SECTION_SIZE_BITS",), 20, 40),
        (info.number, ("MAX_PHYSMEM_BITS",), 30, 64),
        (info.size, ("page",), *_STRUCT_PAGE),
        (info.size, ("mem_section",), 8, page_size),
        (info.length, ("mem_section",), 1, 1 << 24),
        (info.offset, ("mem_section.section_mem_map",), 0, page_size - 8),
        (info.symbol, ("swapper_pg_dir", "mem_section"), *_ADDRESS),
        (
            info.offset,
            ("page.flags", "page.private", "page._mapcount", "page._refcount", "page.lru"),
            *_MEMBER,
        ),
        (info.offset, ("list_head.next", "list_head.prev"), 0, 64),
        (info.number, ("PG_head_mask",), 1, 1 << 62),
    ]


def _optional(info: VmcoreInfo) -> list[Row]:
    members = (
        "page.compound_head",
        "page.compound_info",
        "page.compound_dtor",
        "page.compound_order",
        "folio._folio_dtor",
    )
    return [
        (info.offset, (*members, "folio._folio_order"), *_MEMBER),
        (info.number, ("PG_private", "PG_hwpoison", "PG_hugetlb"), 2, 62),
        (
            info.number,
            (
                "PAGE_HUGETLB_MAPCOUNT_VALUE",
                "PAGE_BUDDY_MAPCOUNT_VALUE",
                "phys_base",
                "kimage_voffset",
            ),
            *_SIGNED,
        ),
        (info.number, ("HUGETLB_PAGE_DTOR",), 0, 255),
        (info.number, ("sme_mask",), 0, 1 << 62),
        (info.number, ("TCR_EL1_T1SZ", "VA_BITS"), 0, 64),
        (info.length, ("zone.free_area",), 1, 32),
        (info.length, ("node_data",), 1, 1 << 16),
    ]


def _check(lookup: Lookup[int], name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise HvoError(f"VMCOREINFO: {lookup.kind}({name})={value}, expected {low} to {high}")
