"""What struct pages cost on a machine that need not exist, what its pools would give back, and what
undoing that takes: pure numbers.

The machine is laid out as `hvo run` builds one: on each node the pools lie one after the other from
an aligned start, larger pages first.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hvo.errors import HvoError
from hvo.layout.eras import ERA_LAYOUTS, era_layout
from hvo.layout.geometry import Geometry
from hvo.layout.pools import NodePages, PoolRequest, lay_out
from hvo.layout.units import format_size


@dataclass(frozen=True)
class PlannedPool:
    """One pool: `pages` of `size` bytes, each with `vmemmap_pages`, of which optimising gives
    `freed_pages` back; `saved` bytes in all.
    """

    size: int
    pages: int
    vmemmap_pages: int
    freed_pages: int
    saved: int


@dataclass(frozen=True)
class PlannedNode:
    """One NUMA node; every figure is in bytes.

    `table_cost`: tables for the vmemmap leaves that are split; `shared_tails`: the frames that the
    tails of each size share (7.1); `restore_headroom`: what must be free on the node, for the
    kernel's own use, before all its pages can be given back.
    """

    node: int
    memory: int
    memmap: int
    pool_bytes: int
    saved: int
    table_cost: int
    shared_tails: int
    restore_headroom: int


@dataclass(frozen=True)
class Plan:
    """The answer for the kernels of one era; sizes in bytes."""

    geometry: Geometry
    memory: int
    era: str
    pools: tuple[PlannedPool, ...]
    nodes: tuple[PlannedNode, ...]

    @property
    def memmap(self) -> int:
        """Struct pages of all memory, nothing optimised."""
        return sum(node.memmap for node in self.nodes)

    @property
    def saved(self) -> int:
        """What optimising all pools gives back, before the cost of tables."""
        return sum(node.saved for node in self.nodes)

    @property
    def table_cost(self) -> int:
        """Tables in place of split leaves; they stay when pages are restored."""
        return sum(node.table_cost for node in self.nodes)

    @property
    def shared_tails(self) -> int:
        """Frames that the tails of a zone and size share (7.1); they stay as well."""
        return sum(node.shared_tails for node in self.nodes)

    @property
    def net(self) -> int:
        """What is gained when all is paid."""
        return self.saved - self.table_cost - self.shared_tails

    @property
    def restore_headroom(self) -> int:
        """Frames that giving every page back allocates first, on all nodes."""
        return sum(node.restore_headroom for node in self.nodes)

    @property
    def pool_bytes(self) -> int:
        """Memory in the pools."""
        return sum(node.pool_bytes for node in self.nodes)

    def to_json(self) -> dict[str, Any]:
        """The contract of `hvo plan --json`, of one era."""
        figures = (
            "memmap",
            "saved",
            "table_cost",
            "shared_tails",
            "net",
            "restore_headroom",
            "pool_bytes",
        )
        shape = {
            name: getattr(self.geometry, name) for name in ("arch", "page_size", "struct_page_size")
        }
        return {
            "machine": shape | {"memory": self.memory},
            "era": self.era,
            "pools": [asdict(pool) for pool in self.pools],
            **{name: getattr(self, name) for name in figures},
            "nodes": [asdict(node) for node in self.nodes],
        }


def plan(
    shape: Geometry, memory: int, requests: Sequence[PoolRequest], era: str, nodes: int = 1
) -> Plan:
    """What `memory` bytes on `nodes` nodes and pools cost and save with the kernels of `era`.

    Memory need be no whole number of sections, nor divide by the nodes: the first node gets the
    rest. Raises `HvoError` for an unknown era, a size that the machine does not have, and pools
    that do not fit.
    """
    era_layout(era)
    for request in requests:
        shape.vmemmap_pages(request.size)
    if memory < nodes * shape.page_size:
        raise HvoError(
            f"memory {format_size(memory)} on {nodes} node(s): expected at least"
            f" {format_size(shape.page_size)} for each"
        )
    shares = node_memory(memory, nodes)
    placed = lay_out(requests, shares)
    return Plan(
        shape,
        memory,
        era,
        tuple(
            _pool(shape, era, size, placed) for size in dict.fromkeys(each.size for each in placed)
        ),
        tuple(
            _node(shape, era, node, share, [each for each in placed if each.node == node])
            for node, share in enumerate(shares)
        ),
    )


def node_memory(memory: int, nodes: int) -> list[int]:
    """Bytes of each node: equal shares, and what does not divide goes to the first."""
    return [memory // nodes + (memory % nodes if node == 0 else 0) for node in range(nodes)]


def plan_eras(
    shape: Geometry, memory: int, requests: Sequence[PoolRequest], nodes: int = 1
) -> tuple[Plan, ...]:
    """The plan of every era, oldest first."""
    return tuple(plan(shape, memory, requests, era, nodes) for era in ERA_LAYOUTS)


def _pool(shape: Geometry, era: str, size: int, placed: list[NodePages]) -> PlannedPool:
    pages = sum(each.pages for each in placed if each.size == size)
    return PlannedPool(
        size,
        pages,
        shape.vmemmap_pages(size),
        shape.freed_pages(size, era),
        pages * shape.saved_bytes(size, era),
    )


def _node(
    shape: Geometry, era: str, node: int, memory: int, placed: list[NodePages]
) -> PlannedNode:
    saved = sum(each.pages * shape.saved_bytes(each.size, era) for each in placed)
    sections = -(
        -memory // shape.section_size
    )  # the map of a section is made whole at boot (mm/sparse.c, `sparse_init_nid`)
    shared = sum(bool(each.pages) and shape.optimizable(each.size, era) for each in placed)
    return PlannedNode(
        node,
        memory,
        shape.cost_bytes(sections * shape.section_size),
        sum(each.pages * each.size for each in placed),
        saved,
        _split_leaves(shape, era, placed) * shape.page_size,
        shared * shape.page_size if era_layout(era).shares == "zone-tail" else 0,
        saved,
    )


def _split_leaves(shape: Geometry, era: str, placed: list[NodePages]) -> int:
    """Vmemmap leaves that map struct pages of optimised pages; neighbours share the leaf where one
    pool ends and the next begins.
    """
    if shape.vmemmap_leaf is None:
        return 0
    start = split = counted = 0
    for _, size, pages in placed:
        end = start + pages * size // shape.page_size * shape.struct_page_size
        if pages and shape.optimizable(size, era):
            last = -(-end // shape.vmemmap_leaf)
            split += last - max(counted, start // shape.vmemmap_leaf)
            counted = last
        start = end
    return split
