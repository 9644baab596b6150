"""The section of a page about `hvo check`: the matrix of protocols and hazards, every search, and
the run to each violation.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from hvo.report import page_parts as p
from hvo.report.hazards import hazard_number, hazard_stories
from hvo.report.html import Html, element, joined
from hvo.report.page_parts import Cell, Column, Section, Tone, Verdict
from hvo.report.record import Record

_TONE: dict[str, Tone] = {"safe": "good", "unsafe": "bad", "unfinished": "unsure"}
_WORST = ("unsafe", "unfinished", "safe")
_COLUMNS = (
    Column("hazard"),
    Column("protocol"),
    Column("machine"),
    Column("scenario"),
    Column("verdict"),
    Column("property"),
    Column("states", True),
    Column("transitions", True),
    Column("seconds", True),
)


def check_section(result: Record) -> Section:
    """The section; raises HvoError where `result` is not what `hvo check --json` prints."""
    rows = result.records("results")
    verdicts = Counter(map(_verdict, rows))
    said = ", ".join(f"{verdicts[name]} {name}" for name in _WORST if verdicts[name])
    worst = next((name for name in _WORST if verdicts[name]), "unfinished")
    body = (
        _figures(rows, verdicts),
        _matrix(rows),
        hazard_stories(map(_hazard, rows), _prefix(rows)),
        _searches(rows),
        _violations(rows),
        _bounds(rows),
    )
    return Section(
        "check", _title(rows), Verdict(_TONE[worst], said or "nothing was searched"), joined(body)
    )


def _verdict(row: Record) -> str:
    """The verdict, which is one of the three; another one is taken for none."""
    found = row.text("verdict")
    return found if found in _TONE else "unfinished"


def _title(rows: list[Record]) -> str:
    protocols = dict.fromkeys(row.text("protocol") for row in rows)
    if len(protocols) == 1:
        return f"Protocol {next(iter(protocols))}, {p.plural(len(rows), 'scenario')}"
    return (
        f"{p.plural(len(protocols), 'protocol')} against"
        f" {p.plural(len(dict.fromkeys(map(_hazard, rows))), 'hazard')}"
    )


def _hazard(row: Record) -> str:
    return row.text("hazard") if "hazard" in row else row.text("scenario")


def _figures(rows: list[Record], verdicts: Counter[str]) -> Html:
    states, seconds = (
        sum(row.integer("states") for row in rows),
        sum(row.number("seconds") for row in rows),
    )
    return p.figures(
        [
            ("Searches", f"{len(rows):,}", None),
            *((name.capitalize(), f"{verdicts[name]:,}", None) for name in _WORST[::-1]),
            (
                "States",
                f"{states:,}",
                f"{sum(row.integer('transitions') for row in rows):,} transitions",
            ),
            ("Time", f"{seconds:.1f} s", "of one processor"),
        ]
    )


def _matrix(rows: list[Record]) -> Html:
    """Protocols down, hazards across; a cell is the worst verdict of its searches, and leads to the
    run that shows it.
    """
    hazards = sorted(dict.fromkeys(map(_hazard, rows)))
    lines: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for row in rows:
        lines.setdefault((row.text("protocol"), row.text("arch")), {}).setdefault(
            _hazard(row), []
        ).append(row)
    head = element(
        "tr",
        element("th", "protocol", scope="col"),
        element("th", "machine", scope="col"),
        *(_turned(hazard, _prefix(rows)) for hazard in hazards),
    )
    body = (element("tr", *_line(name, cells, hazards)) for name, cells in sorted(lines.items()))
    name = "Verdicts, protocols down and hazards across"
    whole = element(
        "table",
        element("caption", name),
        element("thead", head),
        element("tbody", *body),
        class_="matrix",
    )
    key = p.legend((("good", "safe"), ("bad", "unsafe"), ("unsure", "unfinished")))
    scrolled = element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=name)
    return joined((p.heading("Protocols against hazards"), scrolled, key))


def _turned(hazard: str, place: str) -> Html:
    return element(
        "th", element("span", hazard_number(hazard, place)), scope="col", class_="turned"
    )


def _prefix(rows: list[Record]) -> str:
    """What begins the identifiers of this section's hazards: no other section has it."""
    return f"{_place(rows[0])}-" if rows else ""


def _line(
    name: tuple[str, str], cells: dict[str, list[Record]], hazards: list[str]
) -> Iterator[Html]:
    yield element("th", name[0], scope="row")
    yield element("td", name[1])
    yield from (_cell(cells[hazard]) if hazard in cells else element("td") for hazard in hazards)


def _cell(found: Sequence[Record]) -> Html:
    row = min(found, key=lambda row: _WORST.index(_verdict(row)))
    verdict, said = _verdict(row), f"{row.text('scenario')}: {_said(row)}"
    mark = (
        element("a", p.GLYPH[_TONE[verdict]], href=f"#{_place(row)}")
        if "trace" in row
        else p.GLYPH[_TONE[verdict]]
    )
    return element("td", mark, class_=_TONE[verdict], title=said, aria_label=said)


def _said(row: Record) -> str:
    return f"{_verdict(row)}, {row.text('property')}" if "property" in row else _verdict(row)


def _place(row: Record) -> str:
    """The name of the run in the page: another one for each file and each result in it."""
    return f"run-{blake2b(row.where.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def _searches(rows: list[Record]) -> Html:
    return joined((p.heading("Searches"), p.table("Searches", _COLUMNS, map(_search, rows))))


def _search(row: Record) -> tuple[object, ...]:
    seconds, verdict = row.number("seconds"), _verdict(row)
    return (
        _hazard(row),
        row.text("protocol"),
        row.text("arch"),
        row.text("scenario"),
        element("span", verdict, class_=_TONE[verdict]),
        row.text("property") if "property" in row else "",
        p.count(row.integer("states")),
        p.count(row.integer("transitions")),
        Cell(f"{seconds:.2f}", seconds),
    )


def _violations(rows: list[Record]) -> Html:
    found = [row for row in rows if "trace" in row]
    return (
        joined((p.heading("Shortest runs to a violation"), *map(_violation, found)))
        if found
        else Html()
    )


def _violation(row: Record) -> Html:
    trace = row.record("trace")
    steps = trace.records("steps")
    summary = (
        element("b", row.text("property"), class_="bad"),
        f" {row.text('protocol')} on {row.text('arch')}, {row.text('scenario')} ",
        element("span", p.plural(len(steps), "step"), class_="quiet"),
    )
    again = element("pre", f"hvo check --replay {trace.text('token')}")
    messages = (
        (element("p", violation.text("message")) for violation in row.records("violations")[:1])
        if "violations" in row
        else ()
    )
    return p.unfold(
        joined(summary),
        *messages,
        element("ol", *map(_step, steps), class_="trace"),
        again,
        id=_place(row),
    )


def _step(step: Record) -> Html:
    changes = (element("span", change, class_="change") for change in step.texts("changes"))
    broken = step.values.get("violated")
    tone = "violated" if broken else None
    return element(
        "li", element("b", step.text("letter")), " ", step.text("text"), *changes, class_=tone
    )


def _bounds(rows: list[Record]) -> Html:
    bounds = dict.fromkeys(row.text("bounds") for row in rows)
    listed = element("ul", *(element("li", bound) for bound in bounds))
    return p.unfold("What was explored, and within which bounds", listed)
