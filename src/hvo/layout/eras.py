"""The eras of the kernel's mechanism, as far as they decide what a HugeTLB page keeps and shares.

Sources: mm/hugetlb_vmemmap.c of each kernel (mm/sparse-vmemmap.c in 5.14): `RESERVE_VMEMMAP_NR` is
2 up to 5.17 and 1 since; 6.2 moves the head to a new frame; 7.1 shares one frame of tails per zone
and order.
"""

from dataclasses import dataclass
from typing import Literal

from hvo.errors import HvoError


@dataclass(frozen=True)
class EraLayout:
    """How the vmemmap of an optimised HugeTLB page looks in the kernels of one era."""

    name: str
    """The first kernel of the era."""
    kept_pages: int
    """Vmemmap pages of a HugeTLB page that keep a frame of their own."""
    moves_head: bool
    """Whether the first vmemmap page moves to a newly allocated frame."""
    shares: Literal["second", "head", "zone-tail"]
    """What the tail pages map to: vmemmap page 1, vmemmap page 0, or one frame for the whole zone
    and order.
    """


ERA_LAYOUTS: dict[str, EraLayout] = {
    era.name: era
    for era in (
        EraLayout("5.14", kept_pages=2, moves_head=False, shares="second"),
        EraLayout("5.18", kept_pages=1, moves_head=False, shares="head"),
        EraLayout("6.2", kept_pages=1, moves_head=True, shares="head"),
        EraLayout("7.1", kept_pages=1, moves_head=True, shares="zone-tail"),
    )
}
"""Every era by its name, oldest first."""


def era_layout(name: str) -> EraLayout:
    """The era called `name`; raises `HvoError` that lists the eras there are."""
    if name not in ERA_LAYOUTS:
        raise HvoError(f"unknown era {name!r}: expected one of {', '.join(ERA_LAYOUTS)}")
    return ERA_LAYOUTS[name]
