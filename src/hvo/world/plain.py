"""Run actors on a machine one primitive step at a time."""

from typing import Any

from hvo.steps.base import Step, Steps, primitives
from hvo.world.handlers import perform
from hvo.world.state import World


class PlainExecutor:
    """Runs actors on `world` one primitive at a time, as another CPU would see them."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, actor: Steps[object]) -> Any:
        """Run `actor` to its end and give what it returns."""
        walk = primitives(actor)
        result: Any = None
        while True:
            try:
                step: Step[object] = walk.send(result)
            except StopIteration as stop:
                return stop.value
            result = perform(self.world, step)
            self.world.costs.count(step)
