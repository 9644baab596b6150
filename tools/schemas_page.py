"""`docs/reference/schemas.md`: the keys of the objects that commands print with `--json`, made of
their JSON schemas.
"""

import json
from typing import Any

_HEAD = """# JSON output

Made by `make reference` of the typed dictionaries in `src/hvo/report/contracts`. With `--json` a command prints one object on standard
output. Keys are stable: they keep their name and meaning, and later versions may only add some. The schemas can be used as they are:

```
hvo status --json > status.json
check-jsonschema --schemafile docs/schemas/status.json status.json
```
"""


def schemas_page(schemas: dict[str, str]) -> str:
    """The page, in Markdown; `schemas` are the texts of the schemas by name."""
    return _HEAD + "".join(_section(name, json.loads(text)) for name, text in schemas.items())


def _section(name: str, schema: dict[str, Any]) -> str:
    inner = (
        f"**{kind}**: {found['description']}\n\n{_table(found)}"
        for kind, found in schema.get("$defs", {}).items()
    )
    head = (
        f"\n## {name}\n\n{schema['description']} Schema: [{name}.json](../schemas/{name}.json)\n\n"
    )
    return head + "\n".join([_table(schema), *inner])


def _table(schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = (
        f"| `{key}` | {_kind(found)}{'' if key in required else ', may be absent'} |"
        f" {found.get('description', '')} |\n"
        for key, found in schema["properties"].items()
    )
    return "| key | type | meaning |\n|---|---|---|\n" + "".join(rows)


def _kind(value: dict[str, Any]) -> str:
    """The type in words."""
    if "$ref" in value:
        return value["$ref"].rpartition("/")[2]
    if "anyOf" in value:
        return " or ".join(map(_kind, value["anyOf"]))
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value["type"] == "array":
        return (
            f"list of {_kind(value['items'])}" if isinstance(value.get("items"), dict) else "list"
        )
    if isinstance(value.get("additionalProperties"), dict):
        return f"object of {_kind(value['additionalProperties'])}"
    return value["type"]
