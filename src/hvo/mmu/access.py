"""What a CPU does with an address: the translation, or the fault that the kernel would see."""

from typing import Literal

import numpy as np

from hvo.memory.interface import Memory
from hvo.mmu.fault import FaultCode
from hvo.mmu.format import Format
from hvo.mmu.shape import Flags, Words
from hvo.mmu.walk import Walk, walk

FaultKind = Literal["not-present", "read-only", "access-flag"]


class PageFault(Exception):
    """An access that the hardware would not carry out; addresses in bytes.

    `not-present` is every walk that reaches no leaf, for whatever `FaultCode`; `access-flag`
    happens only where the hardware does not set the flag by itself (`Format.access_flag_faults`).
    """

    def __init__(self, kind: FaultKind, address: int, entry: int, level: int) -> None:
        super().__init__(f"{kind} fault at {address:#x}: entry {entry:#x} of level {level}")
        self.kind: FaultKind = kind
        self.address = address
        self.entry = entry
        self.level = level


def translate(
    memory: Memory, format: Format, root: int, addresses: Words, *, write: bool = False
) -> Words:
    """Physical addresses (same shape) of the virtual `addresses` for a load, or with `write` for a
    store.

    Raises `PageFault` for the first address, in order, that faults. The order of the checks is the
    hardware's: a leaf that is both old and read-only is an access-flag fault (Arm ARM D8.15,
    priority of faults).
    """
    found = walk(memory, format, root, addresses)
    old = found.valid & ~format.is_accessed(found.entry) & format.access_flag_faults
    denied = found.valid & ~found.writable & write
    faulting = np.flatnonzero(~found.valid | old | denied)
    if faulting.size:
        raise _page_fault(found, int(faulting[0]), old)
    return found.address


def _page_fault(found: Walk, i: int, old: Flags) -> PageFault:
    kind: FaultKind = "read-only"
    if found.fault.flat[i] != FaultCode.NONE:
        kind = "not-present"
    elif old.flat[i]:
        kind = "access-flag"
    return PageFault(
        kind, int(found.virtual.flat[i]), int(found.entry.flat[i]), int(found.level.flat[i])
    )
