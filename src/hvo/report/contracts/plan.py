"""What `hvo plan --json` prints, alone and with --compare."""

from typing import Annotated, NotRequired, TypedDict

from hvo.report.contracts.run import Machine
from hvo.report.contracts.units import Bytes, Command, Pages, VmemmapPages


class PlannedPool(TypedDict):
    """One pool of a planned machine."""

    size: Annotated[Bytes, "one page"]
    pages: Pages
    vmemmap_pages: Annotated[VmemmapPages, "of one page"]
    freed_pages: Annotated[VmemmapPages, "of one page that optimising gives back"]
    saved: Annotated[Bytes, "by all of them"]


class PlannedNode(TypedDict):
    """One NUMA node of a planned machine."""

    node: int
    memory: Bytes
    memmap: Annotated[Bytes, "struct pages, nothing optimised"]
    pool_bytes: Annotated[Bytes, "in pools"]
    saved: Bytes
    table_cost: Annotated[Bytes, "tables in place of leaves that are split"]
    shared_tails: Annotated[Bytes, "frames that the tails of each size share (7.1)"]
    restore_headroom: Annotated[Bytes, "that must be free before all pages can be given back"]


class EraPlan(TypedDict):
    """The plan for the kernels of one era."""

    machine: Machine
    era: str
    pools: list[PlannedPool]
    memmap: Annotated[Bytes, "struct pages, nothing optimised"]
    saved: Annotated[Bytes, "before the cost of tables"]
    table_cost: Annotated[Bytes, "tables in place of leaves that are split"]
    shared_tails: Annotated[Bytes, "frames that the tails of each size share (7.1)"]
    net: Annotated[int, "bytes saved less both costs"]
    restore_headroom: Annotated[Bytes, "that giving every page back allocates first"]
    pool_bytes: Annotated[Bytes, "in pools"]
    nodes: list[PlannedNode]


class Plan(EraPlan):
    """What `hvo plan --json` prints: the plan for the era that was asked for, or for the newest."""

    eras: NotRequired[
        Annotated[list[EraPlan], "every era, the oldest first; where none was asked for"]
    ]
    command: Command


class AlternativeMachine(TypedDict):
    """The machine of an alternative."""

    arch: str
    page_size: Annotated[Bytes, "base page"]
    struct_page_size: Bytes
    memory: NotRequired[Bytes]


class Alternative(TypedDict):
    """One row of a comparison; of what cannot be planned only machine, hugepage_size and reason are
    there.
    """

    machine: AlternativeMachine
    hugepage_size: Annotated[int | None, "bytes of a page; null: the sizes that were asked for"]
    reason: Annotated[str, "why it cannot be planned; empty where it can"]
    era: NotRequired[str]
    pools: NotRequired[list[PlannedPool]]
    memmap: NotRequired[Annotated[Bytes, "struct pages, nothing optimised"]]
    saved: NotRequired[Annotated[Bytes, "before the cost of tables"]]
    table_cost: NotRequired[Annotated[Bytes, "tables in place of leaves that are split"]]
    shared_tails: NotRequired[Annotated[Bytes, "frames that the tails of each size share (7.1)"]]
    net: NotRequired[Annotated[int, "bytes saved less both costs"]]
    restore_headroom: NotRequired[Annotated[Bytes, "that giving every page back allocates first"]]
    pool_bytes: NotRequired[Annotated[Bytes, "in pools"]]
    nodes: NotRequired[list[PlannedNode]]


class PlanComparison(TypedDict):
    """What `hvo plan --compare --json` prints: the same bytes of pool in other ways."""

    era: str
    memory: Bytes
    alternatives: list[Alternative]
    command: Command
