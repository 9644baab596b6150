"""A protocol of the user's own: a Python file with plain generator functions and a few names;
nothing to inherit from.

The file says `optimize(v, order, head)`, with the signature and the steps of the kernels' protocols
in `hvo.vmemmap`, and may say `restore(v, order, head)`, further actors (any other public generator
function of these three), and the names in `SETTINGS`. Its text travels with every job, so that the
file need not be where the job runs.
"""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any, TypeAlias, cast

from hvo.check.effects.registry import Operation
from hvo.check.model.geometry import Geometry, SmallVmemmap
from hvo.check.model.hardware import EXPECTED, Hardware, parse_hardware
from hvo.check.scenarios.actors import heads_of
from hvo.errors import HvoError
from hvo.steps.base import Step, Steps
from hvo.vmemmap.era import Era, parse_variant

Protocol: TypeAlias = Callable[[SmallVmemmap, int, int], Steps[object]]
"""What an actor of the file is: the vmemmap, the order of the huge page and the pfn of its head ->
steps.
"""
_PARAMETERS = ("v", "order", "head")
ROLES = {
    "optimize": _PARAMETERS,
    "restore": _PARAMETERS,
    "optimize_list": ("v", "order", "heads"),
    "restore_list": ("v", "order", "heads"),
}
"""Functions of a file that have a meaning by their name, and what they are called with; `heads` is
an int64 array.
"""
_EXPECTED_ROLES = f"expected {', '.join(ROLES)}, or an actor that is called with (v, order, head)"
SETTINGS: dict[str, Any] = {"ERA": "7.1", "MACHINE": "x86_64", "GEOMETRY": {}, "SCENARIOS": []}
"""Names that the file may set: the kernel around the protocol (struct pages, other actors), the
machine, and its size.
"""


ASKED = ("actors", "before", "split", "marked", "ordinary", "failures", "complete")
"""What one of a file's SCENARIOS says: the actors (names, or a name and the number of its huge
page), who runs alone before them, and what `hvo.check.scenarios.scenario.Scenario` has of these.
"""


@dataclass(frozen=True)
class Own:
    """A file with a protocol: its path as the user gave it, and its text."""

    path: str
    source: str

    @property
    def digest(self) -> str:
        """Says whether the text is the same (16 hexadecimal digits of SHA-256)."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]

    @property
    def era(self) -> Era:
        """The kernel around the protocol."""
        with missteps(self):
            return parse_variant(self._setting("ERA", str))

    @property
    def hardware(self) -> Hardware:
        """The machine, where none is asked for."""
        text = self._setting("MACHINE", str)
        hardware = parse_hardware(text)
        if hardware is None:
            raise HvoError(f"{self.path}: MACHINE is {text!r}: {EXPECTED}")
        return hardware

    @property
    def sizes(self) -> dict[str, Any]:
        """GEOMETRY as the file says it."""
        sizes: dict[str, Any] = self._setting("GEOMETRY", dict)
        return sizes

    @property
    def geometry(self) -> Geometry | None:
        """How big the machine is; None where the file does not say."""
        sizes = self.sizes
        known = [field.name for field in fields(Geometry)]
        for name, value in sizes.items():
            if name not in known or not isinstance(value, int) or value < 1:
                raise HvoError(
                    f"{self.path}: GEOMETRY has {name!r}: {value!r}: expected positive numbers for"
                    f" {', '.join(known)}"
                )
        return (
            self._fitting(Geometry(**({"pages": 1, "group": 4, "leaf": 4} | sizes)))
            if sizes
            else None
        )

    def _fitting(self, geometry: Geometry) -> Geometry:
        """The geometry, which must be one that huge pages and tables can have."""
        for name in ("group", "leaf"):
            if getattr(geometry, name).bit_count() != 1:
                raise HvoError(
                    f"{self.path}: GEOMETRY has {name!r}: {getattr(geometry, name)}: expected a"
                    " power of two"
                )
        if geometry.used > geometry.group:
            raise HvoError(
                f"{self.path}: GEOMETRY has 'used': {geometry.used}: expected no more than 'group',"
                f" which is {geometry.group}"
            )
        return geometry

    @property
    def scenarios(self) -> list[dict[str, Any]]:
        """What the file asks for besides: keyword arguments of scenarios."""
        asked: list[dict[str, Any]] = self._setting("SCENARIOS", list)
        for number, one in enumerate(asked, 1):
            unknown: set[str] = {*one} - {*ASKED}
            if unknown or not one.get("actors"):
                raise HvoError(
                    f"{self.path}: SCENARIOS, number {number}: expected `actors` and, if wanted,"
                    f" {', '.join(name for name in ASKED if name != 'actors')}, not"
                    f" {', '.join(sorted(unknown)) or 'none'}"
                )
        return asked

    def _setting(self, name: str, kind: type) -> Any:
        value = getattr(module_of(self), name, SETTINGS[name])
        if not isinstance(value, kind):
            raise HvoError(f"{self.path}: {name} is {value!r}: expected a {kind.__name__}")
        return value


def read_own(path: str) -> Own:
    """The protocol in the file at `path`; raises HvoError where it cannot be read or is no
    Python.
    """
    try:
        own = Own(path, Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise HvoError(
            f"cannot read the protocol {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    module_of(own)
    return own


@cache
def module_of(own: Own) -> ModuleType:
    """The file as a module, run once; raises HvoError with file and line where that fails."""
    module = ModuleType(f"hvo_protocol_{own.digest}")
    module.__file__ = own.path
    sys.modules[module.__name__] = module  # dataclasses of the file look themselves up there
    try:
        exec(compile(own.source, own.path, "exec"), module.__dict__)
    except Exception as error:
        raise _failed(own, error) from error
    return module


def _failed(own: Own, error: Exception) -> HvoError:
    """The error of somebody's code in one line: the last line of the file that was on the way to
    it, and what it was.
    """
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == own.path
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    said = _line_of(error.msg if isinstance(error, SyntaxError) else error)
    return HvoError(f"{own.path}{f':{line}' if line else ''}: {type(error).__name__}: {said}")


def actors_of(own: Own) -> dict[str, Protocol]:
    """The actors of the file by name: those of `ROLES` that it has, and every other public
    generator function of (v, order, head).

    Raises HvoError when there is none, or when a public generator function is none of these.
    """
    module = module_of(own)
    found: dict[str, Any] = {
        name: value
        for name, value in vars(module).items()
        if callable(value) and (name in ROLES or _is_actor(module, name, value))
    }
    if not found:
        raise HvoError(
            f"{own.path} has no protocol: expected a generator function optimize(v, order, head)"
            " that yields steps"
        )
    for name, function in found.items():
        _check_role(own, name, function)
    return found


def _check_role(own: Own, name: str, function: Callable[..., Any]) -> None:
    signature = inspect.signature(function)
    wanted = ROLES.get(name, _PARAMETERS)
    try:
        signature.bind(None, 0, 0)
    except TypeError as error:
        raise HvoError(
            f"{own.path}: {name}{signature}: expected to be called with ({', '.join(wanted)})"
        ) from error
    if name in ROLES:
        return
    said = f"{own.path}: {name}{signature} is no role"
    if close := get_close_matches(name, ROLES, 1, 0.8):
        raise HvoError(f"{said}: {close[0]} is one; names of helpers begin with _")
    if tuple(signature.parameters)[:3] != _PARAMETERS:
        raise HvoError(f"{said}: {_EXPECTED_ROLES}; names of helpers begin with _")


def _is_actor(module: ModuleType, name: str, value: object) -> bool:
    return (
        not name.startswith("_")
        and inspect.isgeneratorfunction(value)
        and value.__module__ == module.__name__
    )


def run_own(
    v: SmallVmemmap, g: Geometry, own: Own, name: str, number: int | tuple[int, ...]
) -> Steps[object]:
    """The actor `name` of the file on huge page `number`, or on several as a list; what goes wrong
    in it is an HvoError of one line.
    """
    function: Any = actors_of(own)[name]
    heads: Any = g.head(number) if isinstance(number, int) else heads_of(g, *number)
    try:
        walk = function(v, g.order, heads)
    except HvoError:
        raise
    except Exception as error:
        raise _failed(own, error) from error
    if not isinstance(walk, GeneratorType):
        raise HvoError(f"{own.path}: {name} gives {walk!r}: expected a generator that yields steps")
    return (yield from _guarded(own, name, cast("GeneratorType[Any, Any, Any]", walk)))


def _guarded(own: Own, name: str, walk: "GeneratorType[Any, Any, Any]") -> Steps[object]:
    result: Any = None
    while True:
        try:
            step = walk.send(result)
        except StopIteration as stop:
            return stop.value
        except HvoError:
            raise
        except Exception as error:
            raise _failed(own, error) from error
        if not isinstance(step, Step):
            raise HvoError(
                f"{own.path}:{_line(own, walk)}: {name} yields {step!r}, which is no step: those"
                " are in hvo.steps"
            )
        result = yield step


def _line(own: Own, walk: "GeneratorType[Any, Any, Any]") -> int:
    """The line of the file that a generator, or one that it yields from, is at."""
    line, inner = 0, walk
    while inner.gi_frame is not None:
        line = inner.gi_frame.f_lineno if inner.gi_code.co_filename == own.path else line
        if not isinstance(inner.gi_yieldfrom, GeneratorType):
            break
        inner = cast("GeneratorType[Any, Any, Any]", inner.gi_yieldfrom)
    return line


@contextmanager
def missteps(own: Own) -> Generator[None]:
    """Make an HvoError that names the file of what whoever has to do its steps raises: a step can
    have wrong values in it.
    """
    try:
        yield
    except HvoError as error:
        if own.path in str(error):
            raise
        raise HvoError(f"{own.path}: {error}") from error
    except Exception as error:
        raise HvoError(
            f"{own.path}: {_last_step(error)} cannot be done: {type(error).__name__}:"
            f" {_line_of(error)}"
        ) from error


def _last_step(error: Exception) -> str:
    known = [
        value
        for frame, _ in traceback.walk_tb(error.__traceback__)
        for value in frame.f_locals.values()
    ]
    steps: list[Step[object]] = [
        value.step if isinstance(value, Operation) else value
        for value in known
        if isinstance(value, Step | Operation)
    ]
    return f"the step {_line_of(steps[-1])}" if steps else "a step"


def _line_of(value: object) -> str:
    """What `str` says, in one line."""
    return " ".join(str(value).split())
