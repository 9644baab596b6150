"""What `hvo check --html` writes: one page that needs nothing else, with the matrix, and every
violation to step through.
"""

from collections.abc import Iterator, Sequence

from hvo.check.check import Finding, Result, rerun
from hvo.check.matrix import Matrix, matrix_of
from hvo.check.trace.rerun import Rerun
from hvo.check.trace.snapshots import Line, names, shots
from hvo.report.check import violation_title
from hvo.report.hazards import hazard_number, hazard_stories
from hvo.report.html import Html, element, joined
from hvo.report.page_document import document
from hvo.vmemmap.hazards.registry import hazard_title

_GLYPH = {"safe": ("✓", "good"), "unsafe": ("✗", "bad"), "unfinished": ("?", "unsure")}
_TITLE = "hvo check"


def check_page(results: Sequence[Result]) -> str:
    """The results of `hvo check` as an HTML document."""
    found = [
        (result, finding, rerun(finding.token)) for result in results for finding in result.findings
    ]
    places = {id(result): number for number, (result, _, _) in reversed(list(enumerate(found)))}
    runs = [_run(number, *violation) for number, violation in enumerate(found)]
    body = joined(
        (
            element("h1", _TITLE),
            element("p", _said(results), class_="remark"),
            _matrix(matrix_of(results), places),
            _bounds(results),
            hazard_stories(matrix_of(results).columns),
            element("h3", "Runs to a violation"),
            _chooser(found),
            *runs,
        )
    )
    runs_shown = _data([run for _, _, run in found])
    return document(
        _TITLE,
        element("main", body),
        runs_shown,
        place="runs",
        script="check.js",
        styles=("check.css",),
    )


def _said(results: Sequence[Result]) -> str:
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in _GLYPH}
    states, seconds = (
        sum(result.states for result in results),
        sum(result.seconds for result in results),
    )
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return (
        f"{len(results)} searches: {told}. {states:,} states in {seconds:.1f} s of one processor."
    )


# -- the matrix --


def _matrix(matrix: Matrix, places: dict[int, int]) -> Html:
    """Protocols down, hazards across; an unsafe cell leads to the run that shows it."""
    turned = (
        element("th", element("span", hazard_number(column)), scope="col", class_="turned")
        for column in matrix.columns
    )
    head = element(
        "tr", element("th", "protocol", scope="col"), element("th", "machine", scope="col"), *turned
    )
    rows = (element("tr", *_row(matrix, row, places)) for row in matrix.rows)
    table = element(
        "table", element("thead", head), element("tbody", *rows), class_="matrix", id="matrix"
    )
    key = joined(element("li", glyph, " ", verdict) for verdict, (glyph, _) in _GLYPH.items())
    scrolled = element(
        "div",
        table,
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label="Verdicts, protocols down and hazards across",
    )
    return joined(
        (element("h3", "Protocols against hazards"), scrolled, element("ul", key, class_="legend"))
    )


def _row(matrix: Matrix, row: tuple[str, str], places: dict[int, int]) -> Iterator[Html]:
    yield element("th", row[0], scope="row")
    yield element("td", row[1])
    for column in matrix.columns:
        verdict = matrix.verdict(row, column)
        yield (
            element("td") if verdict is None else _cell(matrix.cells[row, column], verdict, places)
        )


def _cell(results: Sequence[Result], verdict: str, places: dict[int, int]) -> Html:
    glyph, tone = _GLYPH[verdict]
    said = "; ".join(f"{result.case.scenario.name}: {result.verdict}" for result in results)
    place = next((places[id(result)] for result in results if id(result) in places), None)
    mark = glyph if place is None else element("a", glyph, href=f"#run-{place}")
    return element("td", mark, class_=tone, title=said, aria_label=said)


def _bounds(results: Sequence[Result]) -> Html:
    listed = (element("li", bound) for bound in dict.fromkeys(result.bounds for result in results))
    return element(
        "details",
        element("summary", "What was explored, and within which bounds"),
        element("ul", *listed),
    )


# -- the runs --


def _chooser(found: Sequence[tuple[Result, Finding, Rerun]]) -> Html:
    if not found:
        return element("p", "None was found.", id="none")
    options = (
        element(
            "option",
            violation_title(result, finding),
            value=number,
        )
        for number, (result, finding, _) in enumerate(found)
    )
    return element(
        "p", element("label", "Show ", element("select", *options, id="chooser")), class_="filter"
    )


def _run(number: int, result: Result, finding: Finding, run: Rerun) -> Html:
    """One violation: who, what, the buttons, the lanes, and where the entries are shown."""
    case = result.case
    title = element(
        "h3",
        hazard_number(case.hazard),
        f" {hazard_title(case.hazard)}: {finding.property}",
        class_="bad",
    )
    about = element(
        "p", f"{case.protocol} on {case.hardware.name}, {case.scenario.name}. {finding.message}."
    )
    buttons = (
        element("button", label, type="button", data_go=go, title=title)
        for go, label, title in (
            ("first", "|◀", "to the beginning (Home)"),
            ("back", "◀ back", "one step back (left arrow)"),
            ("on", "on ▶", "one step on (right arrow)"),
            ("last", "▶|", "to the end (End)"),
        )
    )
    controls = element(
        "div",
        *buttons,
        element("output", "", class_="where", aria_live="polite"),
        class_="controls",
    )
    diagram = element(
        "div",
        _lanes(finding, run),
        class_="scroll lanes",
        tabindex=0,
        role="region",
        aria_label="The steps of the run",
    )
    entries = element(
        "div", element("table", element("tbody"), class_="entries"), class_="scroll beside"
    )
    again = element("pre", f"hvo check --replay {finding.token}")
    return element(
        "article",
        title,
        about,
        controls,
        element("div", diagram, entries, class_="run"),
        again,
        id=f"run-{number}",
        data_run=number,
    )


def _lanes(finding: Finding, run: Rerun) -> Html:
    """The sequence diagram: a row a step, a column a CPU."""
    actors = run.case.scenario.actors
    heads = (
        element("th", f"CPU {i + 1}: {actor.letter} {actor.role}", scope="col")
        for i, actor in enumerate(actors)
    )
    rows = [
        element(
            "tr",
            element("td", "0"),
            element("td", "before the first step", colspan=len(actors)),
            data_step=0,
        )
    ]
    for number, step in enumerate(run.trace, 1):
        broken = (
            element("span", f"✗ {rule}: {message}", class_="violated")
            for rule, message in step.violated
        )
        changes = (element("span", change, class_="change") for change in step.changes)
        said = element("td", step.text, *changes, *broken, class_="step")
        cells = (
            said if lane == step.cpu else element("td", class_="lane")
            for lane in range(len(actors))
        )
        rows.append(
            element(
                "tr",
                element("td", number),
                *cells,
                data_step=number,
                class_="offending" if step.violated else None,
            )
        )
    return element(
        "table",
        element("thead", element("tr", element("th", "step", scope="col"), *heads)),
        element("tbody", *rows, *_last(run)),
    )


def _last(run: Rerun) -> Iterator[Html]:
    """What is violated only in the end, behind the last step."""
    for rule, message in run.ending:
        said = element(
            "td",
            f"✗ in the end {rule}: {message}",
            class_="violated",
            colspan=len(run.case.scenario.actors),
        )
        yield element("tr", element("td"), said, data_step=len(run.steps), class_="offending end")


# -- what the script needs: every entry at every step, as differences --


def _data(runs: Sequence[Rerun]) -> dict[str, object]:
    """What the script reads: for each run the names of its entries and, each step the [entry, what
    it says, what TLBs keep] changed.
    """
    strings: dict[str, int] = {}
    told = [
        {"names": names(run.forest.model), "steps": list(_changes(run, strings))} for run in runs
    ]
    return {"strings": list(strings), "runs": told}


def _changes(run: Rerun, strings: dict[str, int]) -> Iterator[list[list[object]]]:
    before: Sequence[Line | None] = [None] * len(names(run.forest.model))
    for lines in shots(run):
        yield [
            [i, _number(strings, line.entry), [_number(strings, kept) for kept in line.kept]]
            for i, (old, line) in enumerate(zip(before, lines, strict=True))
            if old != line
        ]
        before = lines


def _number(strings: dict[str, int], text: str) -> int:
    return strings.setdefault(text, len(strings))
