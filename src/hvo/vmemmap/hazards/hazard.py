"""The record of one hazard."""

from dataclasses import dataclass

from hvo.vmemmap.hazards.commit import Commit


@dataclass(frozen=True)
class Hazard:
    """A defect of the mechanism: its number, what goes wrong, and the kernels that have it.

    `since` is the first kernel with the hazard. `fixed_by` is None if there is no fix; `note` then
    says why, and holds remarks otherwise. `property` is the property of `hvo check` that it
    violates, None if no property covers it. `searched` says whether `hvo check` has scenarios for
    it.
    """

    id: str
    title: str
    story: str
    since: str
    fixed_by: Commit | None
    property: str | None
    note: str = ""
    searched: bool = True

    def command(self) -> str | None:
        """The command that shows the hazard, and its fix; None if `hvo check` has no scenario."""
        return f"hvo check --hazard {self.id}" if self.searched else None
