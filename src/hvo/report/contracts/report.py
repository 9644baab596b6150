"""What `hvo report --json` prints."""

from typing import Annotated, Any, TypedDict

from hvo.report.contracts.units import Command


class Report(TypedDict):
    """What `hvo report --json` prints: the results that it was given, which have schemas of their
    own.
    """

    page: Annotated[str | None, "the page that was written"]
    reports: list[dict[str, Any]]
    command: Command
