"""Arm's break-before-make rule on two descriptors (Arm ARM D8.16).

The checker and the litmus tests ask it.
"""

from hvo.mmu.format import Format


def is_cacheable(format: Format, entry: int) -> bool:
    """Whether a TLB may hold the entry: it is valid, and its access flag is set where the walker
    does not set it on the way.
    """
    return bool(format.is_valid(entry)) and (
        bool(format.is_accessed(entry)) or not format.access_flag_faults
    )


_ATTRIBUTES = 0b111 << 2 | 0b11 << 8


def attributes_differ(old: int, new: int) -> bool:
    """Whether memory type, shareability or cacheability differ between two arm64 leaves (AttrIndx,
    bits 2 to 4, and SH, bits 8 and 9).
    """
    return (old ^ new) & _ATTRIBUTES != 0


def may_write(format: Format, entry: int, *, hardware_dirty: bool) -> bool:
    """Whether a CPU may write through the leaf: it is writable, or becomes so where the hardware
    manages the dirty state (arm64's DBM).
    """
    return bool(format.is_writable(entry)) or (
        hardware_dirty and entry & format.dirty_modifier != 0
    )


def needs_break(
    format: Format,
    old: int,
    new: int,
    *,
    same_output: bool,
    same_contents: bool,
    hardware_dirty: bool = False,
) -> bool:
    """Whether exchanging the cacheable leaf `old` for the cacheable leaf `new` of the same size
    needs break-before-make.

    It does when the attributes differ, or when they lead to different places and one of them is
    writable or the places differ in contents.
    """
    if attributes_differ(old, new):
        return True
    writable = any(may_write(format, entry, hardware_dirty=hardware_dirty) for entry in (old, new))
    return not same_output and (writable or not same_contents)
