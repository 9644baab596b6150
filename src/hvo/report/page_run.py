"""The section of a page about `hvo run`: what came back, where the vmemmap lives, the counters, and
every guarantee.
"""

from hvo.layout.units import format_size
from hvo.report import page_parts as p
from hvo.report.html import Html, element, joined
from hvo.report.page_parts import Column, Part, Section, Verdict
from hvo.report.record import Record

_STATES = (("before", "before"), ("after", "optimised"), ("restored", "restored"))
_NUMBERS = ("memory map", "frames", "shared tails", "read-only pages", "split tables")
_COLUMNS = (Column(""), *(Column(name, numbers=True) for name in _NUMBERS))
_LEGEND = (("own", "frame of its own"), ("optimised", "on a shared frame"))


def run_section(result: Record) -> Section:
    """The section; raises HvoError where `result` is not what `hvo run --json` prints."""
    machine, pool = result.record("machine"), result.record("pool")
    held = [guarantee.flag_or_none("holds") for guarantee in result.records("promises")]
    broken, kept = held.count(False), held.count(True)
    verdict = (
        Verdict("bad", f"{p.plural(broken, 'guarantee')} broken")
        if broken
        else Verdict("good", f"all {kept} guarantees hold")
    )
    pages = f"{p.plural(pool.integer('pages'), 'page')} of {format_size(pool.integer('size'))}"
    title = f"{pages} on {machine.text('arch')} with {format_size(machine.integer('memory'))}"
    body = (
        _facts(result, machine),
        _figures(result, pool),
        _vmemmap(result),
        _sample(result),
        _snapshots(result),
        _guarantees(result),
    )
    return Section("run", title, verdict, joined(body))


def _facts(result: Record, machine: Record) -> Html:
    return p.facts(
        [
            (
                "Machine",
                f"{machine.text('arch')}, {format_size(machine.integer('memory'))} of memory",
            ),
            ("Base page", format_size(machine.integer("page_size"))),
            ("struct page", format_size(machine.integer("struct_page_size"))),
            ("As kernels of", result.text("era")),
        ]
    )


def _figures(result: Record, pool: Record) -> Html:
    before, saved, cost = (result.integer(key) for key in ("memmap_before", "saved", "table_cost"))
    optimized, pages, seconds = (
        pool.integer("optimized"),
        pool.integer("pages"),
        result.record("seconds"),
    )
    return p.figures(
        [
            (
                "Given back",
                format_size(saved),
                f"{p.percent(saved, before)} of {format_size(before)} of memory map",
            ),
            ("Memory map now", format_size(result.integer("memmap_after")), "when optimised"),
            ("Split tables", format_size(cost), "taken for split leaves"),
            ("Optimised", f"{optimized:,}", f"of {p.plural(pages, 'page')}"),
            (
                "Time",
                f"{seconds.number('optimize'):.2f} s",
                f"to optimise; {seconds.number('restore'):.2f} s to restore",
            ),
        ]
    )


def _vmemmap(result: Record) -> Html:
    """How many frames are behind the vmemmap at each moment, and which parts of it have their own
    when optimised.
    """
    if "vmemmap" not in result:
        return Html()
    states = [(name, result.record("vmemmap").record(key)) for key, name in _STATES]
    whole = max(states[0][1].integer("frames"), 1)
    bars = (
        element("div", element("dt", name), element("dd", _frames(name, at, whole)))
        for name, at in states
    )
    key = p.legend((("own", "kept"), ("mixed", "shared tails"), ("optimised", "given back")))
    cells = (_share(share) for share in states[1][1].numbers("own"))
    return joined(
        (
            p.heading("Frames behind the vmemmap"),
            element("dl", *bars, class_="bars"),
            key,
            p.table("Memory map", _COLUMNS, map(_row, states)),
            p.heading("The vmemmap from its start, optimised"),
            element("div", *cells, class_="cells", aria_hidden="true"),
            p.legend(
                (
                    ("own", "most pages have a frame of their own"),
                    ("optimised", "most pages are on a shared frame"),
                )
            ),
        )
    )


def _frames(name: str, at: Record, whole: int) -> Html:
    page, frames, shared = at.integer("page_size"), at.integer("frames"), at.integer("shared")
    gone = whole - frames - shared
    kept = Part("own", "kept", frames, format_size(frames * page))
    tails = Part("mixed", "shared tails", shared, format_size(shared * page))
    return p.bar(
        [kept, tails, Part("optimised", "given back", gone, format_size(gone * page))], whole, name
    )


def _row(state: tuple[str, Record]) -> tuple[object, ...]:
    name, at = state
    numbers = (p.count(at.integer(key)) for key in ("frames", "shared", "read_only", "tables"))
    return name, p.size(at.integer("frames") * at.integer("page_size")), *numbers


def _share(own: float) -> Html:
    return element("i", class_="own" if own > 0.5 else "optimised")


def _sample(result: Record) -> Html:
    """The first huge pages of the pool: which of their vmemmap pages have a frame of their own."""
    if not result.values.get("sample"):
        return Html()
    shown = (element("div", *map(_share, row), class_="page") for row in result.rows("sample"))
    title = p.heading("vmemmap pages of the first huge pages, optimised")
    return joined((title, element("div", *shown, class_="pages"), p.legend(_LEGEND)))


def _snapshots(result: Record) -> Html:
    if "snapshots" not in result:
        return Html()
    snapshots = result.records("snapshots")
    names = dict.fromkeys(
        name for snapshot in snapshots for name in snapshot.record("counters").values
    )
    columns = (
        Column("counter"),
        *(Column(snapshot.text("name"), numbers=True) for snapshot in snapshots),
    )
    rows = (
        (name, *(_counter(snapshot.record("counters"), name) for snapshot in snapshots))
        for name in names
    )
    return joined((p.heading("Counters"), p.table("Counters at each snapshot", columns, rows)))


def _counter(counters: Record, name: str) -> object:
    return p.count(counters.integer(name)) if name in counters else ""


def _guarantees(result: Record) -> Html:
    return joined(
        (
            p.heading("Guarantees"),
            element("ul", *map(_guarantee, result.records("promises")), class_="guarantees"),
        )
    )


_TONES: dict[bool | None, tuple[p.Tone, str]] = {
    True: ("good", "holds"),
    False: ("bad", "broken"),
    None: ("unsure", "not promised"),
}


def _guarantee(guarantee: Record) -> Html:
    tone, label = _TONES[guarantee.flag_or_none("holds")]
    mark = element("span", p.GLYPH[tone], class_=f"mark {tone}", aria_label=label)
    text = element(
        "p", element("b", guarantee.text("statement")), " ", element("code", guarantee.text("id"))
    )
    return element(
        "li", mark, element("div", text, element("p", guarantee.text("evidence"), class_="remark"))
    )
