"""What every section of a page is made of: key figures, facts, tables, stacked bars, maps' keys and
lists that open.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hvo.layout.units import format_size
from hvo.report.html import Html, element, joined

Tone = Literal["good", "bad", "unsure"]
"""Whether something is well, is not, or could not be found out."""
GLYPH: dict[Tone, str] = {"good": "✓", "bad": "✗", "unsure": "?"}
_ROWS = 10_000
"""Rows of a table in the page; a browser takes no more."""


class Verdict(NamedTuple):
    """A result in a few words."""

    tone: Tone
    text: str


class Section(NamedTuple):
    """What a page says of one result: the command that gave it, a title, the verdict, and the rest
    as markup.
    """

    command: str
    title: str
    verdict: Verdict
    body: Html


class Cell(NamedTuple):
    """A cell of a table: what is shown, and what it is sorted by where that is something else."""

    shown: object
    key: float | None = None


class Column(NamedTuple):
    """A column of a table: its heading, and whether it holds numbers (they stand to the right, and
    sort from the largest).
    """

    name: str
    numbers: bool = False


class Part(NamedTuple):
    """A piece of a stacked bar: the colour (a class of the style sheet), its name, how large, and
    what is said of it.
    """

    colour: str
    name: str
    amount: float
    text: str


def size(count: int) -> Cell:
    """Bytes, for people and for sorting."""
    return Cell(format_size(count), count)


def count(number: int) -> Cell:
    """A number with its thousands apart."""
    return Cell(f"{number:,}", number)


def plural(number: int, thing: str) -> str:
    """`1 page`, `1,000 pages`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def percent(part: float, whole: float) -> str:
    """The share of `part` in `whole`, or nothing where there is no whole."""
    return f"{100 * part / whole:.4g} %" if whole else ""


def badge(verdict: Verdict) -> Html:
    """The verdict with its mark: colour is never all that says it."""
    return element(
        "p",
        element("span", GLYPH[verdict.tone], aria_hidden="true"),
        " ",
        verdict.text,
        class_=f"verdict {verdict.tone}",
    )


def figures(rows: Iterable[tuple[str, object, object]]) -> Html:
    """The few numbers that matter: label, number, and what it is of or what it means."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", label),
                element("dd", value, class_="value"),
                element("dd", note, class_="note") if note else None,
            )
            for label, value, note in rows
        ),
        class_="figures",
    )


def facts(rows: Iterable[tuple[str, object]]) -> Html:
    """Names and values, a line each; values that are None are left out."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value))
            for name, value in rows
            if value is not None
        ),
        class_="facts",
    )


def heading(text: str) -> Html:
    """The heading of a part of a section."""
    return element("h3", text)


def note(*text: object) -> Html:
    """A remark, smaller than the rest."""
    return element("p", *text, class_="remark")


def table(
    name: str, columns: Sequence[Column], rows: Iterable[Sequence[object]], **attributes: object
) -> Html:
    """A table that can be sorted and filtered; `name` is read out, not shown. A row has a `Cell`,
    or anything, for each column.
    """
    shown = list(rows)
    head = element(
        "tr",
        *(
            element("th", column.name, scope="col", class_="number" if column.numbers else None)
            for column in columns
        ),
    )
    body = (
        element("tr", *(_cell(*pair) for pair in zip(columns, row, strict=True)))
        for row in shown[:_ROWS]
    )
    whole = element(
        "table",
        element("caption", name),
        element("thead", head),
        element("tbody", *body),
        class_="data",
        **attributes,
    )
    more = (
        note(f"{len(shown) - _ROWS:,} more rows are in the data of this page, not in the table")
        if len(shown) > _ROWS
        else None
    )
    return joined(
        (element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=name), more)
    )


def _cell(column: Column, value: object) -> Html:
    cell = value if isinstance(value, Cell) else Cell(value)
    return element("td", cell.shown, class_="number" if column.numbers else None, data_key=cell.key)


def code(text: object) -> Html:
    """As typed at a prompt or printed by a machine."""
    return element("code", text)


def bar(parts: Sequence[Part], whole: float, name: str) -> Html:
    """A bar as long as `whole`, made of `parts`; what is missing to the whole stays empty."""
    pieces = (
        element(
            "span",
            class_=f"part {part.colour}",
            style=f"width:{100 * part.amount / whole:.4f}%",
            title=f"{part.name}: {part.text}",
        )
        for part in parts
        if part.amount > 0 and whole > 0
    )
    said = ", ".join(f"{part.name} {part.text}" for part in parts)
    return element("div", *pieces, class_="bar", role="img", aria_label=f"{name}: {said}")


def legend(marks: Iterable[tuple[str, str]]) -> Html:
    """What the colours mean: pairs of class and name."""
    return element(
        "ul",
        *(
            element("li", element("span", class_=f"swatch {colour}"), name)
            for colour, name in marks
        ),
        class_="legend",
    )


def unfold(summary: object, *children: object, **attributes: object) -> Html:
    """Something that is opened when wanted, and open in print."""
    return element("details", element("summary", summary), *children, **attributes)
