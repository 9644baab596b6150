"""What an audit finds, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvo.audit.dax import Dax
from hvo.audit.defects import FoundDefect
from hvo.audit.findings import Finding
from hvo.audit.layout import Layout
from hvo.audit.outside import LostPage
from hvo.kernel.sections import Pfns

SHARES = ("outside", "own", "shared", "findings", "unmapped")
"""What `Cells.shares` counts, as the JSON form names it."""
_DIGITS = 6  # one vmemmap page of a million in a part can still be seen


@dataclass(frozen=True)
class Counts:
    """HugeTLB pages of one size, of the whole kernel or of a node; `saved` and `possible` in bytes.

    `optimized`: all vmemmap pages behind the kept ones share a frame; `partial`: some do;
    `flagged`: the kernel believes so. `saved` is what vmemmap pages on shared frames would take on
    frames of their own; the few frames of tails that zones share (7.1) are not counted, as the
    kernel does not. `self_hosted`: in memory blocks that host their own vmemmap
    (`memmap_on_memory`), which no kernel optimises. `possible` is what optimising the others would
    give back.
    """

    pages: int
    optimized: int
    partial: int
    flagged: int
    free: int
    self_hosted: int
    saved: int
    possible: int


@dataclass(frozen=True)
class Pool:
    """HugeTLB pages of one `size` in bytes, each with `vmemmap_pages`, on `backing_frames`
    different frames together.

    Arrays with an element a HugeTLB page, ascending: `pfn`, `node` (int64), `state` (uint8: 0
    plain, 1 optimised, 2 partly), `flagged` (bool). `nodes`: the counts of each node that has pages
    of this size.
    """

    size: int
    vmemmap_pages: int
    backing_frames: int
    counts: Counts
    nodes: dict[int, Counts]
    pfn: Pfns
    node: NDArray[np.int64]
    state: NDArray[np.uint8]
    flagged: NDArray[np.bool_]

    def to_json(self) -> dict[str, Any]:
        """The object of `hvo audit --json`."""
        nodes = [{"node": node, **asdict(counts)} for node, counts in self.nodes.items()]
        return {
            "size": self.size,
            "vmemmap_pages": self.vmemmap_pages,
            "backing_frames": self.backing_frames,
            **asdict(self.counts),
            "nodes": nodes,
        }


@dataclass(frozen=True)
class Cells:
    """A picture of the vmemmap: parts of equal size (`frames` frames each, from frame `start[i]`
    on; int64, ascending).

    `shares`: float32, shape (parts, 5): the share of struct pages that are outside HugeTLB pages;
    in a HugeTLB page with a frame of their own, and with a shared one; concerned by a finding; not
    mapped.
    """

    frames: int
    start: Pfns
    shares: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """The object of `hvo audit --json`: a list for each kind of share, with an element a
        part.
        """
        columns = np.round(self.shares.T.astype(np.float64), _DIGITS).tolist()
        return {
            "frames": self.frames,
            "start": self.start.tolist(),
            **dict(zip(SHARES, columns, strict=True)),
        }


@dataclass(frozen=True)
class Audit:
    """What was found in one kernel's memory; sizes in bytes.

    In words: `notes`, what cannot be optimised and why; `missing`, what the memory lacks and was
    not looked at.
    """

    kernel: str
    arch: str
    page_size: int
    struct_page_size: int
    layout: Layout
    sections: int
    table_cost: int
    pools: tuple[Pool, ...]
    lost: tuple[LostPage, ...]
    defects: tuple[FoundDefect, ...]
    dax: Dax
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    cells: Cells

    @property
    def sound(self) -> bool:
        """Whether nothing was found to be wrong."""
        return all(finding.severity == "info" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The object that `hvo audit --json` prints."""
        lost = {
            "pages": len(self.lost),
            "frames": sum(page.frames for page in self.lost),
            "bytes": sum(page.size for page in self.lost),
        }
        return {
            "kernel": self.kernel,
            "arch": self.arch,
            "page_size": self.page_size,
            "struct_page_size": self.struct_page_size,
            "layout": self.layout,
            "sections": self.sections,
            "table_cost": self.table_cost,
            "saved": sum(pool.counts.saved for pool in self.pools),
            "possible": sum(pool.counts.possible for pool in self.pools),
            "pools": [pool.to_json() for pool in self.pools],
            "lost": lost,
            "defects": [_defect_json(each) for each in self.defects],
            "dax": self.dax._asdict(),
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
            "missing": list(self.missing),
            "cells": self.cells.to_json(),
        }


def _defect_json(found: FoundDefect) -> dict[str, Any]:
    defect = found.defect
    return {
        "id": defect.id,
        "summary": defect.summary,
        "pages": found.pages,
        "frames": found.frames,
        "fixed": defect.fixed,
    }
