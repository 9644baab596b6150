"""`docs/properties.md`, made of the properties: `python -m hvo.check.properties_page >
docs/properties.md`.
"""

from hvo.check.model.properties import PROPERTIES

_HEAD = """# Properties of `hvo check`

Made by `python -m hvo.check.properties_page` of `src/hvo/check/model/properties.py`. If a run violates several properties, the first in this
list is reported first.

| id | property |
|---|---|
"""


def properties_page() -> str:
    """The page, in Markdown."""
    table = "".join(f"| [`{rule.id}`](#{rule.id}) | {rule.sentence} |\n" for rule in PROPERTIES)
    parts = (
        f"\n## {rule.id}\n\n{rule.sentence}\n\n* violates it: {rule.bad}\n* does not: {rule.good}\n"
        for rule in PROPERTIES
    )
    return _HEAD + table + "".join(parts)


if __name__ == "__main__":
    print(properties_page(), end="")
