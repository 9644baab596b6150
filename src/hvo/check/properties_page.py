"""`docs/properties.md`, made of the properties: `python -m hvo.check.properties_page >
docs/properties.md`.
"""

from hvo.check.model.properties import PROPERTIES

_HEAD = """# What `hvo check` looks for

Made by `python -m hvo.check.properties_page` of the properties in `src/hvo/check/model/properties.py`. When a run violates several, the first of
this list is reported first.

| id | what must hold |
|---|---|
"""


def properties_page() -> str:
    """The page, in Markdown."""
    table = "".join(f"| [`{rule.id}`](#{rule.id}) | {rule.sentence} |\n" for rule in PROPERTIES)
    parts = (
        f"\n## {rule.id}\n\n{rule.sentence}\n\n* bad: {rule.bad}\n* good: {rule.good}\n"
        for rule in PROPERTIES
    )
    return _HEAD + table + "".join(parts)


if __name__ == "__main__":
    print(properties_page(), end="")
