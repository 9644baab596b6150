"""The small machines that guarantees are measured on."""

from dataclasses import dataclass

from hvo.kernel.hugetlb import Gate
from hvo.machine.machine import Machine
from hvo.vmemmap.era import Era


@dataclass(frozen=True)
class Shape:
    """What the machines of the guarantees look like; sizes in bytes."""

    arch: str
    page_size: int
    size: int
    section_size: int
    era: Era

    def machine(
        self, pages: int, *, gate: bool | Gate = True, variant: Era | None = None
    ) -> Machine:
        """A small machine with `pages` huge pages in its pool."""
        memory = max(4 * self.section_size, 4 * self.size)
        machine = Machine.build(
            self.arch, self.page_size, memory, era=variant or self.era, gate=gate
        )
        machine.resize(self.size, pages)
        return machine
