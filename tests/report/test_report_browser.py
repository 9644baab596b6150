"""Pages in a real browser: they render, are silent, fetch nothing, sort, filter and answer, in
every light and on every width.
"""

import json
import re

import pytest
from result_files import hvo

from browser import Watch, screenshot

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
ALL = ("run", "defect", "check", "plan", "comparison", "fleet")


@pytest.fixture(scope="session")
def pages(results, tmp_path_factory):
    """A page of each result, and one of all."""
    place = tmp_path_factory.mktemp("pages")
    for name in results:
        assert hvo("report", results[name], "-o", place / f"{name}.html").exit_code == 0
    assert hvo("report", *(results[name] for name in ALL), "-o", place / "all.html").exit_code == 0
    return place


@pytest.fixture
def look(browser, pages):
    """Opens the page of a result; in the end it must have been silent and must have fetched
    nothing.
    """
    watches, contexts = [], []

    def opened(name: str, **options):
        contexts.append(browser.new_context(**{"viewport": DESK, **options}))
        page = contexts[-1].new_page()
        watches.append(Watch(page))
        page.goto((pages / f"{name}.html").as_uri())
        return page

    yield opened
    assert [watch.complaints + watch.requests for watch in watches] == [[]] * len(watches)
    for context in contexts:
        context.close()


def column(page, table: int, number: int) -> list[str]:
    """The texts that are shown in a column."""
    rows = page.locator("table.data").nth(table).locator("tbody tr:not([hidden])")
    return rows.locator(f"td:nth-child({number})").all_inner_texts()


def background(page) -> tuple[int, ...]:
    """Red, green and blue of the page."""
    return tuple(
        map(
            int,
            re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[
                :3
            ],
        )
    )


@pytest.mark.parametrize("name", [*ALL, "scenario", "audit", "proposals", "all"])
@pytest.mark.parametrize(
    "viewport", [DESK, PHONE, {"width": 320, "height": 640}], ids=["desk", "phone", "small"]
)
def test_it_fits(look, name, viewport):
    """No page is wider than the window, however wide its tables are; its title is seen."""
    page = look(name, viewport=viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.locator("h1").first.is_visible()
    screenshot(page, f"report-{name}-{viewport['width']}")


@pytest.mark.parametrize("name", ["run", "defect", "check", "comparison", "fleet"])
def test_dark_and_light(look, name):
    """The page follows the system: dark paper and light ink, or the other way round; charts too."""
    light, dark = look(name, color_scheme="light"), look(name, color_scheme="dark")
    assert min(background(light)) > 200
    assert max(background(dark)) < 60
    for page in (light, dark):
        for mark in page.locator("svg text").all()[:3]:
            ink = mark.evaluate("node => getComputedStyle(node).fill")
            assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 380) == (page is dark)
    screenshot(dark, f"report-{name}-dark")


def test_print(look):
    """Paper is white also of a dark page; filters are gone, and what is folded away is open and
    folded again.
    """
    page = look("check", color_scheme="dark")
    page.emulate_media(media="print")
    assert min(background(page)) > 200
    assert not page.locator(".filter").first.is_visible()
    opened = page.locator("details[open]").count()
    assert page.locator("details").count() > opened
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details").count() == page.locator("details[open]").count()
    screenshot(page, "report-check-print")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == opened


def test_a_printed_page_is_no_wider_than_paper(look, pages, results):
    """A4 at the browser's resolution, with margins; also a matrix as wide as that of all
    hazards.
    """
    whole = json.loads(results["check"].read_text())
    whole["results"] = [
        row | {"hazard": f"H{number:02}"} for row in whole["results"] for number in range(25)
    ]
    (pages / "wide.json").write_text(json.dumps(whole))
    assert hvo("report", pages / "wide.json", "-o", pages / "wide.html").exit_code == 0
    for name in (*ALL, "all", "wide"):
        page = look(name, viewport={"width": 718, "height": 1000})
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 718, name


def test_sorting(look):
    """A click sorts numbers from the largest by value and not by text, another one turns that
    round; `aria-sort` says so.
    """
    page = look("comparison")
    saved = page.get_by_role("button", name="saved", exact=True)
    before = column(page, 0, 6)
    saved.click()
    largest = column(page, 0, 6)
    assert largest[0] == "8190MiB"
    assert largest[-1] == "0B"
    assert largest.index("8128MiB") < largest.index("7GiB") < largest.index("2040MiB")
    assert page.locator("th[aria-sort]").evaluate_all(
        "heads => heads.map(head => head.ariaSort)"
    ) == ["descending"]
    saved.click()
    assert column(page, 0, 6)[0] == "0B"
    assert page.locator("th[aria-sort]").evaluate_all(
        "heads => heads.map(head => head.ariaSort)"
    ) == ["ascending"]
    page.get_by_role("button", name="architecture").click()
    assert column(page, 0, 1) == sorted(column(page, 0, 1))
    assert sorted(column(page, 0, 6)) == sorted(before)


def test_sorting_by_keyboard(look):
    """A heading is reached by the tabulator and pressed by Enter and Space."""
    page = look("comparison")
    page.locator("input[type=search]").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "architecture"
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Space")
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_filtering(look):
    """All words have to occur, in any order and case; the count says how many rows do; an empty box
    shows all.
    """
    page = look("comparison")
    box = page.get_by_label("Filter")
    box.fill("512mib ARM64")
    assert column(page, 0, 3) == ["512MiB"]
    assert page.locator(".filter output").inner_text() == "1 of 16"
    box.fill("nothing like it")
    assert column(page, 0, 1) == []
    box.fill("")
    assert len(column(page, 0, 1)) == 16


def test_the_map_leads_to_findings(look, results):
    """A chosen cell is described, and the list shows its findings only; by pointer and by arrow
    keys; Escape shows all again.
    """
    data = json.loads(results["defect"].read_text())
    page = look("defect")
    at = next(number for number, share in enumerate(data["cells"]["findings"]) if share)
    cells = page.locator(".map i")
    assert cells.count() == len(data["cells"]["start"])
    cells.nth(at).click()
    first, end = data["cells"]["start"][at], data["cells"]["start"][at] + data["cells"]["frames"]
    inside = [
        f"{finding['pfn']:#x}" for finding in data["findings"] if first <= finding["pfn"] < end
    ]
    assert column(page, 1, 3) == inside
    assert f"{first:#x}" in page.locator(".about").inner_text()
    screenshot(page, "report-defect-chosen")
    page.locator(".map").focus()
    page.keyboard.press("ArrowDown")
    assert cells.nth(at + 64).get_attribute("class").endswith("chosen")
    page.keyboard.press("Escape")
    assert len(column(page, 1, 3)) == len(data["findings"])
    assert page.locator(".chosen").count() == 0


def test_the_matrix_leads_to_the_run(look):
    """The mark of an unsafe cell opens the run that shows it."""
    page = look("check")
    mark = page.locator(".matrix td.bad a").first
    place = mark.get_attribute("href")
    assert page.locator(".matrix td.good").count() >= 1
    mark.click()
    run = page.locator(f"details{place}")
    assert run.get_attribute("open") is not None
    assert run.locator(".trace li.violated").count() == 1


def test_charts_have_one_bar_for_each_amount(look):
    """The wide chart on a wide window, the narrow one on a narrow; every bar says what it is, as
    long as its amount.
    """
    for viewport, shown in ((DESK, ".wide"), (PHONE, ".narrow")):
        page = look("fleet", viewport=viewport)
        assert (
            page.locator(".chart > div:visible").count()
            == page.locator(f".chart > {shown}").count()
            == 3
        )
        bars = page.locator(f'.chart >> nth=0 >> {shown} [aria-roledescription="bar"]')
        said = bars.evaluate_all(
            "bars => bars.map(bar => [bar.querySelector('title').textContent,"
            " bar.getBoundingClientRect().width])"
        )
        widths = dict(said)
        assert widths["db: possible 14GiB"] == pytest.approx(widths["web: saved 14GiB"], rel=0.01)
        assert widths["web: impossible 896MiB"] == pytest.approx(
            widths["web: saved 14GiB"] / 16, rel=0.05
        )
        assert page.locator(f".chart > {shown} svg").first.evaluate(
            "svg => svg.getBoundingClientRect().right <= innerWidth"
        )


def test_labels_of_a_chart_are_whole(look):
    """The longest name begins inside the page."""
    page = look("comparison")
    box = page.locator(".chart .wide svg text", has_text="loongarch64").bounding_box()
    assert box is not None
    assert box["x"] >= page.locator("main h1").bounding_box()["x"] - 1


def test_nothing_hostile_runs(look, pages, results):
    """Text that would be a script, a picture or an event anywhere in a result does nothing; the
    data is still readable.
    """
    evil = (
        "</script><script>window.hit=1</script><img src=x onerror='window.hit=1'><svg"
        " onload=window.hit=1>"
    )
    for name in ("defect", "scenario", "comparison"):
        poisoned = json.loads(
            results[name].read_text(),
            object_hook=lambda values: {
                key: evil if isinstance(value, str) else value for key, value in values.items()
            },
        )
        (pages / "evil.json").write_text(json.dumps(poisoned))
        assert hvo("report", pages / "evil.json", "-o", pages / "evil.html").exit_code == 0
        page = look("evil")
        page.get_by_role("button").first.click()
        assert page.evaluate("window.hit") is None
        assert json.loads(page.evaluate("document.getElementById('results').textContent")) == [
            poisoned
        ]


def test_the_policy_stops_what_is_not_ours(browser, pages):
    """Were markup ever let through, neither would its script run nor its picture be fetched."""
    text = (
        (pages / "run.html")
        .read_text()
        .replace(
            "</main>", "<script>window.hit=1</script><img src='https://a.invalid/x.png'></main>"
        )
    )
    (pages / "tampered.html").write_text(text)
    page = browser.new_page()
    watch = Watch(page)
    page.goto((pages / "tampered.html").as_uri())
    assert page.evaluate("window.hit") is None
    assert not watch.requests
    assert len(watch.complaints) == 2
    page.close()
