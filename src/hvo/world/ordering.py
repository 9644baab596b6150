"""What steps that order others do to a machine on which one actor runs: they are counted
(`hvo.world.costs`).
"""

from hvo.steps.base import Step
from hvo.steps.ordering import (
    Acquire,
    AwaitInvalidation,
    EnterReadSection,
    Flush,
    FlushAll,
    FullBarrier,
    Invalidate,
    InvalidateAll,
    LeaveReadSection,
    ReadBarrier,
    Release,
    ResumeCpus,
    StopCpus,
    SynchronizeReaders,
    WriteBarrier,
)
from hvo.world.state import Handlers, World


def acquire(world: World, step: Acquire) -> None:
    """Take it; nobody else could let it go."""
    if step.lock in world.locks:
        raise AssertionError(f"{step.lock.value} is held already: the actor would wait for itself")
    world.locks.add(step.lock)


def release(world: World, step: Release) -> None:
    """Let it go."""
    world.locks.remove(step.lock)


def synchronize_readers(world: World, step: SynchronizeReaders) -> None:
    """Count it."""
    world.synchronizations += 1


def _nothing(world: World, step: Step[object]) -> None:
    """Order that one actor alone cannot see."""


HANDLERS: Handlers = {
    Acquire: acquire,
    Release: release,
    Invalidate: _nothing,
    InvalidateAll: _nothing,
    Flush: _nothing,
    FlushAll: _nothing,
    SynchronizeReaders: synchronize_readers,
    AwaitInvalidation: _nothing,
    EnterReadSection: _nothing,
    LeaveReadSection: _nothing,
    ReadBarrier: _nothing,
    WriteBarrier: _nothing,
    FullBarrier: _nothing,
    StopCpus: _nothing,
    ResumeCpus: _nothing,
}
