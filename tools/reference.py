"""What is made of the code for those who use it: reference pages, the page of hazards, JSON
schemas, manual pages, completions.

usage: python tools/reference.py

Writes docs/reference, docs/schemas, docs/hazards.md and share; files in these directories that
nothing makes any more are removed.
"""

import re
from pathlib import Path

from commands import pages
from commands_page import commands_page
from completions import completions
from hazards_page import hazards_page
from hvo import __version__
from manual import manual_pages
from schemas import schemas
from schemas_page import schemas_page

ROOT = Path(__file__).resolve().parents[1]
_MADE = ("docs/reference", "docs/schemas", "share")
_PAGES = ("docs/hazards.md",)


def made() -> dict[Path, str]:
    """The text of every file, by its place below the root of the project."""
    everything, objects = pages(), schemas()
    files = {
        f"share/man/man1/{name}": text
        for name, text in manual_pages(everything, __version__, release_date()).items()
    }
    files |= {f"share/{place}": text for place, text in completions().items()}
    files |= {f"docs/schemas/{name}.json": text for name, text in objects.items()}
    files |= {
        "docs/hazards.md": hazards_page(),
        "docs/reference/commands.md": commands_page(everything),
        "docs/reference/schemas.md": schemas_page(objects),
    }
    return {Path(name): text for name, text in files.items()}


def release_date() -> str:
    """The day of this version, as CHANGELOG.md says."""
    found = re.search(
        rf"^## \[{re.escape(__version__)}\] - (\d{{4}}-\d\d-\d\d)$",
        (ROOT / "CHANGELOG.md").read_text(),
        re.MULTILINE,
    )
    assert found, f"CHANGELOG.md has no line '## [{__version__}] - YEAR-MONTH-DAY'"
    return found[1]


def there() -> set[Path]:
    """The files that are there, below the root of the project."""
    return {
        path.relative_to(ROOT)
        for place in _MADE
        for path in (ROOT / place).rglob("*")
        if path.is_file()
    } | {Path(page) for page in _PAGES if (ROOT / page).is_file()}


def write() -> None:
    """Write every file, and remove what is no longer made."""
    files = made()
    for path in there() - set(files):
        (ROOT / path).unlink()
    for path, text in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
