"""What `hvo check --json` prints, alone and with --list, --replay, --arm64-proposals, --mutants
and --litmus.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from hvo.report.contracts.error import ErrorText
from hvo.report.contracts.units import Command, Count, Seconds, Steps

Verdict = Literal["safe", "unsafe", "unfinished"]


class TraceStep(TypedDict):
    """One step of a run."""

    cpu: Annotated[int, "whose step it is, from 0"]
    letter: Annotated[str, "the actor on that CPU"]
    text: Annotated[str, "what it does"]
    changes: Annotated[list[str], "what it changed in tables, TLBs and frames"]
    violated: Annotated[list[tuple[str, str]], "pairs of a property and how it was violated"]


class Trace(TypedDict):
    """The shortest run to a violation."""

    token: Annotated[str, "the run as a word, for --replay"]
    turns: Annotated[Count, "a turn ends where another CPU goes on"]
    steps: list[TraceStep]


class Violation(TypedDict):
    """One property that was violated."""

    property: str
    message: str
    steps: Annotated[Steps, "to it, at least"]


class CheckResult(TypedDict):
    """One protocol in one scenario on one machine."""

    protocol: Annotated[str, "an era, with fixes more (+NAME) or less (-NAME), or a file"]
    arch: Annotated[str, "the rules of the machine"]
    hazard: Annotated[str, "H01, ..., that the scenario is for"]
    scenario: str
    verdict: Annotated[
        Verdict, "unfinished: nothing was found within the bounds, which left something out"
    ]
    property: Annotated[str | None, "the most severe that was violated"]
    trace: Annotated[Trace | None, "the shortest run to that"]
    states: Annotated[Count, "looked at"]
    transitions: Annotated[Count, "steps between them"]
    seconds: Seconds
    bounds: Annotated[str, "what the verdict is about"]
    violations: Annotated[list[Violation], "the most severe first"]


class Check(TypedDict):
    """What `hvo check --json` prints: a verdict for each job."""

    results: list[CheckResult]
    command: Command


class FixingCommit(TypedDict):
    """A commit of mainline."""

    hash: Annotated[str | None, "12 digits; null: only revisions from before the merge are known"]
    subject: str
    version: Annotated[str, "the first release that has it"]


class HazardRecord(TypedDict):
    """One hazard."""

    id: Annotated[str, "H01a, ..."]
    title: str
    story: Annotated[str, "what goes wrong, and why"]
    since: Annotated[str, "the first kernel that has it"]
    fixed_by: Annotated[FixingCommit | None, "null: there is no fix, and `note` says why"]
    property: Annotated[str | None, "violated by it; null: no property covers it"]
    note: str
    command: Annotated[str | None, "shows it and its fix; null: `hvo check` has no scenario"]


class HazardList(TypedDict):
    """What `hvo check --list --json` prints."""

    hazards: list[HazardRecord]
    command: Command


class EntryInTheEnd(TypedDict):
    """What maps one vmemmap page of the small machine after a run, read from page-table bytes."""

    page: Annotated[int, "vmemmap page, from 0"]
    level: Annotated[int, "of the table; 0 is the last"]
    location: Annotated[int, "physical address of the entry"]
    entry: Annotated[int, "its value"]
    frame: Annotated[int | None, "null: not mapped"]
    writable: bool


class TablesInTheEnd(TypedDict):
    """The page tables after a run."""

    entries: list[EntryInTheEnd]
    different: Annotated[list[str], "where bytes and checker differ, in words"]


class Replay(TypedDict):
    """What `hvo check --replay TOKEN --json` prints: one run, done again."""

    protocol: str
    arch: Annotated[str, "the rules of the machine"]
    scenario: str
    steps: list[TraceStep]
    ending: Annotated[
        list[tuple[str, str]], "pairs of a property that is violated only in the end, and how"
    ]
    tables: TablesInTheEnd
    command: Command


class ProposalViolation(TypedDict):
    """A property that a proposal violates."""

    scenario: str
    property: str
    message: str


class ProposalCosts(TypedDict):
    """What was counted in a run that nobody disturbs."""

    invalidations: Annotated[Count, "requests"]
    stops: Annotated[Count, "of all other CPUs"]
    faults: Annotated[Count, "that accesses can take"]
    updates: Annotated[Count, "of access flags that hardware can make"]
    held: Annotated[Steps, "for which another CPU is stopped or waits for one entry, at most"]


class ProposalWork(TypedDict):
    """The costs of huge pages of 8 vmemmap pages whose leaf is split already."""

    one: Annotated[ProposalCosts, "one huge page"]
    list: Annotated[ProposalCosts, "several as a list"]
    split: Annotated[ProposalCosts, "what comes on top for a leaf"]
    pages_in_list: Count
    held_per_page_more: Annotated[
        float, "steps that another CPU is held longer for each page more in a list"
    ]


class ProposalWorks(TypedDict):
    """Both ways."""

    optimize: ProposalWork
    restore: Annotated[ProposalWork | None, "null: it has none of its own"]


class Proposal(TypedDict):
    """One proposal for arm64: what it violates, and what it costs for one huge page of 8 vmemmap
    pages.
    """

    proposal: Annotated[str, "its letter"]
    title: str
    needs: Annotated[str, "from the hardware"]
    verdict: Literal["safe", "unsafe"]
    invalidations: Annotated[Count, "requests"]
    stops: Annotated[Count, "how often all other CPUs are held"]
    faults: Annotated[Count, "that accesses can take, one for each entry that is broken"]
    steps_held: Annotated[Steps, "for which another CPU is stopped or waits for one entry, at most"]
    partial: Annotated[bool, "whether a page may end up optimised in part"]
    errors: Annotated[list[int], "with which it was seen to end, below 0"]
    work: ProposalWorks
    violations: list[ProposalViolation]


class Proposals(TypedDict):
    """What `hvo check --arm64-proposals --json` prints: the proposals for arm64, compared."""

    proposals: list[Proposal]
    command: Command


class MutantRow(TypedDict):
    """One thing that was left out of a protocol or swapped, for the actors of one role."""

    protocol: str
    role: Annotated[str, "what the actors do; fix: a named fix was taken away"]
    mutant: Annotated[str, "what was left out or swapped"]
    verdict: Annotated[
        Literal["noticed", "redundant", "hole", "unexplained"],
        "noticed: killed; redundant: survives as equivalent; hole: survives by a gap in the model",
    ]
    noticed: Annotated[list[str], "properties that were violated"]
    scenario: Annotated[str | None, "in which"]
    steps: Annotated[Steps | None, "to the violation"]
    believed: Annotated[str | None, "why it survives; null if it was killed"]


class Mutants(TypedDict):
    """What `hvo check --mutants --json` prints: whether the checker notices what is left out."""

    mutants: list[MutantRow]
    command: Command


class LitmusRow(TypedDict):
    """One litmus test, in the words of herd."""

    test: Annotated[str, "its name"]
    file: str
    kind: Annotated[str, "what it asks: Allowed, Required or Forbidden"]
    condition: str
    flags: Annotated[
        list[str], "Warning-BBM-expected where break-before-make was needed and not done"
    ]
    outcomes: Annotated[list[str] | None, "that are allowed; null where they are not computed"]
    reason: Annotated[str | None, "why not"]
    ok: Annotated[bool | None, "whether the condition is as the test says"]
    observation: Annotated[str | None, "Always, Sometimes or Never"]
    positive: Annotated[Count | None, "outcomes that fulfil the condition"]
    negative: Annotated[Count | None, "outcomes that do not"]


class Litmus(TypedDict):
    """What `hvo check --litmus FILE --json` prints."""

    litmus: list[LitmusRow]
    error: NotRequired[ErrorText]
    command: Command
