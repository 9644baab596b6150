"""Units of the figures in the JSON that commands print, as annotations: `saved: Bytes`."""

from typing import Annotated, NamedTuple


class Unit(NamedTuple):
    """What a figure counts; none of these is below zero."""

    name: str


Bytes = Annotated[int, Unit("bytes")]
Pages = Annotated[int, Unit("HugeTLB pages")]
VmemmapPages = Annotated[int, Unit("vmemmap pages")]
Frames = Annotated[int, Unit("frames")]
Steps = Annotated[int, Unit("steps")]
Count = Annotated[int, Unit("")]
Seconds = Annotated[float, Unit("seconds")]
Nanoseconds = Annotated[int, Unit("nanoseconds")]
Share = Annotated[float, Unit("part of 1")]
Command = Annotated[str, "the command that printed this, quoted for a shell"]
