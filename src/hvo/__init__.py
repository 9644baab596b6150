"""HugeTLB vmemmap optimisation as a program: run it, prove it, watch it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvo.errors import HvoError
    from hvo.machine.machine import Machine

__version__ = "0.1.0"
__all__ = ["HvoError", "Machine", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Machine` and `HvoError` when they are first asked for: the command's quick answers
    need neither, nor numpy.
    """
    if name == "Machine":
        from hvo.machine.machine import Machine

        return Machine
    if name == "HvoError":
        from hvo.errors import HvoError

        return HvoError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
