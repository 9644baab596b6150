"""The page of `hvo check --html`, in a real browser and as text."""

import json
import re
from pathlib import Path

import pytest

from browser import Watch, open_browser, screenshot
from hvo.check.batch import check_all
from hvo.check.select import asked
from hvo.report.check_html import check_page


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with safe and unsafe protocols: H04 in both forms, H19 that shows only in the end, H01
    on arm64.
    """
    cases = [
        *asked([], None, ["H04"], None),
        *asked([], None, ["H19"], None),
        *asked(["5.18"], None, ["H01b"], None),
    ]
    path = tmp_path_factory.mktemp("page") / "check.html"
    path.write_text(check_page(check_all(cases)), encoding="utf-8")
    return path


def marked(page) -> str:
    return page.locator("article:not([hidden]) tr.now td").first.inner_text()


def table(page) -> str:
    return page.locator("article:not([hidden]) .entries").inner_text()


def test_stepping_in_a_browser(page_file: Path):
    """From file://, with no complaint and no request: buttons and arrow keys move the mark, and the
    entries follow, there and back.
    """
    with open_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(5000)
        watch = Watch(page)
        page.goto(page_file.as_uri())
        shown = page.locator("article:not([hidden])")
        assert shown.count() == 1
        assert "offending" in shown.locator("tr.now").get_attribute(
            "class"
        )  # it begins where things go wrong
        offending, at_fault = marked(page), table(page)
        page.keyboard.press("ArrowLeft")
        assert int(marked(page)) == int(offending) - 1
        assert table(page) != at_fault
        page.keyboard.press("ArrowRight")
        assert (marked(page), table(page)) == (offending, at_fault)
        shown.locator("[data-go=first]").click()
        assert marked(page) == "0"
        assert shown.locator("[data-go=back]").is_disabled()
        begun = table(page)
        for _ in range(int(offending)):
            shown.locator("[data-go=on]").click()
        assert (marked(page), table(page)) == (offending, at_fault)
        page.keyboard.press("Home")
        assert table(page) == begun
        screenshot(page, "check")
        assert (watch.complaints, watch.requests) == ([], [])


def test_the_matrix_leads_to_runs(page_file: Path):
    """An unsafe cell shows its run; another run is shown instead of the one before; what is
    violated in the end is marked there.
    """
    with open_browser() as browser:
        page = browser.new_page(color_scheme="dark", viewport={"width": 400, "height": 800})
        page.set_default_timeout(5000)
        watch = Watch(page)
        page.goto(page_file.as_uri())
        first = page.locator("article:not([hidden])").get_attribute("id")
        page.locator("#matrix td.bad a").last.click()
        page.wait_for_function(f"document.querySelector('article:not([hidden])').id !== '{first}'")
        choices = page.locator("#chooser option").all_inner_texts()
        page.select_option("#chooser", label=next(text for text in choices if "wrong-head" in text))
        assert (
            "in the end wrong-head"
            in page.locator("article:not([hidden]) tr.end").first.inner_text()
        )
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.emulate_media(media="print")
        assert page.locator("article").count() == page.locator("article:visible").count()
        assert watch.complaints == []


def test_the_page_needs_nothing_else(page_file: Path):
    """No address of anything, and every entry of every step is in it."""
    text = page_file.read_text()
    assert not re.search(r"(?:src|href)=\"(?!#)", text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    data = json.loads(re.search(r'id="runs">(.*?)</script>', text, re.DOTALL)[1])
    rows = [
        len(re.findall(r'<tr data-step="\d+"(?! class="offending end")', part))
        for part in text.split("<article")[1:]
    ]
    assert [len(run["steps"]) for run in data["runs"]] == rows
    assert all(len(run["steps"][0]) == len(run["names"]) for run in data["runs"])


def test_nothing_found():
    """A page about safe protocols says so, and has no script data that the script could fail on."""
    page = check_page(check_all(asked(["7.1"], None, ["H13"], None)))
    assert "None was found." in page
    assert "✓" in page
