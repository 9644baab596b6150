"""Steps of whoever gets a frame that was given back to the page allocator."""

from dataclasses import dataclass

from hvo.steps.vocabulary import Step


@dataclass(frozen=True, slots=True, eq=False)
class TakeFreed(Step):
    """Allocate a frame that was freed before, for data -> its pfn, None when there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class WriteData(Step):
    """Write data into the frame `pfn`, through the linear map -> None."""

    pfn: int
