"""The proposals for arm64 as actors, and what each of them has to stand;
`hvo.check.proposals.compare` compares them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from hvo.actors.memory_failure import clear_hugetlb
from hvo.check.model.geometry import Geometry, SmallVmemmap
from hvo.check.model.hardware import Hardware
from hvo.check.scenarios import actors as c
from hvo.check.scenarios.scenario import Act, Actor, Scenario
from hvo.steps.base import Steps
from hvo.steps.pool import FreeFolio
from hvo.vmemmap.exchange import PROPOSALS, Proposal
from hvo.vmemmap.exchange import TRIES as KERNEL_TRIES
from hvo.vmemmap.proposals import optimize, restore
from hvo.vmemmap.proposals_batched import optimize_folios, restore_folios

PROPOSED_FOR = "7.1"
"""The era whose other parts the proposals use: one shared frame of tails per zone."""
_ONE = Geometry(pages=1, group=4, leaf=4)
TWO = Geometry(pages=2, used=2, group=2, leaf=4)
"""Two huge pages of two vmemmap pages under one leaf."""
_HARDWARE = {
    "C": Hardware("arm64", 2, noabort=True),
    "E": Hardware("arm64", 2, noabort=True, hardware_access_flag=True),
}
TRIES = 2
"""How often proposal E tries an entry, where the kernel's 16 times would only be more of the same.
"""


def rules_for(letter: str) -> Hardware:
    """The machine that a proposal asks for."""
    return _HARDWARE.get(letter, Hardware("arm64"))


def act_of(letter: str, *, tries: int = TRIES) -> Act:
    """Optimise the first huge page as the proposal does."""
    if letter == "F":
        return c.build_at_boot
    return partial(_optimize, proposal=replace(PROPOSALS[letter], tries=tries))


def _optimize(v: SmallVmemmap, g: Geometry, proposal: Proposal) -> Steps[object]:
    return optimize(v, proposal, g.order, g.head(0))


def undo_of(letter: str) -> Act:
    """Restore it."""
    return partial(_restore, proposal=replace(PROPOSALS[letter], tries=TRIES))


def _restore(v: SmallVmemmap, g: Geometry, proposal: Proposal) -> Steps[object]:
    return restore(v, proposal, g.order, g.head(0))


def act_on_list(letter: str, pages: int) -> Act:
    """Optimise the first `pages` huge pages as the proposal does with a list."""
    return partial(
        _work_on_list,
        proposal=replace(PROPOSALS[letter], tries=TRIES),
        pages=pages,
        work=optimize_folios,
    )


def undo_list(letter: str, pages: int) -> Act:
    """Restore them."""
    return partial(
        _work_on_list,
        proposal=replace(PROPOSALS[letter], tries=TRIES),
        pages=pages,
        work=restore_folios,
    )


def _work_on_list(
    v: SmallVmemmap, g: Geometry, proposal: Proposal, pages: int, work: "_OnList"
) -> Steps[object]:
    return work(v, proposal, g.order, [g.head(number) for number in range(pages)])


_OnList: TypeAlias = Callable[[SmallVmemmap, Proposal, int, list[int]], Steps[object]]


def scenarios(letter: str) -> list[Scenario]:
    """What a proposal has to stand: readers of tails, writers of the head, an interrupt that reads,
    refusals, and the way back.
    """
    o = Actor("O", f"optimise as {letter}", act_of(letter))
    if letter == "F":
        return [Scenario(f"{letter}: built at boot", (o,), _ONE, live=False)]
    r = Actor("R", f"restore as {letter}", undo_of(letter))
    undo_both = Actor("R", f"restore two as {letter}, as a list", undo_list(letter, 2))
    both = Actor("O", f"optimise two as {letter}, as a list", act_on_list(letter, 2))
    g, w = Actor("G", "reader", c.read_tail), Actor("W", "writer of the head", c.write_head)
    i = Actor("I", "interrupt that reads", c.read_tail, interrupt=True)
    return [
        Scenario(f"{letter}: optimise against a reader", (o, g), _ONE),
        Scenario(f"{letter}: optimise against a writer of the head", (o, w), _ONE),
        Scenario(f"{letter}: optimise, interrupted by a reader", (o, i), _ONE),
        Scenario(f"{letter}: optimise, allocations fail", (o,), _ONE, failures=2),
        Scenario(f"{letter}: restore against a reader", (r, g), _ONE, before=act_of(letter)),
        Scenario(
            f"{letter}: restore, allocations fail", (r,), _ONE, before=act_of(letter), failures=2
        ),
        Scenario(f"{letter}: optimise a list against a reader", (both, g), TWO),
        Scenario(f"{letter}: optimise a list, allocations fail", (both,), TWO, failures=2),
        Scenario(
            f"{letter}: restore a list against a reader",
            (undo_both, g),
            TWO,
            before=act_on_list(letter, 2),
        ),
        Scenario(
            f"{letter}: restore a list, allocations fail",
            (undo_both,),
            TWO,
            before=act_on_list(letter, 2),
            failures=2,
        ),
    ] + ([_never_still()] if letter == "E" else [])


def _never_still() -> Scenario:
    """E with the kernel's number of tries: walkers may spoil every one of them, and it gives up
    with -EAGAIN.
    """
    o, g = (
        Actor("O", f"optimise as E, {KERNEL_TRIES} tries", act_of("E", tries=KERNEL_TRIES)),
        Actor("G", "reader", c.read_tail),
    )
    return Scenario(
        f"E: optimise, {KERNEL_TRIES} tries, against a reader", (o, g), _ONE, split=True
    )


def half_way(*, marked: bool) -> Scenario:
    """E that tries each entry once, so that a reader makes it give up half-way; then the page is
    given back as far as it can be.

    Not `marked`, what was done stays but the page does not say so.
    """
    act = partial(_give_up, proposal=replace(PROPOSALS["E"], tries=1, marks_partial=marked))
    actors = (Actor("O", "optimise, restore and free", act), Actor("G", "reader", c.read_twice))
    return Scenario(
        f"E: update fails half-way, {'flag set' if marked else 'flag clear'}", actors, _ONE
    )


def _give_up(v: SmallVmemmap, g: Geometry, proposal: Proposal) -> Steps[object]:
    yield from optimize(v, proposal, g.order, g.head(0))
    if not (yield from restore(v, proposal, g.order, g.head(0))):
        yield from clear_hugetlb(g.head(0))
        yield from FreeFolio(g.head(0), g.order)
