"""`docs/reference/commands.md`: every command with its options, and the exit statuses."""

from collections.abc import Iterable

from commands import STATUSES, Entry, Page

_HEAD = """# Commands

Made by `make reference` of what `hvo --help` says. Sizes are given as `2MiB`, `1GiB`, `1TiB` (also `2M`, `1G`). With `--json` a command
prints one object on standard output, whose keys are described in [JSON output](schemas.md). Manual pages (`man hvo-run`) and the
completion of bash, zsh and fish are installed with the package.

## Exit statuses

"""


def commands_page(pages: Iterable[Page]) -> str:
    """The page, in Markdown."""
    return _HEAD + _list(Entry(*status) for status in STATUSES) + "".join(map(_section, pages))


def _section(page: Page) -> str:
    parts = [f"## {page.name}", f"```\n{page.usage}\n```", *(map(_escape, page.paragraphs))]
    return "\n" + "\n\n".join(parts) + "\n\n" + _list((*page.commands, *page.options))


def _list(entries: Iterable[Entry]) -> str:
    return "".join(f"* `{entry.term}`: {_escape(entry.meaning)}\n" for entry in entries)


def _escape(text: str) -> str:
    """`text` with what Markdown would take for markup, outside of code, taken for itself."""
    parts = text.split("`")
    marked = (
        part if i % 2 else "".join(f"\\{c}" if c in "\\*_[]<>" else c for c in part)
        for i, part in enumerate(parts)
    )
    return "`".join(marked)
