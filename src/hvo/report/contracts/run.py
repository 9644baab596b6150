"""What `hvo run --json` prints."""

from typing import Annotated, NotRequired, TypedDict

from hvo.report.contracts.units import (
    Bytes,
    Command,
    Count,
    Frames,
    Pages,
    Seconds,
    Share,
    Steps,
    VmemmapPages,
)


class Machine(TypedDict):
    """A machine, simulated or planned."""

    arch: Annotated[str, "arm64, x86_64, riscv64 or loongarch64"]
    page_size: Annotated[Bytes, "base page"]
    memory: Annotated[Bytes, "memory that may become HugeTLB pages"]
    struct_page_size: Bytes


class RunPool(TypedDict):
    """The pool that a run is about."""

    size: Annotated[Bytes, "one page of the pool"]
    pages: Pages
    optimized: Annotated[Pages, "optimised, as the page tables show"]


class Memmap(TypedDict):
    """The vmemmap of the machine's memory at one moment, by walking the page tables."""

    page_size: Annotated[Bytes, "base page"]
    pages: Annotated[VmemmapPages, "all of them"]
    frames: Annotated[Frames, "that a vmemmap page maps writable"]
    shared: Annotated[Frames, "with the shared tails of a zone (7.1)"]
    read_only: Annotated[VmemmapPages, "that are mapped read-only"]
    tables: Annotated[Count, "last-level tables in place of a leaf"]
    free: Annotated[Frames, "that the page allocator has free, of all memory"]
    own: Annotated[
        list[Share],
        "pages with a frame of their own, in each of at most 256 equal parts of the vmemmap",
    ]


class Memmaps(TypedDict):
    """The vmemmap as built, optimised and restored."""

    before: Memmap
    after: Memmap
    restored: Memmap


class Guarantee(TypedDict):
    """One guarantee of the mechanism, measured on this machine."""

    id: Annotated[str, "stable name"]
    statement: Annotated[str, "what is guaranteed"]
    holds: Annotated[bool | None, "null where it is not promised: `evidence` says why"]
    evidence: Annotated[str, "what was measured"]


class RunSeconds(TypedDict):
    """How long the parts of a run took."""

    build: Seconds
    optimize: Annotated[Seconds, "after a scenario: all of it"]
    restore: Seconds
    audit: Annotated[Seconds, "the walks that count"]


class CostCounts(TypedDict):
    """What a proposal for arm64 asked of the hardware and of other CPUs."""

    interrupts: Annotated[Count, "stops of all other CPUs"]
    invalidations: Count
    broken: Annotated[Count, "entries that were valid, invalid, and valid again"]
    broken_steps: Annotated[Steps, "for which they were, together"]
    longest: Annotated[Steps, "for which one entry was, at most"]


class RunCosts(TypedDict):
    """The costs of a run, as optimised and as restored."""

    optimize: CostCounts
    restore: CostCounts


class Snapshot(TypedDict):
    """The counters at one `snap` of a scenario."""

    name: Annotated[str, "as the scenario calls it; boot and end are taken by themselves"]
    counters: Annotated[dict[str, int], "by the kernel's own names, in the kernel's units"]


class Run(TypedDict):
    """What `hvo run --json` prints: a pool that was optimised and restored on a simulated
    machine.
    """

    machine: Machine
    era: Annotated[str, "kernels that the machine does as, with fixes more (+NAME) or less (-NAME)"]
    pool: RunPool
    memmap_before: Annotated[Bytes, "memory map, nothing optimised"]
    memmap_after: Annotated[Bytes, "memory map, the pool optimised"]
    saved: Annotated[Bytes, "the difference, before the cost of tables"]
    table_cost: Annotated[Bytes, "tables in place of leaves that were split"]
    vmemmap: Memmaps
    sample: Annotated[
        list[list[bool]],
        "which of the vmemmap pages of the first HugeTLB pages keep a frame of their own",
    ]
    promises: list[Guarantee]
    seconds: RunSeconds
    costs: NotRequired[Annotated[RunCosts, "only with --era proposal-A to proposal-F"]]
    snapshots: NotRequired[Annotated[list[Snapshot], "only with --scenario"]]
    command: Command
