"""Many jobs at once, on any executor of `concurrent.futures`: processes of this host, or a Dask
cluster.
"""

import multiprocessing
import signal
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from hvo.check.check import Result, check
from hvo.check.scenarios.hazards import Case
from hvo.check.search.explore import Options
from hvo.errors import HvoError

Announce: TypeAlias = Callable[[str], None]
"""Hears in words how far the work is."""
PATIENCE = "5s"
"""How long the scheduler of a Dask cluster may take to answer."""


class Interrupted(Exception):
    """Somebody did not want to wait for all jobs; `results` are those that were done."""

    def __init__(self, results: list[Result]) -> None:
        super().__init__(f"interrupted after {len(results)} jobs")
        self.results = results


def check_all(
    cases: list[Case],
    options: Options | None = None,
    executor: Executor | None = None,
    announce: Announce | None = None,
) -> list[Result]:
    """Search all cases on `executor` (here, when None) -> results in the order of the cases.

    Raises Interrupted, with what is known, when the user ends it.
    """
    if executor is None:
        return _check_here(cases, options, announce)
    futures = [executor.submit(partial(check, case, options)) for case in cases]
    try:
        for done, future in enumerate(as_completed(futures)):
            future.result()  # an error of one is the end of all
            if announce is not None:
                announce(f"checked {done + 1} of {len(cases)}")
    except KeyboardInterrupt:
        raise Interrupted(_known(futures)) from None
    return [future.result() for future in futures]


def _known(futures: list[Future[Result]]) -> list[Result]:
    done = [future for future in futures if future.done()]
    return [future.result() for future in done if future.exception() is None]


def _check_here(
    cases: list[Case], options: Options | None, announce: Announce | None
) -> list[Result]:
    results: list[Result] = []
    try:
        for number, case in enumerate(cases, 1):
            told = (
                None
                if announce is None
                else partial(_tell, announce, f"job {number} of {len(cases)}, {case.scenario.name}")
            )
            results.append(check(case, options, told))
            if results[-1].interrupted:
                raise Interrupted(results)
    except KeyboardInterrupt:  # between two searches
        raise Interrupted(results) from None
    return results


def _tell(announce: Announce, job: str, states: int) -> None:
    announce(f"{job}: {states} states")


@contextmanager
def processes() -> Generator[ProcessPoolExecutor]:
    """An executor with a process for each processor; what still runs when the block is left by an
    exception is ended.

    The processes leave an interrupt from the terminal to their parent.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool
    except BaseException:
        # Not cancelled: a pool that breaks cannot say so to futures that are (InvalidStateError).
        pool.shutdown(wait=False)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    pool.shutdown()


@contextmanager
def dask(address: str) -> Generator[Executor]:
    """An executor on the Dask cluster whose scheduler is at `address` (`tcp://host:8786`); hvo must
    be installed on its workers.

    Raises HvoError when Dask is not installed, or when nobody answers there.
    """
    try:
        from distributed import (
            Client,
        )  # pyright: ignore[reportPrivateImportUsage, reportUnknownVariableType]
    except ImportError as error:
        raise HvoError("hvo check --scheduler needs Dask: pip install 'hvo[dask]'") from error
    try:
        client: Any = Client(address, timeout=PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        raise HvoError(
            f"no Dask scheduler answers at {address}: start one with `dask scheduler` and give its"
            " address"
        ) from error
    with client:
        yield client.get_executor()
