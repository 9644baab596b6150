"""Steps of memory hotplug: RAM that comes and goes, its struct pages, and blocks of frames."""

from dataclasses import dataclass

from hvo.steps.base import Step


@dataclass(frozen=True, slots=True, eq=False)
class AddMemory(Step[None]):
    """The frames [`start`, `end`) are RAM from now on (`memblock_add`) -> None."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class RemoveMemory(Step[None]):
    """The frames [`start`, `end`) are gone, with what they held (`memblock_remove`) -> None."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class OnlinePages(Step[None]):
    """Give the frames [`start`, `end`) to the movable zone of `node`, all free but the first
    `hosted`, which stay reserved -> None.
    """

    start: int
    end: int
    node: int
    hosted: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OfflinePages(Step[bool]):
    """Take the frames [`start`, `end`), the first `hosted` of which are reserved, out of their zone
    -> whether all others were free.
    """

    start: int
    end: int
    hosted: int = 0
