"""Hazards explained: the list of `hvo check --list`, and titles and stories beside numbers."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvo.report.html import Html, element, markup
from hvo.vmemmap.hazards.hazard import Hazard
from hvo.vmemmap.hazards.registry import HAZARDS, hazard_title, hazards_named

STORIES = "docs/hazards.md, or hvo check --list --json"
"""Where a reader finds more than a title."""


def print_titles(names: Iterable[str], out: Console) -> None:
    """Beside each hazard's number, where it appears first, what it is; none if a name has no
    title.
    """
    titles = [(name, hazard_title(name)) for name in dict.fromkeys(names)]
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, title in titles:
        if title:
            table.add_row(name, Text(title, style="dim"))
    if table.row_count:
        out.print(table)
        out.print(Text(f"more about a hazard: {STORIES}", style="dim"))
        out.print()


def hazard_number(name: str, place: str = "") -> Html:
    """A hazard's number with its title as tooltip, linked to its story in `hazard_stories` of the
    same `place`.
    """
    title = hazard_title(name)
    return element("a", name, href=f"#{place}hazard-{name}", title=title) if title else markup(name)


def hazard_stories(names: Iterable[str], place: str = "") -> Html:
    """What the hazards `names` are: title, story, since when, and the commit that fixed each.

    `place` distinguishes several lists on one page.
    """
    known = [name for name in dict.fromkeys(names) if hazard_title(name)]
    if not known:
        return Html("")
    listed = element("dl", *(part for name in known for part in _stories(name, place)))
    return element("details", element("summary", "The hazards"), listed, open=True)


def _stories(name: str, place: str) -> Iterator[Html]:
    yield element("dt", f"{name}: {hazard_title(name)}", id=f"{place}hazard-{name}")
    for hazard in hazards_named(name):
        fixed = f"Fixed by {hazard.fixed_by}." if hazard.fixed_by else "Not fixed."
        number = "" if hazard.id == name else f"{hazard.id}: "
        text = f"{number}{hazard.story} Since {hazard.since}. {fixed} {hazard.note}"
        yield element("dd", text.rstrip())


def hazards_json() -> dict[str, Any]:
    """The contract of `hvo check --list --json`."""
    return {"hazards": [_record(hazard) for hazard in HAZARDS]}


def _record(hazard: Hazard) -> dict[str, Any]:
    return {
        "id": hazard.id,
        "title": hazard.title,
        "story": hazard.story,
        "since": hazard.since,
        "fixed_by": hazard.fixed_by and asdict(hazard.fixed_by),
        "property": hazard.property,
        "note": hazard.note,
        "command": hazard.command(),
    }


def print_hazards(out: Console) -> None:
    """One row a hazard, and how to see one."""
    table = Table(box=None, pad_edge=False)
    for name in ("id", "hazard", "since", "fixed by", "property", "shown by"):
        table.add_column(name, no_wrap=name not in ("hazard", "since"))
    for hazard in HAZARDS:
        table.add_row(
            hazard.id,
            hazard.title,
            hazard.since,
            hazard.fixed_by.short() if hazard.fixed_by else "none",
            hazard.property or "none",
            hazard.command() or "not searched",
        )
    out.print(table)
    out.print(f"stories and subjects of commits: {STORIES}")
