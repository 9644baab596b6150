"""What the boot command line says about HugeTLB: the gate, the default size, and pools that are
there before anything else runs.

Documentation/admin-guide/kernel-parameters.txt: `hugepages=` counts for the `hugepagesz=` before
it, else for the default size, and may be given node by node; gigantic pages are taken first, while
all memory is free.
"""

import re
from dataclasses import dataclass, replace

from hvo.errors import HvoError
from hvo.layout.units import format_size, parse_size
from hvo.machine.machine import Machine

_YES, _NO = {"on", "1", "y", "yes"}, {"off", "0", "n", "no"}


@dataclass(frozen=True)
class Reservation:
    """`pages` pages of `size` bytes (None: the default size) on `node` (None: on all in turn)."""

    size: int | None
    node: int | None
    pages: int


@dataclass(frozen=True)
class BootParameters:
    """What a command line asks for; None where it says nothing."""

    gate: bool | None = None
    default_size: int | None = None
    pools: tuple[Reservation, ...] = ()


def parse_cmdline(text: str) -> BootParameters:
    """Read a kernel command line; words that are not about HugeTLB are passed over.

    Raises HvoError for one that is and cannot be understood.
    """
    out, size = BootParameters(), None
    for word in text.split():
        name, _, value = word.partition("=")
        if name == "hugetlb_free_vmemmap":
            out = replace(out, gate=_truth(word, value))
        elif name == "default_hugepagesz":
            out = replace(out, default_size=parse_size(value))
        elif name == "hugepagesz":
            size = parse_size(value)
        elif name == "hugepages":
            out = replace(out, pools=(*out.pools, *_reservations(word, value, size)))
        elif name.startswith("huge"):
            raise HvoError(
                f"boot parameter {word!r}: expected hugetlb_free_vmemmap=, default_hugepagesz=,"
                " hugepagesz= or hugepages="
            )
    return out


def _truth(word: str, value: str) -> bool:
    if value.lower() not in _YES | _NO:
        raise HvoError(f"boot parameter {word!r}: expected on or off")
    return value.lower() in _YES


def _reservations(word: str, value: str, size: int | None) -> list[Reservation]:
    """`hugepages=4`, or `hugepages=0:4,1:2` for each node."""
    found = [re.fullmatch(r"(?:([0-9]+):)?([0-9]+)", part) for part in value.split(",")]
    matches = [match for match in found if match is not None]
    if len(matches) != len(found) or (
        len(found) > 1 and any(match[1] is None for match in matches)
    ):
        raise HvoError(f"boot parameter {word!r}: expected a number of pages, or NODE:PAGES,...")
    return [
        Reservation(size, None if match[1] is None else int(match[1]), int(match[2]))
        for match in matches
    ]


def boot_with(machine: Machine, parameters: BootParameters) -> None:
    """Set gate and default size of `machine`, and fill the pools that `parameters` ask for.

    Raises HvoError for a size or node that the machine does not have, and for more pages than its
    memory holds.
    """
    if parameters.gate is not None:
        machine.gate = replace(machine.gate, boot=parameters.gate)
    if parameters.default_size is not None:
        machine.default_size = machine.pool(parameters.default_size).size
    wanted = [
        (machine.pool(asked.size or machine.default_size).size, asked) for asked in parameters.pools
    ]
    for size, asked in sorted(wanted, key=lambda pair: -pair[0]):
        _reserve(machine, size, asked)


def _reserve(machine: Machine, size: int, asked: Reservation) -> None:
    nodes = len(machine.plan.nodes)
    if asked.node is not None and asked.node >= nodes:
        raise HvoError(
            f"boot parameter hugepages={asked.node}:{asked.pages}: the machine has {nodes} node(s),"
            " counted from 0"
        )
    memory = (
        sum(zone.present_pages for zone in machine.world.zones.zones)
        * machine.plan.geometry.page_size
    )
    most = memory // size
    machine.reserve_at_boot(size, min(asked.pages, most), asked.node)
    got = machine.pool(size).nr(asked.node)
    if got < asked.pages:
        raise HvoError(
            f"boot parameter hugepages={asked.pages}: memory holds {got} pages of"
            f" {format_size(size)}"
        )
