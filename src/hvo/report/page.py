"""A page of results: one HTML document that needs nothing else, says what was asked and found, and
holds the results themselves.
"""

from collections.abc import Callable, Sequence
from functools import partial

from hvo import __version__
from hvo.report.html import Html, element, joined
from hvo.report.page_audit import audit_section
from hvo.report.page_check import check_section
from hvo.report.page_document import document
from hvo.report.page_fleet import fleet_section
from hvo.report.page_parts import GLYPH, Section, badge
from hvo.report.page_plan import comparison_section, plan_section
from hvo.report.page_records import verdicts_section
from hvo.report.page_run import run_section
from hvo.report.record import Record
from hvo.report.results import kind_of

_SECTIONS: dict[str, Callable[[Record], Section]] = {
    "run": run_section,
    "audit": audit_section,
    "check": check_section,
    "proposals": partial(verdicts_section, "check", "proposals"),
    "plan": plan_section,
    "comparison": comparison_section,
    "fleet": fleet_section,
}


def page(results: Sequence[Record]) -> str:
    """The document, a section for each of `results`; raises HvoError where one is not as its
    command prints it.
    """
    sections = [_SECTIONS[kind_of(result.values) or ""](result) for result in results]
    title = sections[0].title if len(sections) == 1 else f"{len(sections)} results"
    body = joined(
        (
            _contents(sections),
            *(
                _section(*pair, len(sections))
                for pair in enumerate(zip(sections, results, strict=True), 1)
            ),
        )
    )
    return document(f"{title} - hvo", element("main", body), [result.values for result in results])


def _contents(sections: list[Section]) -> Html:
    """A line for each section, where there are several."""
    if len(sections) == 1:
        return Html()
    lines = (_entry(number, section) for number, section in enumerate(sections, 1))
    return joined(
        (
            element("h1", f"{len(sections)} results"),
            element("nav", element("ol", *lines), class_="contents"),
        )
    )


def _entry(number: int, section: Section) -> Html:
    tone = section.verdict.tone
    mark = element("span", GLYPH[tone], " ", section.verdict.text, class_=tone)
    return element("li", element("a", section.title, href=f"#result-{number}"), " ", mark)


def _section(number: int, pair: tuple[Section, Record], sections: int) -> Html:
    section, result = pair
    kicker = element("p", f"hvo {section.command}", class_="kicker")
    head = element(
        "header",
        kicker,
        element("h1" if sections == 1 else "h2", section.title),
        badge(section.verdict),
    )
    return element(
        "section",
        head,
        section.body,
        _made_by(result),
        id=f"result-{number}",
        data_result=number - 1,
    )


def _made_by(result: Record) -> Html:
    known = "command" in result
    line = (
        element("pre", element("code", result.text("command")))
        if known
        else element("p", "The result does not say which it was.")
    )
    return element(
        "footer",
        element("h3", "The command that made it"),
        line,
        element("p", f"hvo {__version__}", class_="quiet"),
    )
