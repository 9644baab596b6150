"""What `hvo audit --html` writes: one page that needs nothing else, with the map to explore, the table and the findings."""

import json
from collections.abc import Iterable
from html import escape

from hvo.audit.cells import KINDS
from hvo.audit.result import Audit
from hvo.layout.units import format_size
from hvo.report.audit_table import POOL_COLUMNS, pool_rows, summary, verdict
from hvo.report.vmemmap_map import MARKS, kinds, legend

_SHOWN = 10_000
"""Findings in the page; a browser takes no more."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a202c; background: #fff }
table { border-collapse: collapse } td, th { padding: .15rem 1rem .15rem 0; text-align: left; vertical-align: top }
td.number { text-align: right } code { font-size: 13px }
#map { display: flex; flex-wrap: wrap; gap: 1px; max-width: 64rem }
#map button { width: 13px; height: 13px; border: 0; padding: 0; margin: 0 }
#map button.chosen { outline: 2px solid #1a202c; z-index: 1 } #map .gap { flex-basis: 100%; font-size: 12px; color: #4a5568 }
#about { min-height: 6.5rem; margin: 1rem 0; padding: .5rem 1rem; background: #f7fafc }
.key span { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; border: 1px solid #cbd5e0 }
.error { color: #c53030 } .warning { color: #b7791f } tr.hidden { display: none }
"""
_SCRIPT = """
const data = JSON.parse(document.getElementById('data').textContent);
const map = document.getElementById('map'), about = document.getElementById('about'), hex = n => '0x' + n.toString(16);
const rows = [...document.querySelectorAll('#findings tr[data-pfn]')];
let chosen = null;
function inside(row, i) { const pfn = +row.dataset.pfn; return pfn >= data.start[i] && pfn < data.start[i] + data.frames; }
function choose(i, button) {
  if (chosen) chosen.classList.remove('chosen');
  if (chosen === button) { chosen = null; about.textContent = ''; rows.forEach(r => r.classList.remove('hidden')); return; }
  chosen = button; button.classList.add('chosen');
  const shares = data.shares[i].map((s, k) => s ? Math.round(s * 1000) / 10 + ' % ' + data.names[k] : '').filter(Boolean);
  rows.forEach(r => r.classList.toggle('hidden', !inside(r, i)));
  const here = rows.filter(r => inside(r, i)).length;
  about.textContent = 'frames ' + hex(data.start[i]) + ' to ' + hex(data.start[i] + data.frames - 1) + ', physical address '
    + hex(data.start[i] * data.page) + ': ' + shares.join(', ') + '; findings: ' + here + ' (the list below shows only these)';
}
data.kind.forEach((kind, i) => {
  if (i === 0 || data.start[i] !== data.start[i - 1] + data.frames) {
    const gap = document.createElement('div'); gap.className = 'gap'; gap.textContent = hex(data.start[i] * data.page); map.append(gap);
  }
  const cell = document.createElement('button'), mark = data.marks[kind];
  cell.style.background = mark[1]; cell.title = hex(data.start[i]) + ' ' + mark[0]; cell.setAttribute('aria-label', cell.title);
  cell.addEventListener('click', () => choose(i, cell)); cell.addEventListener('focus', () => { cell.title = cell.title; });
  map.append(cell);
});
"""


def audit_page(audit: Audit, target: str) -> str:
    """The audit of `target` as an HTML document."""
    cell = format_size(audit.cells.frames * audit.page_size)
    body = [
        f"<h1>hvo audit {escape(target)}</h1>", _table((), summary(audit)), f"<h2>vmemmap, a cell for {cell} of memory</h2>",
        '<p>Choose a cell to see what is in it.</p><div id="map"></div>', _key(audit), '<div id="about" role="status"></div>',
        "<h2>HugeTLB pages</h2>", _table(POOL_COLUMNS, pool_rows(audit)), f"<h2>Findings: {escape(verdict(audit))}</h2>", _findings(audit),
        f'<script type="application/json" id="data">{_data(audit)}</script>', f"<script>{_SCRIPT}</script>",
    ]  # fmt: skip
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>hvo audit</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body>\n</html>\n"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(_cell(number, value) for number, value in enumerate(row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(number: int, value: str) -> str:
    return f'<td class="number">{escape(value)}</td>' if number > 1 else f"<td>{escape(value)}</td>"


def _key(audit: Audit) -> str:
    return '<p class="key">' + "".join(f'<span style="background:{mark.css}"></span>{mark.name}' for mark in legend(audit)) + "</p>"


def _findings(audit: Audit) -> str:
    rows = "".join(
        f'<tr data-pfn="{finding.pfn}"><td class="{finding.severity}">{finding.id}</td><td><code>{finding.pfn:#x}</code></td>'
        f"<td><code>{finding.address:#x}</code></td><td>{escape(finding.message)}</td></tr>"
        for finding in audit.findings[:_SHOWN]
    )
    more = f"<p>... and {len(audit.findings) - _SHOWN} more</p>" if len(audit.findings) > _SHOWN else ""
    return f'<table id="findings"><tr><th>rule</th><th>pfn</th><th>address</th><th></th></tr>{rows}</table>{more}'


def _data(audit: Audit) -> str:
    cells = audit.cells
    data = {
        "start": cells.start.tolist(), "frames": cells.frames, "page": audit.page_size, "kind": kinds(cells).tolist(),
        "shares": [[round(share, 4) for share in row] for row in cells.shares.tolist()], "names": KINDS,
        "marks": [(mark.name, mark.css) for mark in MARKS],
    }  # fmt: skip
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
