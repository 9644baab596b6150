"""What a CPU does with an address: the translation, or the fault that the kernel would see."""

from typing import Literal

import numpy as np

from hvo.memory.interface import Memory
from hvo.mmu.fault import FaultCode
from hvo.mmu.format import Format
from hvo.mmu.shape import Words
from hvo.mmu.walk import Walk, walk

FaultKind = Literal["not-present", "read-only", "access-flag"]
_WHY = {
    "not-present": "access to an address that is not mapped",
    "read-only": "write to a read-only page",
    "access-flag": "access by an entry whose access flag is clear",
}


class PageFault(Exception):
    """An access that the hardware would not carry out; addresses in bytes.

    `not-present` is every walk that reaches no leaf, for whatever `FaultCode`; `access-flag`
    happens only where the hardware does not set the flag by itself (`Format.access_flag_faults`).
    """

    def __init__(self, kind: FaultKind, address: int, entry: int, level: int) -> None:
        super().__init__(f"{_WHY[kind]} at {address:#x} (entry {entry:#x} of level {level})")
        self.kind: FaultKind = kind
        self.address = address
        self.entry = entry
        self.level = level

    @property
    def why(self) -> str:
        """The kind in words."""
        return _WHY[self.kind]


def access(
    memory: Memory, format: Format, root: int, addresses: Words, *, write: bool = False
) -> Walk:
    """The walks of the virtual `addresses` for a load, or with `write` for a store.

    Raises `PageFault` for the first address, in order, that faults. The order of the checks is the
    hardware's: a leaf that is both old and read-only is an access-flag fault (Arm ARM D8.15,
    priority of faults).
    """
    found = walk(memory, format, root, addresses)
    good = found.valid & found.writable if write else found.valid
    if format.access_flag_faults:
        good = good & format.is_accessed(found.entry)
    if not good.all():
        raise _page_fault(found, int(np.flatnonzero(~good)[0]))
    return found


def translate(
    memory: Memory, format: Format, root: int, addresses: Words, *, write: bool = False
) -> Words:
    """Physical addresses, in the same shape, of what `access` walks to."""
    found = access(memory, format, root, addresses, write=write)
    return found.address.reshape(np.shape(addresses))


def _page_fault(found: Walk, i: int) -> PageFault:
    entry = int(found.entry.flat[i])
    kind: FaultKind = "read-only"
    if found.fault.flat[i] != FaultCode.NONE:
        kind = "not-present"
    elif found.format.access_flag_faults and not found.format.is_accessed(entry):
        kind = "access-flag"
    return PageFault(kind, int(found.virtual.flat[i]), entry, int(found.level.flat[i]))
