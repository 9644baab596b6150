"""What `hvo run --html` writes: one page that needs nothing else."""

from collections.abc import Iterable
from html import escape

from hvo.machine.results import Promise, RunResult
from hvo.report import memory_map as picture
from hvo.report.memory_map import Cells, Mark

_COLOUR = {"blue": "#2b6cb0", "orange": "#dd8a1f", "green": "#9ad0a5"}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a202c; background: #fff }
td, th { padding: .15rem 1rem .15rem 0; text-align: left; vertical-align: top } td.number { text-align: right }
.bar { display: flex; height: 1.4rem; margin: .2rem 0 } .page { display: flex; margin: 2px 0 }
.page span { width: .8rem; height: .8rem; margin-right: 2px }
.key span { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem } .broken { color: #c53030 }
"""


def run_page(result: RunResult) -> str:
    """The result of a run as an HTML document."""
    body = [
        "<h1>hvo run</h1>", _table((), picture.summary(result)), _maps(result), _table(picture.MEMMAP_COLUMNS, _counts(result)),
        _snapshots(result), "<h2>Promises</h2>", *map(_promise, result.promises),
    ]  # fmt: skip
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>hvo run</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body>\n</html>\n"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _counts(result: RunResult) -> list[tuple[str, ...]]:
    return [picture.memmap_line(name, memmap) for name, memmap in picture.states(result)]


def _maps(result: RunResult) -> str:
    out: list[str] = []
    for name, memmap in picture.states(result)[:2]:
        out += [f"<h2>vmemmap {name}</h2>", *map(_page, picture.parts(memmap))]
        out += [f"<h3>its frames {name}</h3>", _bar(picture.bar(result.before.frames, memmap))]
    marks = (("kept", picture.KEPT), ("shared", picture.SHARED), ("given back", picture.GIVEN_BACK))
    key = "".join(f"<span {_background(mark)}></span>{name}" for name, mark in marks)
    pages = "".join(map(_page, picture.page_rows(result)))
    return "".join(out) + f'<h2>vmemmap pages of the first huge pages, optimised</h2>{pages}<p class="key">{key}</p>'


def _bar(cells: Cells) -> str:
    parts = "".join(f'<span style="flex:{count};background:{_COLOUR[mark.colour]}"></span>' for mark, count in cells if count)
    return f'<div class="bar">{parts}</div>'


def _page(cells: Cells) -> str:
    return f'<div class="page">{"".join(f"<span {_background(mark)}></span>" * count for mark, count in cells)}</div>'


def _background(mark: Mark) -> str:
    return f'style="background:{_COLOUR[mark.colour]}"'


def _snapshots(result: RunResult) -> str:
    if result.snapshots is None:
        return ""
    names = [name for name, _ in result.snapshots]
    counters = result.snapshots[0].counters
    rows = [(counter, *(str(snapshot.counters[counter]) for snapshot in result.snapshots)) for counter in counters]
    return "<h2>Snapshots</h2>" + _table(("counter", *names), rows)


def _promise(promise: Promise) -> str:
    mark, kind = ("✓", "kept") if promise.holds else ("✗", "broken")
    return f'<p class="{kind}">{mark} <b>{escape(promise.id)}</b> {escape(promise.statement)}<br>{escape(promise.evidence)}</p>'
