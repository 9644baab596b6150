"""Eras of the mechanism and the named fixes that a kernel of an era may or may not have.

A protocol variant is an era plus fixes. The fixes carry the numbers of the hazards that they close;
what each does is said where it is used.
"""

import re
from dataclasses import dataclass

from hvo.errors import HvoError
from hvo.layout.eras import EraLayout, era_layout

FIXES = {
    "split-recheck": (
        "a leaf is tested again under the page-table lock before its table is installed; the loser"
        " frees its table (H04)"
    ),
    "split-lock-read": "leaf and frame are read together under the page-table lock (H05)",
    "mark-until-restored": "the HugeTLB mark is cleared only after the vmemmap is restored (H06)",
    "mark-first": "the HugeTLB mark is set before the vmemmap is optimised (H07)",
    "refuse-self-hosted": "pages of a block that hosts its own vmemmap are refused (H09)",
    "refuse-odd-struct": "a struct page whose size is no power of two is refused (H10)",
    "node-fallback": "restore takes frames from other nodes when its own has none (H12)",
    "rollback-tails-only": "a rollback restores only entries that map the shared tail (H13)",
    "errors-after-mark": (
        "the record of errors is moved to the pages only after the HugeTLB mark is cleared (6.6 and"
        " later, H08)"
    ),
    "publish-tail": (
        "the shared tail is published with compare-and-swap, the loser frees its frame (H14)"
    ),
    "reset-tails": "the first struct pages of every restored vmemmap page are reset to tails (H19)",
    "wait-for-readers": "optimise waits for read-side sections before it remaps (H03)",
    "dcache-head": (
        "flush_dcache_page and __sync_icache_dcache use the flags of the head of a HugeTLB page"
        " (H02)"
    ),
    "dump-hotplug-lock": "the page-table dump holds the hotplug lock (H16)",
    "built-at-boot": (
        "on x86-64 the vmemmap of gigantic pages reserved at boot is built optimised, before anyone"
        " reads it (6.15)"
    ),
    "protect-whole-range": (
        "of those, the entries of all tails are made read-only, not only the first ones' (H15)"
    ),
}
"""Every named fix, and what it does."""

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


@dataclass(frozen=True)
class Era:
    """A protocol variant: how the era lays out an optimised vmemmap, and which fixes are in.

    `batched`: a list of pages is optimised with two full flushes (6.7 and later); otherwise each
    page flushes for itself.
    """

    layout: EraLayout
    batched: bool
    fixes: frozenset[str]

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
        return self.name + "".join(more + [f"-{fix}" for fix in sorted(born - self.fixes)])

    def has(self, fix: str) -> bool:
        """Whether the named fix is in."""
        if fix not in FIXES:
            raise KeyError(fix)
        return fix in self.fixes


def era(name: str, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> Era:
    """The era `name` ("5.14", "5.18", "6.2", "7.1") with the fixes it was born with, plus `add`,
    less `drop`.

    Raises HvoError for an unknown era or fix, with what is accepted.
    """
    for fix in (*add, *drop):
        if fix not in FIXES:
            raise HvoError(f"unknown fix {fix!r}: known are {', '.join(FIXES)}")
    layout = era_layout(name)
    fixes = (frozenset(_BORN_WITH[name]) | frozenset(add)) - frozenset(drop)
    return Era(layout, name in ("6.2", "7.1"), fixes)


_FIX = re.compile(rf"([+-])({'|'.join(sorted(FIXES, key=len, reverse=True))})(?=[+-]|$)")


def parse_variant(text: str) -> Era:
    """The protocol variant that `text` names: an era, then `+fix` and `-fix` in any order:
    `6.2-reset-tails`, `5.14+split-recheck`.

    `Era.variant` gives such a text back. Raises HvoError for an unknown era or fix, with what is
    accepted.
    """
    name = re.split("[+-]", text, maxsplit=1)[0]
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
