"""Small machines for tests of actors, and a way to let two actors take turns on one of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hvo.actors.ptdump import ptdump
from hvo.machine.batch.executor import ArrayExecutor
from hvo.machine.machine import Machine
from hvo.mmu.runs import Runs
from hvo.steps.base import Step, Steps, primitives
from hvo.steps.entries import ReadEntry
from hvo.steps.ordering import Acquire, Lock, Release
from hvo.steps.struct_pages import LoadPage, StorePage
from hvo.vmemmap.era import Era, era
from hvo.world.handlers import perform
from hvo.world.plain import PlainExecutor

EXECUTORS = (ArrayExecutor, PlainExecutor)
SHAPES = [
    ("arm64", 4096, "256MiB", "2MiB"),
    ("arm64", 16384, "256MiB", "32MiB"),
    ("arm64", 65536, "1GiB", "512MiB"),
    ("x86_64", 4096, "256MiB", "2MiB"),
]
"""Architecture, base page, memory and a HugeTLB size that can be optimised."""


def machine(
    arch: str = "arm64",
    page_size: int = 4096,
    memory: str = "256MiB",
    variant: str | Era = "7.1",
    executor: type = ArrayExecutor,
) -> Machine:
    made = Machine.build(arch, page_size, memory, era=variant)
    made.executor = executor(made.world)
    return made


def section_pages(m: Machine) -> int:
    """Frames of one section: the smallest block that hotplug takes."""
    return m.plan.geometry.section_size // m.plan.geometry.page_size


def variants() -> list[Era]:
    return [era(name) for name in ("5.14", "5.18", "6.2", "7.1")]


def load(m: Machine, pfn: Any, field: str) -> Any:
    return perform(m.world, LoadPage(np.asarray(pfn, np.int64), field))


def store(m: Machine, pfn: Any, field: str, value: int) -> None:
    perform(m.world, StorePage(np.asarray(pfn, np.int64), field, value))


def vmemmap_range(m: Machine) -> tuple[int, int]:
    """Addresses from the first to behind the last struct page there may be."""
    v = m.world.vmemmap
    return int(v.address(0)), int(v.address(2 * m.plan.end))


def dump(m: Machine) -> Runs:
    return ArrayExecutor(m.world).run(
        ptdump(m.world.vmemmap, m.world.root, *vmemmap_range(m), "none")
    )


_CONFLICTS = {
    Lock.MMAP_READ: {Lock.MMAP_WRITE},
    Lock.MMAP_WRITE: {Lock.MMAP_READ, Lock.MMAP_WRITE},
    Lock.HOTPLUG: {Lock.HOTPLUG, Lock.HOTPLUG_READ},
    Lock.HOTPLUG_READ: {Lock.HOTPLUG},
    Lock.PAGE_TABLE: {Lock.PAGE_TABLE},
    Lock.HUGETLB: {Lock.HUGETLB},
}


class Turns:
    """Actors that take turns on a machine, one primitive at a time; locks make them wait.

    `watch` sees every step before it is done, with the name of its actor.
    """

    def __init__(
        self, m: Machine, actors: dict[str, Steps], watch: Callable[[str, Step], None] | None = None
    ) -> None:
        self.machine = m
        self.walks = {name: primitives(actor) for name, actor in actors.items()}
        self.next: dict[str, Step] = {}
        self.results: dict[str, Any] = {}
        self.held: list[tuple[str, Lock]] = []
        self.watch = watch
        for name in actors:
            self._advance(name, None)

    def _advance(self, name: str, result: Any) -> None:
        try:
            self.next[name] = self.walks[name].send(result)
        except StopIteration as stop:
            self.next.pop(name, None)
            self.results[name] = stop.value

    def can(self, name: str) -> bool:
        """Whether `name` has a step to do and need not wait for it."""
        step = self.next.get(name)
        if isinstance(step, Acquire):
            return not any(
                lock in _CONFLICTS[step.lock] for other, lock in self.held if other != name
            )
        return step is not None

    def step(self, name: str) -> bool:
        """One step of `name`, if it can -> whether it did one."""
        if not self.can(name):
            return False
        step = self.next[name]
        if self.watch is not None:
            self.watch(name, step)
        if isinstance(step, Acquire):
            self._advance(name, self.held.append((name, step.lock)))
        elif isinstance(step, Release):
            self._advance(name, self.held.remove((name, step.lock)))
        else:
            self._advance(name, perform(self.machine.world, step))
        return True

    def run(self, name: str, steps: int | None = None) -> int:
        """Up to `steps` steps of `name` (all: None), as far as it need not wait -> how many."""
        done = 0
        while (steps is None or done < steps) and self.step(name):
            done += 1
        return done

    def until(self, name: str, kind: type) -> bool:
        """Run `name` until it has done a step of `kind` -> whether it did."""
        while name in self.next:
            found = isinstance(self.next[name], kind)
            if not self.step(name) or found:
                return found
        return False


def no_freed_table(m: Machine, actor: str = "dump") -> Callable[[str, Step], None]:
    """A watcher that fails when `actor` reads an entry of a table that the page allocator has taken
    back.
    """

    def watch(name: str, step: Step) -> None:
        if name == actor and isinstance(step, ReadEntry):
            frame = int(step.location) // m.world.vmemmap.page_size
            assert not m.world.zones.is_free(np.array([frame])).any(), (
                f"frame {frame:#x} was a table, and is free"
            )

    return watch
