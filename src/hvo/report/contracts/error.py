"""What every command prints with `--json` when it exits 2."""

from typing import Annotated, Literal, TypedDict

from hvo.report.contracts.units import Command


class ErrorText(TypedDict):
    """Why a command could not do its work."""

    message: Annotated[str, "the line that is on standard error too, without passwords"]
    kind: Annotated[
        Literal["usage", "input", "memory", "library", "defect"],
        "the arguments, what they name, memory or a library that is missing, or a defect of hvo",
    ]


class Error(TypedDict):
    """What every command prints with `--json` instead of its own object when it exits 2, unless
    that object says itself why.
    """

    error: ErrorText
    command: Command
