"""The array executor leaves behind what the plain one does, for random blocks of random steps."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from hvo.machine.batch import attempt, deferred
from hvo.machine.batch.executor import ArrayExecutor
from hvo.machine.batch.touched import ANSWERS
from hvo.world.plain import PlainExecutor
from random_programs import PROGRAMS, Program, outcome

TOGETHER: list[bool] = []


def check(program: Program) -> None:
    """Both executors, compared."""
    *arrays, together = outcome(ArrayExecutor, program)
    *plain, _ = outcome(PlainExecutor, program)
    for one, other in zip(arrays, plain, strict=True):
        assert one == other
    TOGETHER.append(together > 0)


def programs(count: int, *phases: Phase) -> settings:
    """So many, always the same, shrunk when one fails unless `phases` say otherwise."""
    return settings(
        derandomize=True,
        max_examples=count,
        deadline=None,
        database=None,
        phases=phases or (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


def test_programs() -> None:
    """Memory, allocator, queues, counters, pools, lists and results are the same; in a good part of
    the programs pages did go together.
    """
    TOGETHER.clear()
    programs(1500)(given(PROGRAMS)(check))()
    assert sum(TOGETHER) > 500


@pytest.mark.slow
@pytest.mark.exhaustive
def test_many_programs() -> None:
    """The same for 100000."""
    programs(100_000)(given(PROGRAMS)(check))()


# -- faults planted by hand, one in each file of machine/batch that the comparison is about --

_touched = attempt.Attempt._touched


def _forgets_writes(self: Any, step: Any, lanes: Any) -> Any:
    """Attempt: what only writes is not noted."""
    found = _touched(self, step, lanes)
    return found if isinstance(step, ANSWERS) else []


def _in_order_of_steps(given: Any) -> Any:
    """Deferred: frames are freed in the order of the steps, not of the pages."""
    frames = [each.frames.ravel() for each in given]
    return np.concatenate([np.zeros(0, np.int64), *frames])


def _never(log: Any) -> bool:
    """Conflicts: accesses that met in another order than that of their pages are let through."""
    return False


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (attempt.Attempt, "_touched", _forgets_writes),
        (deferred, "_in_order_of_pages", _in_order_of_steps),
        (attempt, "out_of_order", _never),
    ],
    ids=["attempt", "deferred", "conflicts"],
)
def test_planted_faults_are_found(
    owner: Any, name: str, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random programs find each fault: at most four times as many as `make test` compares."""
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(AssertionError):
        programs(6000, Phase.generate)(given(PROGRAMS)(check))()
