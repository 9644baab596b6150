"""What is known of each kind of pool in a fleet: an architecture, a kernel, a base page, a `struct
page` and a HugeTLB size.

A fleet has millions of rows and some hundred kinds, so this is where `hvo.layout` is asked; engines
join the answers to the rows.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache

import pyarrow as pa

from hvo.errors import HvoError
from hvo.fleet import rules
from hvo.layout.eras import ERA_LAYOUTS
from hvo.layout.geometry import GEOMETRIES, Geometry
from hvo.layout.releases import (
    NEWEST,
    Version,
    distributions,
    known_defects,
    lacking_reason,
    upstream_version,
)
from hvo.layout.units import format_size

KEYS = ("arch", "kernel", "page_size", "struct_page_size", "hugepage_size")
"""What makes a kind; `hugepage_size` 0 is a host without pools."""
ALIASES = {"amd64": "x86_64", "x86-64": "x86_64", "aarch64": "arm64"}
"""Other names of architectures that `hvo.layout` knows."""
_ERAS = list(ERA_LAYOUTS)


@dataclass(frozen=True)
class Kind:
    """One kind and what is known of it; bytes are of one HugeTLB page, texts are empty where there
    is nothing to say.
    """

    arch: str
    kernel: str
    page_size: int
    struct_page_size: int
    hugepage_size: int
    name: str = ""
    """The architecture as `hvo.layout` calls it."""
    broken: int = 0
    """The rule of `hvo.fleet.rules` that rows of this kind break."""
    offered: bool = False
    """Whether the kernel has the mechanism, as far as is known."""
    cost: int = 0
    """Struct pages."""
    freed: int = 0
    """What optimising gives back in kernels of this era, 0 where the size cannot be optimised."""
    newest: int = 0
    """The same in the newest kernels."""
    because: str = ""
    """What stands in the way: `architecture`, `kernel`, `struct page` or `size`."""
    why: str = ""
    """The same in a sentence."""
    upgrade: bool = False
    """Whether newer kernels of this architecture have the mechanism."""
    defect: str = ""
    """The known defect of the kernel, by its id."""
    largest: int = 0
    """The largest HugeTLB page of the architecture."""
    largest_freed: int = 0
    """What optimising one of these gives back."""


def kinds_table(keys: Iterable[tuple[str, str, int, int, int]]) -> pa.Table:
    """A table of `Kind`, a row for each of `keys`, to be joined by `KEYS`; never empty."""
    return pa.Table.from_pylist(
        [asdict(judge(*key)) for key in keys] or [asdict(Kind("", "", 0, 0, 0))]
    )


def judge(
    arch: str, kernel: str, page_size: int, struct_page_size: int, hugepage_size: int
) -> Kind:
    """What is known of one kind."""
    version = upstream_version(kernel, "")
    plain = Kind(
        arch, kernel, page_size, struct_page_size, hugepage_size, name=ALIASES.get(arch, arch)
    )
    broken = _broken(plain)
    if broken or version is None:
        return replace(plain, broken=broken or rules.NO_VERSION)
    plain = replace(plain, cost=hugepage_size // page_size * struct_page_size)
    known = _with_kernel(plain, version)
    rows = [row for row in GEOMETRIES.values() if row.arch == plain.name]
    shape = next(
        (
            replace(row, struct_page_size=struct_page_size)
            for row in rows
            if row.page_size == page_size
        ),
        None,
    )
    if shape is not None:
        return _with_geometry(known, shape, _era(version))
    return replace(known, broken=rules.NO_BASE_PAGE) if rows else known


def _broken(kind: Kind) -> int:
    """The rule that is broken by what the kind says of itself, 0 where none is."""
    page, huge = kind.page_size, kind.hugepage_size
    tests = (
        (not kind.arch, rules.NO_ARCH),
        (page.bit_count() != 1 or not 1 << 10 <= page <= 1 << 20, rules.PAGE_SIZE),
        (not 1 <= kind.struct_page_size <= page, rules.STRUCT_PAGE_SIZE),
        (huge != 0 and (huge.bit_count() != 1 or huge <= page), rules.HUGEPAGE_SIZE),
    )
    return next((rule for test, rule in tests if test), 0)


def _with_kernel(kind: Kind, version: Version) -> Kind:
    """Whether the kernel has the mechanism and, if not, why, and whether newer ones do."""
    never = kind.name not in _ARCHES or lacking_reason(kind.name, Version(*NEWEST, 0)) is not None
    why = lacking_reason(kind.name, version) or _left_out(kind.name, kind.kernel)
    if never and why is None:
        why = f"{kind.name} is not known to have the optimisation"
    defect = next((defect.id for defect in known_defects(version)), "")
    because = "" if why is None else "architecture" if never else "kernel"
    return replace(
        kind,
        offered=why is None,
        why=why or "",
        because=because,
        upgrade=not never,
        defect=defect if why is None else "",
    )


_ARCHES = {row.arch for row in GEOMETRIES.values()}


@cache
def _left_out(arch: str, kernel: str) -> str | None:
    """Why the distribution that `kernel` is of has left the mechanism out, None where it has not,
    or is not known.
    """
    found = (
        each for each in distributions() if each.arch == arch and re.search(each.match, kernel)
    )
    first = next(found, None)
    return (
        f"{first.name} builds its kernels for {arch} without it"
        if first and not first.built
        else None
    )


def _era(version: Version) -> str:
    """The era of a version; what is older than all is like the oldest."""
    begun = [name for name in _ERAS if tuple(map(int, name.split("."))) <= version[:2]]
    return (begun or _ERAS)[-1 if begun else 0]


def _with_geometry(kind: Kind, shape: Geometry, era: str) -> Kind:
    """What one page costs and gives back."""
    largest = max(
        (huge.size for huge in shape.hugepages),
        key=lambda size: (shape.optimizable(size, era), size),
    )
    kind = replace(kind, largest=largest, largest_freed=shape.saved_bytes(largest, era))
    if not kind.hugepage_size:
        return kind
    try:
        freed, newest = (shape.saved_bytes(kind.hugepage_size, each) for each in (era, _ERAS[-1]))
    except HvoError:
        return replace(kind, broken=rules.NO_SUCH_SIZE)
    kind = replace(kind, freed=freed, newest=newest)
    return kind if newest or kind.because == "architecture" else _not_optimizable(kind)


def _not_optimizable(kind: Kind) -> Kind:
    """A size that no kernel of this architecture optimises, which says more than that this one
    lacks the mechanism.
    """
    if kind.struct_page_size.bit_count() != 1:
        why = (
            f"sizeof(struct page) is {kind.struct_page_size}, no power of two: a struct page"
            " straddles vmemmap pages"
        )
        return replace(kind, because="struct page", why=why)
    size = f"{format_size(kind.hugepage_size)} pages with {format_size(kind.page_size)} base pages"
    return replace(
        kind,
        because="size",
        why=f"{size}: their struct pages fill no more than the one vmemmap page that is kept",
    )
