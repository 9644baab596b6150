"""The guarantee about page-table dumps, which are taken between the steps of a change."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hvo.machine.machine import Machine
from hvo.machine.run.results import Guarantee
from hvo.machine.run.shape import Shape
from hvo.mmu.walk import walk
from hvo.steps.base import Step, Steps, primitives
from hvo.steps.entries import WriteEntry
from hvo.steps.ordering import Lock
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
from hvo.world.handlers import perform


def ptdump(shape: Shape) -> Guarantee:
    """A dump between any two steps that change an entry, unless those hold the write lock, shows
    old or new values and reads no freed table.
    """
    machine = shape.machine(2, gate=False)
    order, heads = machine.hstate(shape.size).order, machine.pool(shape.size).heads()
    dumps = wrong = freed_tables = open_to_writer = 0
    actors = [
        hugetlb_vmemmap_optimize_folios(machine.world.vmemmap, order, heads),
        hugetlb_vmemmap_restore_folios(machine.world.vmemmap, order, heads),
    ]
    if shape.era.proposal == "F":
        machine.run(actors.pop(0))  # built before anyone can dump it
    for actor in actors:
        seen = _Dumps(machine)
        for step in _between(machine, actor):
            if isinstance(step, WriteEntry):
                locks = machine.world.locks & {Lock.MMAP_READ, Lock.MMAP_WRITE}
                open_to_writer += not locks
                if Lock.MMAP_WRITE not in locks:
                    seen.take()
        seen.take()
        dumps, wrong, freed_tables = (
            dumps + seen.count,
            wrong + seen.wrong(),
            freed_tables + seen.freed_tables,
        )
    evidence = (
        f"{dumps} dumps between the steps of optimise and restore: {wrong} entries neither old nor"
        f" new, {freed_tables} tables freed meanwhile; {open_to_writer} of the changes were made"
        " where a dump that takes the write lock could run"
    )
    holds = wrong == freed_tables == open_to_writer == 0
    return Guarantee(
        "ptdump",
        "a page-table dump prints old or new values only, and reads no freed table",
        holds,
        evidence,
    )


def _between(machine: Machine, actor: Steps[object]) -> Iterator[Step[object]]:
    """Run `actor` one primitive at a time; yields each after it was done."""
    walker = primitives(actor)
    result = None
    while True:
        try:
            step: Step[object] = walker.send(result)
        except StopIteration:
            return
        result = perform(machine.world, step)
        yield step


class _Dumps:
    """Dumps of the vmemmap of the machine's memory at different moments of one change."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        node = machine.plan.nodes[0]
        v = machine.world.vmemmap
        self._pages = np.arange(
            int(v.address(node.memory[0])),
            int(v.address(node.memory[1])),
            v.page_size,
            dtype=np.uint64,
        )
        self._rows: list[NDArray[np.uint64]] = []
        self._tables: set[int] = set()
        self.freed_tables = 0
        self.take()

    @property
    def count(self) -> int:
        """Dumps that were taken."""
        return len(self._rows)

    def take(self) -> None:
        """Read every entry as a dump does: what each page is mapped to, and how; and look whether a
        table seen before is free now.
        """
        world = self._machine.world
        found = walk(world.memory, world.vmemmap.format, world.root, self._pages)
        self._rows.append(found.address | found.writable.astype(np.uint64))
        self._tables |= set(
            (found.location // np.uint64(world.vmemmap.page_size)).astype(np.int64).tolist()
        )
        self.freed_tables += int(
            np.count_nonzero(world.zones.is_free(np.array(sorted(self._tables), np.int64)))
        )

    def wrong(self) -> int:
        """Values that a page had at some moment, and neither at first nor at last."""
        rows = np.array(self._rows)
        return int(np.count_nonzero((rows != rows[0]) & (rows != rows[-1])))
