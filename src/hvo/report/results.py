"""Results of commands, read back from the JSON that they printed or from a page that was made of
it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from hvo.errors import HvoError
from hvo.report.record import Record
from hvo.safe_text import mask_values

KEYS = {
    "run": {"machine", "era", "pool", "saved", "promises"},
    "audit": {"kernel", "layout", "sections", "pools", "findings"},
    "check": {"results"},
    "proposals": {"proposals"},
    "plan": {"pools", "memmap", "saved", "restore_headroom"},
    "comparison": {"alternatives"},
    "fleet": {"hosts", "saved", "possible"},
}
"""By what keys the kind of a result is recognised."""
_ACCEPTED = (
    "expected what `hvo run`, `audit`, `check`, `plan` or `fleet` printed with --json, or a page of"
    " hvo report"
)
_EMBEDDED = re.compile(r'<script type="application/json" id="results">(.*?)</script>', re.DOTALL)


def kind_of(values: dict[str, Any]) -> str | None:
    """Which command's result it is, None when none's."""
    return next((kind for kind, keys in KEYS.items() if keys <= values.keys()), None)


def read_results(text: str, where: str) -> Iterator[Record]:
    """The results in `text`, which is one JSON object or a page; raises HvoError when there are
    none.
    """
    page = _EMBEDDED.search(text) if text.lstrip().lower().startswith("<!doctype html") else None
    found = mask_values(_parsed(page[1], where) if page else [_parsed(text, where)])
    for number, values in enumerate(cast("list[object]", found) if isinstance(found, list) else []):
        if not isinstance(values, dict) or kind_of(cast("dict[str, Any]", values)) is None:
            raise HvoError(f"{where}: no result of a command: {_ACCEPTED}")
        yield Record(
            where if page is None else f"{where} result {number + 1}",
            cast("dict[str, Any]", values),
        )


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise HvoError(f"{where}: no JSON ({error}): {_ACCEPTED}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
