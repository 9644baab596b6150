"""What the commands that work on a host print with `--json`."""

from typing import Annotated, Literal, NotRequired, TypedDict

from hvo.report.contracts.audit import KernelAudit
from hvo.report.contracts.units import Bytes, Command, Count, Nanoseconds, Pages


class Defect(TypedDict):
    """A known defect of the mechanism that the kernel that runs has, or may have."""

    id: str
    summary: Annotated[str, "what goes wrong"]
    source: Annotated[str, "which releases have it, and where that stands"]
    measured: Annotated[str, "where it was seen"]
    look: Annotated[str, "how memory shows it"]
    fixed: Annotated[str | None, "release that mended it, null if none is known"]
    certain: Annotated[bool, "whether this release is known to have it; else look in memory"]


class Kernel(TypedDict):
    """The kernel of the host and whether it optimises."""

    release: str
    arch: str
    page_size: Annotated[Bytes, "base page"]
    supports: Annotated[bool, "whether it can optimise"]
    enabled: Annotated[bool | None, "whether the switch is on; null where there is none"]
    reason: Annotated[str, "why it is so"]
    defects: list[Defect]


class StatusPool(TypedDict):
    """A pool of all nodes, or of one; a figure is null where only its bounds are known."""

    size: Annotated[Bytes, "one page"]
    node: Annotated[int | None, "NUMA node; null: all together"]
    pages: Annotated[Pages, "surplus ones too"]
    free: Pages
    in_use: Pages
    reserved: Annotated[Pages | None, "free pages that are promised to mappings; null for a node"]
    surplus: Pages
    overcommit: Annotated[Pages | None, "surplus pages that may be taken; null for a node"]
    cost: Annotated[Bytes, "struct pages, nothing optimised"]
    self_hosted_low: Annotated[Pages, "in memory that hosts its own vmemmap, at least"]
    self_hosted_high: Annotated[Pages, "in such memory at most; none of them is optimised"]
    optimized: Pages | None
    optimized_low: Annotated[Pages, "at least"]
    optimized_high: Annotated[Pages, "at most"]
    paid: Annotated[Bytes | None, "that struct pages take now: cost less saved"]
    paid_low: Annotated[Bytes, "at least"]
    paid_high: Annotated[Bytes, "at most"]
    saved: Bytes | None
    saved_low: Annotated[Bytes, "at least"]
    saved_high: Annotated[Bytes, "at most"]
    possible: Annotated[Bytes | None, "that optimising the others would give back"]
    possible_low: Annotated[Bytes, "at least"]
    possible_high: Annotated[Bytes, "at most"]
    source: Annotated[
        Literal["kernel", "counters", "audit", "none"], "who tells how many are optimised"
    ]
    reason: Annotated[str, "how that is known, or why it is not"]


class HostMemmap(TypedDict):
    """The kernel's counters of its memory map; null on kernels that do not count it (before
    6.11).
    """

    boot: Annotated[Bytes | None, "made at boot"]
    runtime: Annotated[Bytes | None, "made since"]
    total: Bytes | None


class Advice(TypedDict):
    """One thing to do."""

    text: str
    command: Annotated[str | None, "what to type; null where no command does it"]
    gain: Annotated[Bytes, "that it gives back at most"]


class HostState(TypedDict):
    """What struct pages cost on a host and what is saved."""

    host: Annotated[
        str | None,
        "its name, by /proc/sys/kernel/hostname; null where it has none or that cannot be read",
    ]
    memory: Annotated[
        Bytes | None,
        "present in all zones of /proc/zoneinfo but those of devices; null where it cannot be read",
    ]
    kernel: Kernel
    pools: list[StatusPool]
    memmap: HostMemmap
    mem_total: Annotated[Bytes, "MemTotal of /proc/meminfo"]
    advice: Annotated[list[Advice], "warnings first, then by what they give back"]


class Status(HostState):
    """What `hvo status --json` prints: what struct pages cost on this host and what is saved."""

    command: Command


class VmemmapMap(TypedDict):
    """The vmemmap of the running kernel, where it can be read."""

    audit: Annotated[KernelAudit | None, "null where it cannot"]
    reason: Annotated[str | None, "why it cannot"]


class Watch(TypedDict):
    """What `hvo watch --json` prints: what it would show now."""

    status: HostState
    vmemmap: VmemmapMap
    command: Command


class Write(TypedDict):
    """One write to a file of the host."""

    path: str
    value: str


class Change(TypedDict):
    """How much a counter was expected to change, in its own unit, and how much it did."""

    counter: str
    low: Annotated[int, "at least"]
    high: Annotated[int, "at most"]
    step: Annotated[Count, "the change is a multiple of this"]
    measured: Annotated[int | None, "null where nothing was done"]
    holds: Annotated[bool, "whether the change is an expected one"]


class Outcome(TypedDict):
    """What every changing command prints."""

    command: Annotated[
        str,
        "the command that acted: enable, disable, resize, convert, convert --undo or bench-host",
    ]
    dry_run: Annotated[bool, "whether it only said what it would do"]
    ok: Annotated[bool, "whether all was done and every counter changed as predicted"]
    problem: Annotated[str | None, "what is wrong, in one line"]
    writes: list[Write]
    changes: list[Change]
    notes: list[str]


class Switch(Outcome):
    """What `hvo enable --json` and `hvo disable --json` print."""


class Resize(Outcome):
    """What `hvo resize --json` prints: the pool as it is afterwards."""

    size: Annotated[Bytes, "one page"]
    node: Annotated[int | None, "NUMA node; null: all together"]
    asked: Annotated[Pages, "wanted in the pool"]
    pages_before: Pages
    pages: Pages
    free: Pages
    surplus: Pages


class Convert(Outcome):
    """What `hvo convert --json` prints; with --undo only the keys that every changing command
    has.
    """

    size: NotRequired[Annotated[Bytes, "one page"]]
    pages: NotRequired[Annotated[Pages, "in the pool"]]
    convertible: NotRequired[
        Annotated[Pages, "that could be rebuilt while as many as asked stay free"]
    ]
    rebuilt: NotRequired[Annotated[Pages, "that were"]]
    optimized: NotRequired[
        Annotated[int | None, "that became optimised; null where the counters do not tell"]
    ]
    left: NotRequired[Annotated[Pages, "in use or reserved, and not touched"]]
    batch: NotRequired[Annotated[Pages, "out of the pool at a time"]]
    keep_free: NotRequired[Annotated[Pages, "free and not reserved at every moment"]]
    left_free: NotRequired[
        Annotated[Pages, "free, and not rebuilt because so many stay free; at most"]
    ]
    taken_meanwhile: NotRequired[
        Annotated[Pages, "that others used at once, beyond those that they used at first"]
    ]
    freed_meanwhile: NotRequired[
        Annotated[Pages, "that others used at first, and did not at some time"]
    ]


class Timing(TypedDict):
    """What one page took; null where nothing was measured."""

    median_ns: Nanoseconds | None
    least_ns: Nanoseconds | None
    most_ns: Nanoseconds | None
    rounds_ns: Annotated[list[Nanoseconds], "in every round"]


class Timings(TypedDict):
    """With the switch off and on."""

    off: Timing
    on: Timing


class BenchHost(Outcome):
    """What `hvo bench-host --json` prints: what taking and giving back a page costs here."""

    size: Annotated[Bytes, "one page"]
    node: Annotated[int | None, "NUMA node; null: all together"]
    pages: Annotated[Pages, "in each round"]
    rounds: Annotated[Count, "after the warm-up"]
    allocate: Timings
    free: Timings


class Listen(TypedDict):
    """Where metrics are served."""

    host: str
    port: int


class ExportServer(TypedDict):
    """What `hvo export --json` prints when it serves."""

    listen: Listen
    url: Annotated[str, "of the metrics"]
    command: Command


class ExportTextfile(TypedDict):
    """What `hvo export --textfile --json` prints."""

    textfile: Annotated[str, "the file that was written"]
    success: Annotated[bool, "whether the host could be read"]
    error: Annotated[str | None, "why it could not"]
    command: Command
