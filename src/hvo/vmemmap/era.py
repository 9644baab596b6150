"""Eras of the mechanism and the named fixes that a kernel of an era may or may not have.

A protocol variant is an era plus fixes. Each fix names the hazard that it closes and the commit of
mainline that brought it.
"""

import re
from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.layout.eras import EraLayout, era_layout
from hvo.vmemmap.hazards import commit
from hvo.vmemmap.hazards.commit import Commit


@dataclass(frozen=True)
class Fix:
    """A named fix: what a kernel that has it does, the hazard that it closes, and its commit.

    `hazard` is None if it closes none; `commit` is None if it came with the era or has no hash.
    """

    name: str
    sentence: str
    hazard: str | None
    commit: Commit | None

    def __str__(self) -> str:
        """The fix in one line: `split-recheck: ... (H04; d8d55f5616cf ("mm: ...") in v5.18)`."""
        about = "; ".join(str(part) for part in (self.hazard, self.commit) if part is not None)
        return f"{self.name}: {self.sentence}" + (f" ({about})" if about else "")


_FIXES = (
    Fix(
        "split-recheck",
        "the split tests for a leaf again under the page-table lock; the loser frees its table",
        "H04",
        commit.PAGE_TABLE_LOCK,
    ),
    Fix(
        "split-lock-read",
        "the split reads leaf and frame together under the page-table lock",
        "H05",
        commit.LEAF_PAGE_UNDER_LOCK,
    ),
    Fix(
        "mark-until-restored",
        "the HugeTLB flag is cleared after the vmemmap is restored",
        "H06",
        commit.DTOR_AFTER_VMEMMAP,
    ),
    Fix(
        "mark-first",
        "the HugeTLB flag is set before the vmemmap is optimised",
        "H07",
        commit.FLAG_BEFORE_OPTIMIZING,
    ),
    Fix(
        "refuse-self-hosted",
        "pages of a block that hosts its own vmemmap are refused",
        "H09",
        commit.SELF_HOSTED,
    ),
    Fix(
        "refuse-odd-struct",
        "a sizeof(struct page) that is not a power of two is refused",
        "H10",
        commit.ODD_STRUCT_PAGE_REFUSED,
    ),
    Fix(
        "node-fallback",
        "restore allocates from other nodes if its own has no frames",
        "H12",
        commit.OTHER_NODES,
    ),
    Fix(
        "rollback-tails-only",
        "a rollback restores only entries that map the shared tail",
        "H13",
        commit.ROLLBACK,
    ),
    Fix(
        "errors-after-mark",
        "the list of raw errors is moved to the base pages after the HugeTLB flag is cleared",
        "H08",
        commit.HWPOISON_AFTER_FLAG,
    ),
    Fix(
        "publish-tail",
        "the shared tail is published with compare-and-swap; the loser frees its frame",
        "H14",
        None,
    ),
    Fix(
        "reset-tails",
        "the first struct pages of every restored vmemmap page are reset to tails",
        "H19",
        None,
    ),
    Fix(
        "wait-for-readers",
        "optimise waits for RCU read-side sections before it remaps",
        "H03a",
        commit.SPECULATIVE_WALKERS,
    ),
    Fix(
        "dcache-head",
        "flush_dcache_page() and __sync_icache_dcache() use the flags of the head",
        "H02",
        commit.ARM64_ENABLED,
    ),
    Fix(
        "dump-hotplug-lock",
        "the page-table dump holds the memory hotplug lock",
        "H16",
        commit.PTDUMP_HOTPLUG_LOCK,
    ),
    Fix(
        "built-at-boot",
        "on x86-64 the vmemmap of gigantic pages reserved at boot is built optimised",
        None,
        commit.BOOT_TIME_HVO,
    ),
    Fix(
        "protect-whole-range",
        "all shared tail entries of such a page are made read-only",
        "H15",
        commit.WRITE_PROTECT_RANGE,
    ),
)

FIXES: dict[str, Fix] = {fix.name: fix for fix in _FIXES}
"""Every named fix, by its name."""

_BORN_WITH: dict[str, tuple[str, ...]] = {
    "5.14": ("reset-tails", "errors-after-mark"),
    "5.18": (
        "split-recheck",
        "reset-tails",
        "refuse-odd-struct",
        "dcache-head",
        "errors-after-mark",
    ),
    "6.2": (
        "split-recheck",
        "split-lock-read",
        "mark-until-restored",
        "mark-first",
        "refuse-self-hosted",
        "refuse-odd-struct",
        "node-fallback",
        "reset-tails",
        "wait-for-readers",
        "dcache-head",
        "dump-hotplug-lock",
        "errors-after-mark",
    ),
}
_BORN_WITH["7.1"] = (
    *(fix for fix in _BORN_WITH["6.2"] if fix != "wait-for-readers"),  # went with the fake heads
    "rollback-tails-only",
    "publish-tail",
    "built-at-boot",
    "protect-whole-range",
)


LETTERS = ("A", "B", "C", "D", "E", "F")
"""The proposals for arm64 (`hvo.vmemmap.proposals`)."""
_PROPOSED = "proposal-"


@dataclass(frozen=True)
class Era:
    """A protocol variant: how the era lays out an optimised vmemmap, and which fixes are in.

    `batched`: a list of pages is optimised with two full flushes (6.7 and later); otherwise each
    page flushes for itself. `proposal` is the letter of a way that was proposed for arm64, which
    takes the place of the remapping of this era.
    """

    layout: EraLayout
    batched: bool
    fixes: frozenset[str]
    proposal: str = ""

    @property
    def name(self) -> str:
        """The kernel that began the era."""
        return self.layout.name

    @property
    def variant(self) -> str:
        """The era and how its fixes differ from what it was born with: `6.2-reset-tails`,
        `5.14+split-recheck`.
        """
        born = frozenset(_BORN_WITH[self.name])
        more = [f"+{fix}" for fix in sorted(self.fixes - born)]
        name = f"{_PROPOSED}{self.proposal}" if self.proposal else self.name
        return name + "".join(more + [f"-{fix}" for fix in sorted(born - self.fixes)])

    def has(self, fix: str) -> bool:
        """Whether the named fix is in."""
        if fix not in FIXES:
            raise KeyError(fix)
        return fix in self.fixes


def era(name: str, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> Era:
    """The era `name` ("5.14", "5.18", "6.2", "7.1") with the fixes it was born with, plus `add`,
    less `drop`; "proposal-B" is 7.1 with that proposal's remapping.

    Raises HvoError for an unknown era or fix, with what is accepted.
    """
    for fix in (*add, *drop):
        if fix not in FIXES:
            raise HvoError(f"unknown fix {fix!r}: known are {', '.join(FIXES)}")
    letter = name.removeprefix(_PROPOSED)
    if letter != name and letter not in LETTERS:
        raise HvoError(f"unknown proposal {letter!r}: expected one of {', '.join(LETTERS)}")
    name = name if letter == name else "7.1"
    layout = era_layout(name)
    fixes = (frozenset(_BORN_WITH[name]) | frozenset(add)) - frozenset(drop)
    return Era(layout, name in ("6.2", "7.1"), fixes, letter if letter in LETTERS else "")


_FIX = re.compile(rf"([+-])({'|'.join(sorted(FIXES, key=len, reverse=True))})(?=[+-]|$)")


def parse_variant(text: str) -> Era:
    """The protocol variant that `text` names: an era, then `+fix` and `-fix` in any order:
    `6.2-reset-tails`, `5.14+split-recheck`.

    `Era.variant` gives such a text back. Raises HvoError for an unknown era or fix, with what is
    accepted.
    """
    found = re.match(rf"(?:{_PROPOSED})?[^+-]*", text)
    assert found is not None
    name = found[0]
    changes: dict[str, list[str]] = {"+": [], "-": []}
    at = len(name)
    while at < len(text):
        found = _FIX.match(text, at)
        if found is None:
            raise HvoError(
                f"era {text!r}: {text[at:]!r} is not +FIX or -FIX with one of {', '.join(FIXES)}"
            )
        changes[found[1]].append(found[2])
        at = found.end()
    return era(name, add=tuple(changes["+"]), drop=tuple(changes["-"]))
