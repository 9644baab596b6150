"""What a token names, so that its job can run again."""

from typing import NamedTuple

from hvo.check.model.state import State
from hvo.check.scenarios.hazards import Case
from hvo.check.search.final_state import at_the_end
from hvo.check.search.replay import Done
from hvo.check.search.transition import moves
from hvo.check.search.tree import Forest
from hvo.check.trace.token import TraceStep, told


class Rerun(NamedTuple):
    """A run that was done again: its case, the actors' trees, the state it began in, and its
    steps.
    """

    case: Case
    forest: Forest
    start: State
    steps: tuple[Done, ...]

    @property
    def trace(self) -> tuple[TraceStep, ...]:
        """The steps in words."""
        return told(self.forest, self.steps)

    @property
    def end(self) -> State:
        """The state behind the last step."""
        return self.steps[-1].after if self.steps else self.start

    @property
    def ending(self) -> tuple[tuple[str, str], ...]:
        """What is violated in the end, when nobody can go on there: (property, how)."""
        if any(
            moves(self.forest, self.end, actor, reduce=False)
            for actor in range(len(self.end.actors))
        ):
            return ()
        return tuple(at_the_end(self.forest, self.case.scenario, self.end))
