"""The machine's executor: runs a protocol at full speed, blocks for many pages as array operations."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvo.machine.attempt import Attempt, Cut, DealOut
from hvo.machine.deal import Deal
from hvo.machine.world import World
from hvo.steps.composite import Composite, ForEach, primitives
from hvo.steps.vocabulary import Step, Steps

_PAGES_AT_ONCE = 1 << 16  # temporaries of a run stay a few MB each


class ArrayExecutor:
    """Runs actors on `world`; what comes out is what going through them one memory access at a time would give."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.at_once = 0
        """Pages that went through a block together with others, so far."""
        self._frees = False

    def run(self, actor: Steps) -> Any:  # noqa: ANN401
        """Run `actor` to its end and give what it returns."""
        result: Any = None
        while True:
            try:
                step: Step = actor.send(result)
            except StopIteration as stop:
                return stop.value
            result = self.perform(step)

    def perform(self, step: Step) -> Any:  # noqa: ANN401
        """Do one step."""
        if isinstance(step, ForEach):
            return self._for_each(step)
        if self.world.can_perform(step):
            return self.world.perform(step)
        assert isinstance(step, Composite), step
        return self.run(step.parts())

    def _for_each(self, step: ForEach) -> NDArray[np.int64]:
        """One page by itself (it shows whether the block frees frames), then as many at once as can go; after a failure again."""
        results: list[NDArray[np.int64]] = []
        done, singly, total = 0, 1, len(step.items)
        while done < total:
            for _ in range(min(singly, total - done)):
                results.append(np.array([self._one(step, done)], np.int64))
                done += 1
                if step.stops is not None and step.stops(int(results[-1][0])):
                    return np.concatenate(results)
            many = self._many(step, done)
            done += many.size
            results.append(many)
            singly = 1 if many.size else min(2 * singly, 256)
        return np.concatenate([*results, np.zeros(0, np.int64)])

    def _one(self, step: ForEach, index: int) -> int:
        freed = self.world.frames_freed
        result = int(self.run(step.block(step.items[index])))
        self._frees = self.world.frames_freed != freed
        return result

    def _many(self, step: ForEach, done: int) -> NDArray[np.int64]:
        """Run the block for the pages from `done` on, as many at once as can go -> what it returned; empty when none can."""
        most = min(len(step.items) - done, _PAGES_AT_ONCE)
        while most > 1:
            items = step.items[done : done + most]
            try:
                results = self._attempt(step, items)
            except Cut as cut:
                most = min(cut.pages, most - 1)
                continue
            self.at_once += most
            return results
        return np.zeros(0, np.int64)

    def _attempt(self, step: ForEach, items: NDArray[Any]) -> NDArray[np.int64]:
        try:
            return Attempt(self.world, step, items, frees=self._frees).run()
        except DealOut as order:
            return self._dealt_out(step, items, order)

    def _dealt_out(self, step: ForEach, items: NDArray[Any], order: DealOut) -> NDArray[np.int64]:
        mark = self.world.zones.mark()
        frames = self.world.zones.allocate_frames(int(order.counts.sum()), order.node)
        if frames is None:
            raise Cut(0)
        try:
            return Attempt(self.world, step, items, frees=self._frees, deal=Deal(order.counts, frames)).run()
        except BaseException:
            self.world.zones.rollback(mark)
            raise


class PlainExecutor:
    """Runs actors on `world` one primitive at a time, as another CPU would see them."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, actor: Steps) -> Any:  # noqa: ANN401
        """Run `actor` to its end and give what it returns."""
        walk = primitives(actor)
        result: Any = None
        while True:
            try:
                step: Step = walk.send(result)
            except StopIteration as stop:
                return stop.value
            result = self.world.perform(step)
