"""A real browser for the tests of pages: Debian's Chromium, headless, driven by playwright.

A test that uses `open_browser` is skipped with a reason where one of the two is absent.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = Path(__file__).resolve().parents[1] / "build/screenshots"
"""Where tests keep the pictures that they take."""


@contextmanager
def open_browser() -> Iterator:
    """A running headless browser, playwright's `Browser`; closed at the end."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


class Watch:
    """What a page does that it should not: `complaints` (errors, warnings of the console) and
    `requests` (anything but the file itself).
    """

    def __init__(self, page) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.route("**/*", self._refuse)

    def _refuse(self, route) -> None:
        """Let the document through; note and stop everything else."""
        if route.request.is_navigation_request() and route.request.url.startswith("file://"):
            route.continue_()
            return
        self.requests.append(route.request.url)
        route.abort()


def screenshot(page, name: str) -> Path:
    """Keep a picture of the whole `page` as `build/screenshots/NAME.png`."""
    path = SCREENSHOTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=True)
    return path
