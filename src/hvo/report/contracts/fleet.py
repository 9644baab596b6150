"""What `hvo fleet --json` prints, and its `collect` and `generate`."""

from typing import Annotated, Literal, NotRequired, TypedDict

from hvo.report.contracts.error import ErrorText
from hvo.report.contracts.units import Bytes, Command, Count, Seconds

ActionName = Literal["switch_on", "convert", "find_out", "upgrade", "change_size"]


class Reject(TypedDict):
    """A reason for which rows were rejected."""

    reason: str
    rows: Annotated[Count, "rejected for it"]


class RejectedRow(TypedDict):
    """One rejected row."""

    file: str | None
    line: Annotated[int | None, "counted from 1; null in a database"]
    host: str | None
    reason: str


class Action(TypedDict):
    """One thing to do wherever it gains something."""

    action: ActionName
    what: str
    command: Annotated[str | None, "what to type there; null where no command does it"]
    hosts: Annotated[Count, "hosts where it gains something"]
    gain: Annotated[Bytes, "that it gives back in all, at most"]


class Amounts(TypedDict):
    """What struct pages of some hosts or pools take; cost = saved + possible + unknown + impossible
    + kept.
    """

    pool_bytes: Annotated[Bytes, "in pools"]
    cost: Annotated[Bytes, "struct pages of pools, nothing optimised"]
    saved: Annotated[Bytes, "given back"]
    possible: Annotated[Bytes, "that optimising would give back"]
    unknown: Annotated[Bytes, "that are saved or possible: hosts do not tell which"]
    impossible: Annotated[Bytes, "that cannot be given back there"]
    kept: Annotated[Bytes, "that the mechanism keeps"]
    restore_headroom: Annotated[
        Bytes, "that must be free before all optimised pages can be given back, at most"
    ]
    restore_headroom_after: Annotated[Bytes, "the same when all that is possible is saved"]


class HostAmounts(Amounts):
    """What struct pages of some hosts take."""

    memory: Bytes
    memmap: Annotated[Bytes, "struct pages of all memory, nothing optimised"]
    paid: Annotated[Bytes, "struct pages now; up to `unknown` less"]


class HostRow(HostAmounts):
    """Hosts that have something in common."""

    name: Annotated[str | None, "what it is; null: the others, too many to list"]
    merged: Annotated[Count, "names summed up in the row: 1 but for the others"]
    hosts: Count


class SizeRow(Amounts):
    """Pools of one HugeTLB size."""

    name: Annotated[str | None, "the size; null: the others, too many to list"]
    size: Annotated[int | None, "bytes of one page"]
    merged: Annotated[Count, "sizes summed up in the row: 1 but for the others"]
    hosts: Count


class Breakdowns(TypedDict):
    """The same amounts by what hosts or pools have in common, where most is possible first."""

    group: list[HostRow]
    kernel: list[HostRow]
    arch: list[HostRow]
    size: list[SizeRow]


class Impossible(TypedDict):
    """Why struct pages of some pools cannot be given back."""

    reason: Annotated[str | None, "null: the others, too many to list"]
    merged: Annotated[Count, "reasons summed up in the row: 1 but for the others"]
    hosts: Count
    impossible: Bytes


class DefectHosts(TypedDict):
    """Hosts whose kernel has a known defect of the mechanism, or may have it."""

    id: str
    summary: Annotated[str, "what goes wrong"]
    hosts: Count
    saved: Annotated[Bytes, "by pages that it concerns, at most"]
    loses: Annotated[bool, "whether such pages are lost when they are given back"]
    certain: Annotated[bool, "whether their releases are known to have it; else look in memory"]
    look: Annotated[str, "how memory shows it"]
    fixed: Annotated[str | None, "release that mended it, null if none is known"]


class TopHost(TypedDict):
    """A host where much is possible."""

    host: str
    group: str
    kernel: str
    arch: str
    memory: Bytes
    paid: Annotated[Bytes, "struct pages now; up to `unknown` less"]
    saved: Bytes
    possible: Bytes
    unknown: Bytes
    impossible: Bytes
    action: Annotated[ActionName | None, "the one thing to do there"]


class Fleet(HostAmounts):
    """What `hvo fleet --json` prints."""

    inventory: str
    engine: Annotated[str, "that answered"]
    rows: Annotated[Count, "of the inventory"]
    rejected: Annotated[Count, "rows that cannot be right, and are left out of all else"]
    rejects: Annotated[list[Reject], "by reason, the most frequent first"]
    first_rejects: list[RejectedRow]
    hosts: Count
    table_cost: Annotated[
        Bytes,
        "tables in place of leaves that are split when all that is possible is saved, at most",
    ]
    actions: Annotated[list[Action], "the most valuable first; finding out last"]
    by: Breakdowns
    impossible_because: list[Impossible]
    defects: list[DefectHosts]
    top: Annotated[list[TopHost], "where most is possible first"]
    seconds: Annotated[Seconds, "that the answer took"]
    command: Command


class Refused(TypedDict):
    """A file that no rows could be made of."""

    file: str
    reason: str


class FleetCollect(TypedDict):
    """What `hvo fleet collect --json` prints."""

    output: Annotated[str, "the inventory that was written; with `error`, left as it is"]
    files: Count
    rows: Count
    refused: list[Refused]
    error: NotRequired[ErrorText]
    command: Command


class FleetGenerate(TypedDict):
    """What `hvo fleet generate --json` prints."""

    output: Annotated[str, "the inventory that was written"]
    hosts: Count
    seed: int
    rows: Count
    command: Command
