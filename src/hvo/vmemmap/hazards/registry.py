"""Every hazard by its number.

A scenario is named by a hazard (`H04`), by a group of them (`H01`), or by a word for scenarios that
belong to none.
"""

from hvo.errors import HvoError
from hvo.vmemmap.hazards.hazard import Hazard
from hvo.vmemmap.hazards.kernels import KERNEL_HAZARDS
from hvo.vmemmap.hazards.protocols import PROTOCOL_HAZARDS

HAZARDS = (*KERNEL_HAZARDS, *PROTOCOL_HAZARDS)
"""All hazards in the order of their numbers."""

_BY_ID = {hazard.id: hazard for hazard in HAZARDS}

_GROUPS = {
    "H01": "Live remapping on arm64 without break-before-make",
    "H03": "Speculative reference to a page that became a tail",
    "hot-remove": "Hot-remove of memory whose vmemmap was optimised",
    "more": "Violations that were not reported before",
}


def hazard(number: str) -> Hazard:
    """The hazard `number`; raises HvoError if there is none."""
    try:
        return _BY_ID[number]
    except KeyError:
        raise HvoError(
            f"no hazard {number!r}: there are {', '.join(_BY_ID)} (hvo check --list)"
        ) from None


def hazard_title(name: str) -> str:
    """What a hazard, a group of hazards or a word of the benchmark is about; "" if it is none.

    >>> hazard_title("H04")
    'Two splits of one leaf'
    """
    known = _BY_ID.get(name)
    return known.title if known else _GROUPS.get(name, "")


def hazards_named(name: str) -> tuple[Hazard, ...]:
    """The hazards that `name` means: one, or a group (`H01` is H01a and H01b)."""
    if name in _BY_ID:
        return (_BY_ID[name],)
    return tuple(hazard for hazard in HAZARDS if name in _GROUPS and hazard.id[:-1] == name)
