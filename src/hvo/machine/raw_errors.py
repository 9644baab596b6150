"""What the steps on the records of broken pages do to a machine."""

from collections import defaultdict

import numpy as np

from hvo.steps.pool import AddRawError, TakeRawErrors
from hvo.world.state import World


def teach_raw_errors(world: World) -> None:
    """Teach `world` the steps on the records of broken pages, which it keeps by the heads of
    HugeTLB pages.
    """
    records: defaultdict[int, list[int]] = defaultdict(list)

    def add(step: AddRawError) -> None:
        records[step.head].append(step.pfn)

    def take(step: TakeRawErrors) -> tuple[int, ...]:
        return tuple(records.pop(int(np.asarray(step.head).item()), ()))

    world.teach(AddRawError, add)
    world.teach(TakeRawErrors, take)
