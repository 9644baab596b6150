"""Kinds of steps x interpreters: each kind is known by each interpreter, or stands here with the
reason why not.
"""

import inspect
from importlib import import_module
from typing import Any

import pytest

from hvo.check import effects
from hvo.check.effects.registry import READY
from hvo.check.trace.replica import IN_MEMORY
from hvo.machine.batch.attempt import Attempt
from hvo.machine.batch.hints import BatchHints
from hvo.machine.machine import Machine
from hvo.steps.base import Composite, ForEach, Step
from hvo.steps.ordering import StoreVisible
from hvo.world.handlers import HANDLERS

FILES = ("entries", "frames", "struct_pages", "ordering", "pool", "hotplug")
PARTS = "a composite is taken apart into steps that it knows"
ALLOCATOR = "which frames the allocator gives is the checker's choice"
LOCKS = "who waits for whom is the checker's to say; memory does not change"
HAPPENS = "no actor does it: it happens, and is shown so in traces"
NO_POOLS = "the checker follows huge pages without pools of them"
LACKS = {
    "plain": {
        PARTS: "ForEach",
        HAPPENS: "StoreVisible",
    },
    "checker": {
        HAPPENS: "StoreVisible",
        NO_POOLS: "ReadPool TakeFree TakeOut EndUse AddSurplus Reserve AllocateFolio",
        "memory that comes and goes is not onlined in the checker": "OnlinePages OfflinePages",
    },
    "replica": {
        ALLOCATOR: "AllocateFrame FreeFrame AllocateBlock FreeBlock TakeFreed",
        LOCKS: (
            "Acquire Release SynchronizeReaders EnterReadSection "
            "LeaveReadSection StopCpus ResumeCpus AllowFaults"
        ),
        "TLBs and store buffers are the checker's": (
            "Invalidate InvalidateAll AwaitInvalidation ReadBarrier WriteBarrier FullBarrier"
        ),
        "counters, lists and records are the checker's, not words of its memory": (
            "Count ReadCounter ListAdd ListEmpty ListPop AddRawError TakeRawErrors "
            "PutFree FreeFolio"
        ),
        "the checker has judged it": "Assert",
        HAPPENS: "StoreVisible",
        "a constant of the small machine": "Locate",
        "what a frame that was given away holds is compared with nothing": "WriteData",
        "the small machine's memory is all there from the beginning": "AddMemory RemoveMemory",
        NO_POOLS: (
            "ReadPool TakeFree TakeOut EndUse "
            "AddSurplus Reserve AllocateFolio OnlinePages OfflinePages"
        ),
    },
}
"""By interpreter and reason: the kinds that it lacks."""


def kinds() -> dict[str, type[Step[Any]]]:
    """Every kind of step, by its name."""
    found: dict[str, type[Step[Any]]] = {}
    for name in ("base", *FILES):
        module = import_module(f"hvo.steps.{name}")
        for kind in vars(module).values():
            if inspect.isclass(kind) and issubclass(kind, Step) and kind not in (Step, Composite):
                found[kind.__name__] = kind
    return found


def known(interpreter: str) -> set[type]:
    """The kinds that an interpreter knows."""
    if interpreter == "plain":
        return {*HANDLERS}
    assert effects.__all__
    composites = {kind for kind in kinds().values() if issubclass(kind, Composite)}
    return composites | ({*READY} if interpreter == "checker" else {*IN_MEMORY})


@pytest.mark.parametrize("interpreter", LACKS)
def test_the_table_is_total(interpreter: str) -> None:
    """Each kind is known, or stands in the list once; nothing in the list is known."""
    reasons = LACKS[interpreter]
    lacking = [name for names in reasons.values() for name in names.split()]
    assert len(lacking) == len(set(lacking))
    assert {name for name, kind in kinds().items() if kind not in known(interpreter)} == {*lacking}


def test_the_array_executor_knows_what_the_plain_one_knows() -> None:
    """It runs blocks for many pages with the same handlers, or its own, or goes page by page."""
    machine = Machine.build(memory="128MiB")
    own = Attempt(
        machine.world,
        ForEach(lambda heads: iter(()), machine.pool("2MiB").heads()),  # pyright: ignore
        machine.pool("2MiB").heads(),
        BatchHints(frees=False),
    )._perform_as
    assert {*own} <= {*kinds().values()}
    assert {*kinds().values()} - {*HANDLERS} - {StoreVisible} <= {*own}


@pytest.mark.parametrize("name", FILES)
def test_files_have_one_name_on_every_floor(name: str) -> None:
    """The steps of a file are interpreted in files of the same name, in world/ and in check/."""
    steps = import_module(f"hvo.steps.{name}")
    other = {"pool": "pools"}.get(name, name)
    mine = {kind for kind in kinds().values() if kind.__module__ == steps.__name__}
    world = import_module(f"hvo.world.{other}")
    assert world.HANDLERS.keys() == mine & {*HANDLERS}
    checker = mine & {*READY}
    assert {READY[kind].__module__ for kind in checker} <= {f"hvo.check.effects.{other}"}
