"""A question with its answer: a protocol on a machine in a scenario, and what must come out."""

from dataclasses import dataclass

from hvo.check.model.geometry import Geometry
from hvo.check.model.hardware import Hardware
from hvo.check.scenarios.proposals import PROPOSED_FOR
from hvo.check.scenarios.scenario import Scenario
from hvo.vmemmap.era import Era, parse_variant


@dataclass(frozen=True)
class Case:
    """One job: a protocol on a machine in a scenario.

    `expected` is the most severe property to come out, None when all is well; `also` are others
    that must be among those violated.
    """

    hazard: str
    protocol: str
    hardware: Hardware
    scenario: Scenario
    expected: str | None
    also: tuple[str, ...] = ()

    @property
    def era(self) -> Era:
        """The protocol variant; a proposal for arm64 says itself what it does, and takes the rest
        from the era that it is made for.
        """
        return parse_variant(
            PROPOSED_FOR if self.protocol.startswith("proposal-") else self.protocol
        )


X86, RISCV, ARM, ARM2, ARM3 = (
    Hardware("x86_64"),
    Hardware("riscv64"),
    Hardware("arm64"),
    Hardware("arm64", 2, noabort=True),
    Hardware("arm64", 3),
)
"""Machines of the benchmark."""
ONE = Geometry(pages=1, group=4, leaf=4)
"""One huge page of three vmemmap pages, alone under its leaf."""
