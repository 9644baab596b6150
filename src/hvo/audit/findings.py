"""Findings: what breaks a rule, where, which entry says so and what was expected there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvo.audit.rules import RULES, Severity
from hvo.audit.vmemmap import VmemmapPages


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the rule's `id`, the frame `pfn` (a HugeTLB page's head if it is
    about one), the virtual `address`.

    `entry` is the value found there, of a page-table entry or of the word in a struct page;
    `expected` says what should be; `count` how many vmemmap pages (of one HugeTLB page, say) are
    so, the first of which is named.
    """

    id: str
    pfn: int
    address: int
    entry: int
    expected: str
    message: str
    count: int = 1

    @property
    def severity(self) -> Severity:
        """How bad it is: the rule's."""
        return RULES[self.id].severity

    def to_json(self) -> dict[str, Any]:
        """The object of `hvo audit --json`."""
        return {
            "id": self.id,
            "severity": self.severity,
            "pfn": self.pfn,
            "address": self.address,
            "message": self.message,
            "entry": self.entry,
            "expected": self.expected,
            "count": self.count,
        }


@dataclass(frozen=True)
class Spot:
    """A finding that is going to be: of a vmemmap page (`index`), whose entry is yet to be read.
    `what` and `expected` are texts.
    """

    id: str
    pfn: int
    index: int
    what: str
    expected: str
    count: int = 1


def with_entries(vmemmap: VmemmapPages, spots: Sequence[Spot]) -> list[Finding]:
    """The findings of `spots`, with the entries that are there."""
    index: NDArray[np.intp] = np.array([spot.index for spot in spots], np.intp)
    found = vmemmap.entries(index)
    rows = zip(spots, found.virtual.tolist(), found.entry.tolist(), strict=True)
    return [
        Finding(
            spot.id,
            spot.pfn,
            address,
            entry,
            spot.expected,
            _message(spot, address, entry),
            spot.count,
        )
        for spot, address, entry in rows
    ]


def _message(spot: Spot, address: int, entry: int) -> str:
    more = f" ({spot.count} vmemmap pages, the first is named)" if spot.count > 1 else ""
    return (
        f"pfn {spot.pfn:#x}: {spot.what} at {address:#x}, entry {entry:#x}{more}; expected"
        f" {spot.expected}"
    )
