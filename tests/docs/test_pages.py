"""The documentation is true: its commands print what stands below them, its links lead somewhere,
its Python runs.
"""

import re
import sys
from pathlib import Path

import pytest

from hvo.check.properties_page import properties_page

sys.path.append(str(Path(__file__).resolve().parent))

from console import ROOT, commands, differences, matches, prepared

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    """The page as people say it."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(True for _ in commands(page.read_text()))], ids=name
)
def test_commands_print_what_the_page_says(page: Path, tmp_path: Path):
    """Every command of a page, one after the other in a directory of its own."""
    assert not (wrong := differences(page, prepared(tmp_path))), "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_that_are_there(page: Path):
    """Links to other pages, pictures and sources; those to the network are left alone."""
    links = [found[1] for found in _LINK.finditer(page.read_text()) if "://" not in found[1]]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if _PYTHON.search(page.read_text())], ids=name
)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All blocks of a page, one after the other, in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for block in _PYTHON.findall(page.read_text()):
        exec(compile(block, name(page), "exec"), namespace)


def test_wildcards():
    """`...` is any lines or any text; all else must be there, and nothing else may be."""
    assert matches("a\n...\nz\n", "a\nb\nc\nz\n")
    assert matches("took ... s\n", "took 1.2 s  \n")
    assert not matches("a\n...\nz\n", "a\nb\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a.c\n", "abc\n")


def test_properties_page_is_up_to_date():
    """`make docs` makes it of the properties."""
    assert (ROOT / "docs/properties.md").read_text() == properties_page()
