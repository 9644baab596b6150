"""The proposals for arm64, compared: what each violates, what it costs for one huge page and for a
list, and how it can end.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hvo.check.model.geometry import Geometry
from hvo.check.model.hardware import Hardware
from hvo.check.proposals.costs import Costs, costs
from hvo.check.scenarios.proposals import (
    PROPOSED_FOR,
    act_of,
    act_on_list,
    rules_for,
    scenarios,
    undo_list,
    undo_of,
)
from hvo.check.scenarios.scenario import Act, Actor, Scenario
from hvo.check.search.explore import Exploration, Options, explore
from hvo.check.search.start import build
from hvo.errors import HvoError
from hvo.vmemmap.context import ENOMEM
from hvo.vmemmap.era import LETTERS, parse_variant
from hvo.vmemmap.exchange import PROPOSALS
from hvo.vmemmap.proposals import EAGAIN

LISTED = 4
"""Huge pages of the list that is counted."""
_AT_BOOT = ("built optimised at boot", "memory reserved at boot")


class Work(NamedTuple):
    """What it costs to optimise or to restore huge pages of 8 vmemmap pages (2 MiB), whose leaves
    are split already.

    `one` huge page by itself, `listed` a list of `LISTED`, `split` what comes on top for a leaf (in
    Linux one leaf serves 64 such pages), `growth` how many steps longer another CPU is held for
    each page more in a list.
    """

    one: Costs
    listed: Costs
    split: Costs
    growth: float

    def to_json(self) -> dict[str, Any]:
        """For `hvo check --arm64-proposals --json`."""
        parts = {"one": self.one, "list": self.listed, "split": self.split}
        return {name: found._asdict() for name, found in parts.items()} | {
            "pages_in_list": LISTED,
            "held_per_page_more": self.growth,
        }


class Row(NamedTuple):
    """What is known about one proposal: the searches by scenario, what it costs (None: it has no
    restore of its own), and the errors with which it ended in any of the searches."""

    letter: str
    title: str
    needs: str
    results: tuple[tuple[Scenario, Exploration], ...]
    optimize: Work
    restore: Work | None
    errors: frozenset[int]

    @property
    def safe(self) -> bool:
        """Whether nothing was found in any scenario."""
        return not any(result.violations for _, result in self.results)

    @property
    def partial(self) -> bool:
        """Whether a page may end up optimised in part."""
        return EAGAIN in self.errors

    @property
    def can_fail(self) -> bool:
        """Whether it was seen to end without memory."""
        return ENOMEM in self.errors

    def to_json(self) -> dict[str, Any]:
        """The row of `hvo check --arm64-proposals --json`; the plain numbers are those of one page
        that is optimised.
        """
        found = [
            {"scenario": scenario.name, "property": v.property, "message": v.message}
            for scenario, e in self.results
            for v in e.violations
        ]
        one = self.optimize.one
        counts = {
            "invalidations": one.invalidations,
            "stops": one.stops,
            "faults": one.faults,
            "steps_held": one.held,
        }
        head = {
            "proposal": self.letter,
            "title": self.title,
            "needs": self.needs,
            "verdict": "safe" if self.safe else "unsafe",
        }
        work = {
            "optimize": self.optimize.to_json(),
            "restore": self.restore and self.restore.to_json(),
        }
        return (
            head
            | counts
            | {
                "partial": self.partial,
                "errors": sorted(self.errors),
                "work": work,
                "violations": found,
            }
        )


def compare(letter: str, options: Options) -> Row:
    """Search all scenarios of one proposal, and count what it does when nobody disturbs it.

    Raises HvoError when a search does not come to its end: a row says what was found, not how far
    one came.
    """
    era, hardware = parse_variant(PROPOSED_FOR), rules_for(letter)
    results: list[tuple[Scenario, Exploration]] = []
    errors: set[int] = set()
    for scenario in scenarios(letter):
        forest, start = build(scenario, era, hardware)
        found = explore(forest, start, scenario, options)
        if not found.finished:
            raise HvoError(
                f"{scenario.name}: stopped at {found.states} states; give more with --states or"
                " --seconds"
            )
        results.append((scenario, found))
        ends = [forest.nodes[nodes[0]] for nodes in found.ends]
        errors |= {
            int(code) for node in ends if node.operation is None for code in np.ravel(node.returned)
        } - {0}
    title, needs = (
        (PROPOSALS[letter].title, PROPOSALS[letter].needs) if letter in PROPOSALS else _AT_BOOT
    )
    return Row(letter, title, needs, tuple(results), *_works(letter, hardware), frozenset(errors))


def compare_all(options: Options) -> list[Row]:
    """Every proposal."""
    return [compare(letter, options) for letter in LETTERS]


def _works(letter: str, hardware: Hardware) -> tuple[Work, Work | None]:
    """What it costs to optimise, and to restore."""
    if letter == "F":
        one = _costs(act_of(letter), hardware, 1, split=True, live=False)
        return (
            Work(
                one, one, _costs(act_of(letter), hardware, 1, split=False, live=False).less(one), 0
            ),
            None,
        )
    there = partial(act_on_list, letter)
    return (
        _work(act_of(letter), [there(pages) for pages in (2, LISTED)], hardware, None),
        _work(
            undo_of(letter),
            [undo_list(letter, pages) for pages in (2, LISTED)],
            hardware,
            [act_of(letter), there(2), there(LISTED)],
        ),
    )


def _work(one: Act, lists: list[Act], hardware: Hardware, before: list[Act] | None) -> Work:
    first, *others = before or [None, None, None]
    alone = _costs(one, hardware, 1, split=True, before=first)
    two, listed = (
        _costs(act, hardware, pages, split=True, before=b)
        for act, pages, b in zip(lists, (2, LISTED), others, strict=True)
    )
    split = _costs(one, hardware, 1, split=False, before=first).less(alone)
    return Work(alone, listed, split, (listed.held - two.held) / (LISTED - 2))


def _costs(
    act: Act,
    hardware: Hardware,
    pages: int,
    *,
    split: bool,
    before: Act | None = None,
    live: bool = True,
) -> Costs:
    geometry = Geometry(pages, used=8, group=8, leaf=16, reserve=16 * pages)
    scenario = Scenario(
        "alone", (Actor("O", "alone", act),), geometry, split=split, before=before, live=live
    )
    return costs(scenario, parse_variant(PROPOSED_FOR), hardware)
