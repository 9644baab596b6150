"""The same bytes of HugeTLB pool on other architectures, with other base pages or in pages of
another size.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hvo.errors import HvoError
from hvo.layout.geometry import GEOMETRIES, Geometry
from hvo.layout.plan import Plan, node_memory, plan
from hvo.layout.pools import Amount, PoolRequest, lay_out

DIMENSIONS = ("arch", "page-size", "hugepage-size")
"""What can be compared."""


@dataclass(frozen=True)
class Alternative:
    """One row of a comparison: `hugepage_size` is `None` where the sizes are those asked for;
    `plan` is `None` where `reason` says why.
    """

    geometry: Geometry
    hugepage_size: int | None
    plan: Plan | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The plan, or what could not be planned and why."""
        if self.plan is not None:
            return self.plan.to_json() | {"hugepage_size": self.hugepage_size, "reason": ""}
        machine = {
            name: getattr(self.geometry, name) for name in ("arch", "page_size", "struct_page_size")
        }
        return {"machine": machine, "hugepage_size": self.hugepage_size, "reason": self.reason}


def compare(
    shape: Geometry,
    memory: int,
    requests: Sequence[PoolRequest],
    era: str,
    nodes: int,
    dimensions: Collection[str],
) -> list[Alternative]:
    """Every alternative that differs from what was asked in `dimensions` only (some of
    `DIMENSIONS`), that itself included.

    With `hugepage-size` all pools become one of as many bytes, in pages of each size in turn:
    rounded up to whole ones.
    """
    unknown = [name for name in dimensions if name not in DIMENSIONS]
    if unknown or not dimensions:
        raise HvoError(
            f"cannot compare {', '.join(unknown) or 'nothing'}: expected some of"
            f" {','.join(DIMENSIONS)}"
        )
    placed = lay_out(requests, node_memory(memory, nodes))
    pages: dict[int, int] = {}
    for each in placed:
        pages[each.size] = pages.get(each.size, 0) + each.pages
    wanted = [PoolRequest(size, (Amount(None, count),)) for size, count in pages.items()]
    return [
        _alternative(row, memory, size, wanted, era, nodes)
        for row, size in _rows(shape, dimensions)
    ]


def _rows(shape: Geometry, dimensions: Collection[str]) -> Iterator[tuple[Geometry, int | None]]:
    for row in GEOMETRIES.values():
        if ("arch" in dimensions or row.arch == shape.arch) and (
            "page-size" in dimensions or row.page_size == shape.page_size
        ):
            known = replace(row, struct_page_size=shape.struct_page_size)
            sizes = (
                [huge.size for huge in known.hugepages] if "hugepage-size" in dimensions else [None]
            )
            yield from ((known, size) for size in sizes)


def _alternative(
    shape: Geometry, memory: int, size: int | None, wanted: list[PoolRequest], era: str, nodes: int
) -> Alternative:
    requests = (
        wanted if size is None else [PoolRequest(size, (Amount(None, -(-_bytes(wanted) // size)),))]
    )
    try:
        return Alternative(shape, size, plan(shape, memory, requests, era, nodes), "")
    except HvoError as error:
        return Alternative(shape, size, None, str(error))


def _bytes(wanted: list[PoolRequest]) -> int:
    return sum(
        request.size * (amount.pages or 0) for request in wanted for amount in request.amounts
    )
