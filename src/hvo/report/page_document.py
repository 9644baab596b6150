"""The document around every page: the house's style, one script of ours, the data, and a policy
that lets nothing else run.
"""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files

from hvo.report.html import Html, element


def document(
    title: str,
    body: Html,
    data: object,
    *,
    place: str = "results",
    script: str = "page.js",
    styles: tuple[str, ...] = (),
) -> str:
    """An HTML document that needs nothing else.

    `data` is held as JSON by the element with the id `place`, `script` and `styles` (beside the
    house's own) are files of the package.
    """
    code = _asset(script)
    head = (
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy(code)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Html("".join(map(_asset, ("page.css", *styles))))),
    )
    scripts = (
        element("script", embedded(data), type="application/json", id=place),
        element("script", Html(code)),
    )
    return (
        "<!doctype html>\n"
        + element("html", element("head", *head), element("body", body, *scripts), lang="en")
        + "\n"
    )


def embedded(data: object) -> Html:
    """`data` as JSON that can stand in a page: nothing in it ends a script or begins a comment."""
    plain = json.dumps(data, separators=(",", ":"))
    return Html(plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _policy(script: str) -> str:
    """Nothing is fetched, and no script runs but `script`, which is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri"
        " 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    """The text of a file that comes with the package."""
    return files("hvo.report").joinpath("assets", name).read_text(encoding="utf-8")
