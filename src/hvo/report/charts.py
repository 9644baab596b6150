"""Charts of bytes by group, drawn by Altair and Vega when the page is made, as SVG that takes its
colours from the page's style sheet.

Drawn beforehand a chart is some kilobytes and needs no script; Vega itself in the page would be
most of a megabyte. It is drawn twice, for wide and for narrow windows, of which one is shown.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from hvo.report.html import Html, element, printable

_WIDTHS = (("wide", 640), ("narrow", 250))
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 30  # height of a bar with the space around it
_SVG = "{http://www.w3.org/2000/svg}"
_MOST = 40
"""Bars in a chart; what comes after is in the table only."""


class Slice(NamedTuple):
    """A piece of a bar: which bar, which series, how many bytes, and these in words."""

    bar: str
    series: str
    amount: int
    text: str


def stacked_bars(name: str, slices: Sequence[Slice], colours: dict[str, str]) -> Html:
    """Horizontal bars in the order of `slices`; `colours` names a variable of the style sheet for
    each series, in the order of stacking.
    """
    bars = list(dict.fromkeys(piece.bar for piece in slices))[:_MOST]
    shown = [piece for piece in slices if piece.bar in bars]
    drawn = (
        element("div", _svg(_chart(shown, bars, colours, width), name), class_=kind)
        for kind, width in _WIDTHS
    )
    more = f"{len(dict.fromkeys(piece.bar for piece in slices)) - len(bars)} more are in the table"
    cut = element("figcaption", more) if not more.startswith("0 ") else None
    return element("figure", *drawn, cut, class_="chart")


def _unit(largest: int) -> int:
    """The power of 1024 that gives an axis short numbers."""
    return min(max(largest.bit_length() - 1, 0) // 10, len(_UNITS) - 1)


def _chart(
    slices: list[Slice], bars: list[str], colours: dict[str, str], width: int
) -> dict[str, Any]:
    """The Vega-Lite specification."""
    import altair

    totals = {bar: sum(piece.amount for piece in slices if piece.bar == bar) for bar in bars}
    unit = _unit(max(totals.values(), default=0))
    order = list(colours)
    rows = [
        {
            "bar": bars.index(piece.bar),
            "series": piece.series,
            "order": order.index(piece.series),
            "amount": piece.amount / 1024**unit,
            "said": printable(f"{piece.bar}: {piece.series} {piece.text}"),
        }
        for piece in slices
    ]
    names = [printable(bar) for bar in bars]
    label = altair.Axis(
        title=None,
        domain=False,
        ticks=False,
        labelLimit=width // 2,
        labelPadding=8,
        labelExpr=_labels(names),
    )
    chart = (
        altair.Chart(altair.Data(values=rows))
        .mark_bar(height=16)
        .encode(
            x=altair.X(
                "amount:Q",
                title=_UNITS[unit],
                axis=altair.Axis(
                    tickCount=max(width // 90, 2), domain=False, ticks=False, format="~r"
                ),
            ),
            y=altair.Y("bar:O", axis=label),
            color=altair.Color(
                "series:N",
                scale=altair.Scale(
                    domain=order, range=[f"var(--{colours[name]})" for name in order]
                ),
                legend=None,
            ),
            order="order:Q",
            description="said:N",
        )
    )
    whole = chart.properties(
        width=width, height={"step": _STEP}, background="transparent", padding=_padding(names)
    )
    return whole.to_dict() | {"config": _style()}


def _padding(names: list[str]) -> dict[str, float]:
    """Room for what the browser's font may be wider than the one that the chart was measured
    with.
    """
    return {"left": 5 + 0.8 * max(map(len, names), default=0), "right": 12, "top": 5, "bottom": 5}


def _labels(names: list[str]) -> str:
    """An expression that gives the name of each bar: names are data, never part of a specification
    that could read them as its own.
    """
    return f"{json.dumps(names)}[datum.value]"


def _style() -> dict[str, Any]:
    """How the house draws: no frame, faint lines, the page's own colours and type."""
    text = {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
    }
    return {
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**text, "gridColor": "var(--line)", "titleAnchor": "end"},
        "axisY": {"grid": False, "labelColor": "var(--ink)"},
    }


def _svg(specification: dict[str, Any], name: str) -> Html:
    """The drawing with what each piece of a bar says as its tooltip, as part of an HTML
    document.
    """
    import vl_convert

    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(specification))  # pyright: ignore[reportUnknownMemberType]
    for mark in root.iter():
        said = mark.get("aria-label")
        if mark.get("aria-roledescription") == "bar" and said is not None:
            ElementTree.SubElement(mark, f"{_SVG}title").text = said
        mark.tag = mark.tag.removeprefix(_SVG)
    for title in root.iter(f"{_SVG}title"):
        title.tag = "title"
    root.attrib |= {"role": "group", "aria-label": name}
    root.attrib.pop("version", None)
    return Html(ElementTree.tostring(root, encoding="unicode"))
