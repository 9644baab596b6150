"""The machine's executor: runs a protocol at full speed, blocks for many pages as array
operations.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvo.machine.batch.attempt import Attempt
from hvo.machine.batch.hints import Abort, BatchHints, NeedsFrameShares
from hvo.steps.base import Composite, ForEach, Step, Steps
from hvo.world.handlers import can_perform, perform
from hvo.world.state import World

_PAGES_AT_FIRST = 1 << 10  # enough to see what a block does
_PAGES_AT_ONCE = 1 << 15  # temporaries of a run stay a few MB each


class ArrayExecutor:
    """Runs actors on `world`; what comes out is what going through them one memory access at a time
    would give.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.at_once = 0
        """Pages that went through a block together with others, so far."""

    def run(self, actor: Steps[object]) -> Any:
        """Run `actor` to its end and give what it returns."""
        result: Any = None
        while True:
            try:
                step: Step[object] = actor.send(result)
            except StopIteration as stop:
                return stop.value
            result = self.perform(step)

    def perform(self, step: Step[object]) -> Any:
        """Do one step."""
        costs = self.world.costs
        if isinstance(step, Composite) and (costs.is_broken or not self._does(step)):
            return self.run(step.parts())
        if isinstance(step, ForEach):
            return self._for_each(step)
        result = perform(self.world, step)
        costs.count(step)
        return result

    def _does(self, step: Composite[object]) -> bool:
        return isinstance(step, ForEach) or can_perform(step)

    def _for_each(self, step: ForEach) -> NDArray[np.int64]:
        """One page by itself, a few at once, then as many as can go; after a failure one by one
        again, ever longer.
        """
        run = _Run(self, step)
        singly = 1
        while run.done < len(step.items):
            for _ in range(min(singly, len(step.items) - run.done)):
                if run.one():
                    return np.concatenate(run.results)
            singly = 0 if run.many() else min(max(2 * singly, 1), 256)
        return np.concatenate([*run.results, np.zeros(0, np.int64)])


class _Run:
    """One block over many pages, and what was learnt about it on the way."""

    def __init__(self, executor: ArrayExecutor, step: ForEach) -> None:
        self._executor, self._world, self._step = executor, executor.world, step
        self.done = 0
        self.results: list[NDArray[np.int64]] = []
        self._most = _PAGES_AT_FIRST
        self._frees = False
        self._check_shared_words = True
        self._node = 0
        self._share: int | None = None  # frames that every page takes

    def one(self) -> bool:
        """Run the block for one page -> whether to stop; it shows whether the block frees
        frames.
        """
        freed = self._world.frames_freed
        result = int(self._executor.run(self._step.block(self._step.items[self.done])))
        self._frees |= self._world.frames_freed != freed
        self.results.append(np.array([result], np.int64))
        self.done += 1
        return self._step.stops is not None and self._step.stops(result)

    def many(self) -> int:
        """Run the block for as many pages at once as can go -> how many."""
        most = min(len(self._step.items) - self.done, self._most)
        while most > 1:
            items = self._step.items[self.done : self.done + most]
            try:
                self.results.append(self._attempt(items))
            except Abort as cut:
                if not self._check_shared_words or self._share is not None:
                    self._check_shared_words, self._share = (
                        True,
                        None,
                    )  # what was learnt does not hold any more
                else:
                    most = min(cut.pages, most - 1)
                continue
            self.done += most
            self._most = _PAGES_AT_ONCE
            self._executor.at_once += most
            return most
        return 0

    def _attempt(self, items: NDArray[Any]) -> NDArray[np.int64]:
        if self._share is not None:
            counts = np.full(len(items), self._share)
            return self._run(items, (counts, np.full(len(items), self._node))).run()
        attempt = self._run(items, None)
        try:
            results = attempt.run()
        except NeedsFrameShares as order:
            if (order.counts == order.counts[0]).all() and (order.nodes == order.nodes[0]).all():
                self._share, self._node = int(order.counts[0]), int(order.nodes[0])
            results = self._run(items, (order.counts, order.nodes)).run()
        self._check_shared_words = attempt.changes_shared
        return results

    def _run(
        self, items: NDArray[Any], shares: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    ) -> Attempt:
        hints = BatchHints(self._frees, self._check_shared_words, shares)
        return Attempt(self._world, self._step, items, hints)
