"""Protocols made at random, from a seed: kernels' protocols with steps left out or put off, and
actors that are nothing but random steps.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from hvo.check.model.geometry import FIRST_FRAME, KERNEL_FRAME, PAGE, PMD_FRAME, STRUCTS, Geometry
from hvo.check.model.hardware import parse_hardware
from hvo.check.scenarios.case import Case
from hvo.check.scenarios.scenario import Act, Actor, Scenario
from hvo.check.search.tree import single
from hvo.steps.base import Step, Steps
from hvo.steps.entries import (
    AllowFaults,
    CompareExchangeEntry,
    PublishPointer,
    ReadEntry,
    ReadPointer,
    StoreTableEntry,
    WriteEntry,
    WritePointer,
)
from hvo.steps.frames import (
    AllocateFrame,
    Count,
    Counter,
    FreeFrame,
    ListAdd,
    ListPop,
    TakeFreed,
    WriteData,
)
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    EnterReadSection,
    Invalidate,
    InvalidateAll,
    LeaveReadSection,
    Lock,
    ReadBarrier,
    Release,
    ResumeCpus,
    StopCpus,
    SynchronizeReaders,
    WriteBarrier,
)
from hvo.steps.pool import AddRawError, FreeFolio, TakeRawErrors
from hvo.steps.struct_pages import (
    CopyWords,
    DropReference,
    FillTail,
    FreezeCount,
    IncrementUnlessZero,
    LoadPage,
    StorePage,
    TestPage,
)

MACHINES = tuple(
    found
    for name in (
        "x86_64",
        "riscv64",
        "arm64",
        "arm64+bbm2",
        "arm64+bbm2+noabort+haf",
        "arm64+bbm3",
    )
    if (found := parse_hardware(name)) is not None
)
"""Where they run."""
_WITHOUT_RESULT = (
    WriteEntry,
    StoreTableEntry,
    WritePointer,
    StorePage,
    FreeFrame,
    Count,
    ListAdd,
    Acquire,
    Release,
    Invalidate,
    InvalidateAll,
    AwaitInvalidation,
    WriteBarrier,
    ReadBarrier,
    EnterReadSection,
    LeaveReadSection,
    SynchronizeReaders,
    AllowFaults,
    StopCpus,
    ResumeCpus,
    CopyWords,
    FillTail,
)
"""Steps that can be left out, for nobody waits for what they give."""
TINY = Geometry(pages=2, used=2, group=2, leaf=4, reserve=6)
"""Two huge pages of two vmemmap pages under one leaf."""


# -- kernels' protocols with something wrong --


def mutant(dice: random.Random, cases: list[Case]) -> Case:
    """One of `cases` on some machine, where one or two steps of some actors are left out or come
    later.
    """
    case = dice.choice(cases)
    actors = list(case.scenario.actors)
    for _ in range(dice.choice((1, 1, 2))):
        at = dice.randrange(len(actors))
        where, late = dice.randrange(40), dice.choice((0, 0, 1, 2, 5))
        actors[at] = replace(actors[at], act=_changed(actors[at].act, where, late))
    scenario = replace(case.scenario, actors=tuple(actors))
    return replace(case, scenario=scenario, hardware=dice.choice(MACHINES), expected=None)


def _changed(act: Act, where: int, late: int) -> Act:
    """`act`, with the first step from `where` on that gives nothing done `late` steps later, or (0)
    not at all.
    """

    def changed(v: Any, g: Geometry) -> Steps:
        walk, result, kept, due, done = single(act(v, g)), None, None, -1, False
        for number in range(10**6):
            try:
                step = walk.send(result)
            except StopIteration as stop:
                if kept is not None:
                    yield kept
                return stop.value
            if not done and number >= where and isinstance(step, _WITHOUT_RESULT):
                done, result = True, None
                kept, due = (step, number + late) if late else (None, -1)
                continue
            result = yield step
            if kept is not None and number >= due:
                yield kept
                kept = None

    return changed


# -- actors that are nothing but random steps --


def strangers(dice: random.Random) -> Case:
    """Two or three actors of random steps in a random world."""
    count = dice.choice((2, 2, 2, 3))
    length = 7 if count == 2 else 4
    actors = tuple(
        Actor(
            "OPQ"[i],
            "random",
            _program(tuple(_instructions(dice, dice.randrange(2, length)))),
            interrupt=i == 1 and dice.random() < 0.1,
        )
        for i in range(count)
    )
    scenario = Scenario(
        "random",
        actors,
        TINY,
        split=dice.random() < 0.7,
        failures=dice.choice((0, 0, 1)),
        complete=dice.random() < 0.5,
    )
    return Case("own", dice.choice(("5.18", "6.2", "7.1")), dice.choice(MACHINES), scenario, None)


_Make = Callable[[Any, Geometry, list[int], Any], Step]
_Instruction = tuple[_Make, int]


def _program(instructions: tuple[_Instruction, ...]) -> Act:
    """Instructions: what to do, given the frames that the actor has and the last result, and how
    many to leave out when the last result is false.
    """

    def act(v: Any, g: Geometry) -> Steps:
        mine, last, at = [FIRST_FRAME + 1], None, 0
        while at < len(instructions):
            make, leave_out = instructions[at]
            at += 1
            step = make(v, g, mine, last)
            last = yield step
            if isinstance(step, AllocateFrame | TakeFreed) and last is not None:
                mine.append(int(last))
            if leave_out and not _is_true(last):
                at += leave_out

    return act


def _is_true(last: Any) -> bool:
    if isinstance(last, tuple | np.ndarray):
        return len(last) > 0
    return bool(last)


def _instructions(dice: random.Random, count: int) -> Iterator[_Instruction]:
    for _ in range(count):
        yield _instruction(dice), dice.choice((0, 0, 0, 1))


def _instruction(dice: random.Random) -> _Make:
    """One instruction; what it is about is drawn now, so that it is the same whenever it runs."""
    page, head, pfn = dice.randrange(4), dice.choice((0, 8)), dice.choice((0, 4, 6, 8, 12))
    field, value = dice.choice(("dcache_clean", "hwpoison", "refcount")), dice.choice((0, 1))
    lock, writable = dice.choice((*Lock, Lock.PAGE_TABLE)), dice.random() < 0.5
    old, level = dice.choice((FIRST_FRAME, FIRST_FRAME + 1, -1)), dice.choice((0, 0, 0, 1))
    index, tables = dice.randrange(STRUCTS), dice.random() < 0.5

    def entry(v: Any, mine: list[int]) -> int:
        return int(v.leaf_entry(old if old > 0 else mine[-1], writable=writable)) * (
            value or tables
        )

    def where(g: Geometry) -> int:
        return g.first_reserved(0) * PAGE + 8 * page if not level else PMD_FRAME * PAGE

    def aimed(v: Any, mine: list[int]) -> int:
        if not level:
            return entry(v, mine)
        leaf = v.format.make_leaf(FIRST_FRAME * PAGE, 1)
        return int(v.format.make_table(mine[-1] * PAGE) if writable else leaf)

    def address(v: Any) -> int:
        return int(v.base) + page * PAGE

    makes: tuple[_Make, ...] = (
        lambda v, g, mine, last: StorePage(pfn, field, value),
        lambda v, g, mine, last: TestPage(pfn, field),
        lambda v, g, mine, last: LoadPage(pfn, field),
        lambda v, g, mine, last: IncrementUnlessZero(pfn, "refcount"),
        lambda v, g, mine, last: FreezeCount(pfn, value),
        lambda v, g, mine, last: DropReference(pfn) if value else FreezeCount(pfn, 0),
        lambda v, g, mine, last: WriteEntry(where(g), aimed(v, mine), level, address(v)),
        lambda v, g, mine, last: WriteEntry(where(g), aimed(v, mine), level, address(v)),
        lambda v, g, mine, last: ReadEntry(where(g), level),
        lambda v, g, mine, last: CompareExchangeEntry(
            where(g), int(getattr(last, "value", 0) or 0), aimed(v, mine), level, address(v)
        ),
        lambda v, g, mine, last: AllocateFrame(0, memmap=bool(value)),
        lambda v, g, mine, last: FreeFrame(mine[-1], memmap=bool(value)),
        lambda v, g, mine, last: TakeFreed(),
        lambda v, g, mine, last: WriteData(mine[-1]),
        lambda v, g, mine, last: FillTail(mine[-1], head, g.order, index),
        lambda v, g, mine, last: CopyWords(address(v), mine[-1], index),
        lambda v, g, mine, last: StoreTableEntry(mine[-1], page, entry(v, mine)),
        lambda v, g, mine, last: Invalidate(address(v), address(v) + PAGE, tables=tables),
        lambda v, g, mine, last: InvalidateAll(this_cpu=tables),
        lambda v, g, mine, last: AwaitInvalidation(),
        lambda v, g, mine, last: Acquire(lock),
        lambda v, g, mine, last: Release(lock),
        lambda v, g, mine, last: WriteBarrier() if value else ReadBarrier(),
        lambda v, g, mine, last: EnterReadSection() if value else LeaveReadSection(),
        lambda v, g, mine, last: SynchronizeReaders(),
        lambda v, g, mine, last: AllowFaults(bool(value)),
        lambda v, g, mine, last: StopCpus(preemptible=tables) if value else ResumeCpus(),
        lambda v, g, mine, last: ReadPointer(KERNEL_FRAME * PAGE),
        lambda v, g, mine, last: PublishPointer(KERNEL_FRAME * PAGE, mine[-1]),
        lambda v, g, mine, last: Count(Counter.OPTIMIZED_KEY, 1),
        lambda v, g, mine, last: ListAdd(np.array(mine[-1:], np.int64)) if value else ListPop(),
        lambda v, g, mine, last: AddRawError(head, pfn) if value else TakeRawErrors(head),
        lambda v, g, mine, last: FreeFolio(head, g.order),
    )
    return dice.choice(makes)
