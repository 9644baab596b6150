"""What the steps on whole page tables do to a machine."""

from hvo.mmu.runs import Runs, read_runs
from hvo.steps.entries import ReadRuns
from hvo.world.state import World


def teach_tables(world: World) -> None:
    """Teach `world` the steps on page tables, so that it reads them as arrays."""

    def read(step: ReadRuns) -> Runs:
        return read_runs(world.memory, step.format, step.root, step.start, step.end, step.grouping)

    world.teach(ReadRuns, read)
