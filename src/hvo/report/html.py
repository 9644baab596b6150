"""HTML that cannot be broken by what it shows: text becomes markup in `element` alone, which
escapes all that is not markup already.
"""

import re
from collections.abc import Iterable
from html import escape

_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What neither HTML nor XML can hold: control characters, and halves of surrogate pairs."""


class Html(str):
    """Markup; any other text is escaped before it stands in a page."""

    __slots__ = ()


def markup(value: object) -> Html:
    """`value` as markup: itself when it is some, nothing for None, else its text escaped."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else escape(printable(str(value))))


def printable(text: str) -> str:
    """`text` with a `?` for each character that a page cannot hold."""
    return _NO_TEXT.sub("?", text)


def joined(parts: Iterable[object]) -> Html:
    """All `parts` as markup, one after the other."""
    return Html("".join(map(markup, parts)))


def element(name: str, *children: object, **attributes: object) -> Html:
    """An element `name`; attributes are named as in HTML, with `_` for `-` and one behind a Python
    keyword (`class_`).

    An attribute that is True stands without a value; one that is None or False is left out.
    """
    given = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{markup(str(value))}"'
