"""`docs/schemas/*.json`: a JSON schema (draft 2020-12) of what each command prints, made of
`hvo.report.contracts` by msgspec.
"""

import inspect
import json
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints, is_typeddict

import msgspec

from hvo.report.contracts import CONTRACTS
from hvo.report.contracts.units import Unit

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """The text of every schema by the name of its contract.

    A key that no schema knows is allowed: later versions may add some.
    """
    return {
        name: json.dumps(schema(contract), indent=1) + "\n" for name, contract in CONTRACTS.items()
    }


def schema(contract: type) -> dict[str, Any]:
    """The schema of one typed dictionary; msgspec knows shapes, what keys mean is added to it."""
    (root,), definitions = msgspec.json.schema_components([contract], ref_template="#/$defs/{name}")
    for kind in _typed_dicts(contract):
        _describe(definitions[kind.__name__], kind)
    assert root == {"$ref": f"#/$defs/{contract.__name__}"}, root
    inner = {name: definitions[name] for name in sorted(definitions) if name != contract.__name__}
    return {"$schema": _DIALECT, **definitions[contract.__name__]} | (
        {"$defs": inner} if inner else {}
    )


def _typed_dicts(hint: object) -> Iterator[type]:
    """Every typed dictionary in `hint`, itself first."""
    if isinstance(hint, type) and is_typeddict(hint):
        yield hint
    parts = get_type_hints(hint).values() if is_typeddict(hint) else get_args(hint)
    for part in parts:
        yield from _typed_dicts(part)


def _describe(definition: dict[str, Any], kind: type) -> None:
    """Add what the dictionary and its keys mean, with the keys in their own order."""
    hints = get_type_hints(kind, include_extras=True)
    definition["description"] = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
    definition["properties"] = {key: definition["properties"][key] for key in hints}
    for key, hint in hints.items():
        unit, words = _notes(hint)
        if unit is not None:
            _not_negative(definition["properties"][key])
        text = ", ".join(filter(None, (unit and unit.name, words)))
        if text:
            definition["properties"][key]["description"] = text


def _notes(hint: object) -> tuple[Unit | None, str]:
    """The unit and the words that are annotated to a value, to one of its alternatives, or to the
    elements of a list.
    """
    unit, words = None, ""
    for part in get_args(hint):
        if isinstance(part, Unit):
            unit = part
        elif isinstance(part, str) and hasattr(hint, "__metadata__"):
            words = part
        elif not is_typeddict(part):
            inner, text = _notes(part)
            unit, words = unit or inner, words or text
    return unit, words


def _not_negative(value: dict[str, Any]) -> None:
    """Say so of every number in the schema of a value."""
    if value.get("type") in ("integer", "number"):
        value["minimum"] = 0
    for part in (
        *value.get("anyOf", ()),
        *([value["items"]] if isinstance(value.get("items"), dict) else ()),
    ):
        _not_negative(part)
