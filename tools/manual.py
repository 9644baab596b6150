"""The manual pages, in the `man` macros of groff(7): `hvo.1` and one for each command.

click-man, the generator there is, sees no command that is found late, knows no exit statuses and
cuts summaries off (0.6.0).
"""

from collections.abc import Iterable

from commands import STATUSES, Entry, Page


def manual_pages(pages: list[Page], version: str, date: str) -> dict[str, str]:
    """The text of every page by the name of its file; `date` is that of the release."""
    return {f"{_file(page)}.1": _manual_page(page, pages, version, date) for page in pages}


def _file(page: Page) -> str:
    return page.name.replace(" ", "-")


def _manual_page(page: Page, pages: list[Page], version: str, date: str) -> str:
    title = _file(page)
    command, rest = page.usage[: len(page.name)], page.usage[len(page.name) :]
    parts = [
        '.\\" Made by `make reference`.',
        f'.TH "{_escape(title.upper())}" "1" "{date}" "hvo {version}" "User Commands"',
        ".nh\n.ad l",  # no option is broken in two
        f".SH NAME\n{_escape(title)} \\- {_escape(page.summary.removesuffix('.'))}",
        f".SH SYNOPSIS\n.B {_escape(command)}\n{_escape(rest.strip())}",
        ".SH DESCRIPTION\n" + "\n.PP\n".join(map(_text, page.paragraphs)),
    ]
    parts += [_section("COMMANDS", page.commands), _section("OPTIONS", page.options)]
    parts.append(_section("EXIT STATUS", (Entry(*status) for status in STATUSES)))
    others = ",\n".join(f".BR {_escape(_file(other))} (1)" for other in pages if other is not page)
    parts.append(f".SH SEE ALSO\n{others}".replace(" (1),", " (1),"))
    return "\n".join(filter(None, parts)) + "\n"


def _section(title: str, entries: Iterable[Entry]) -> str:
    """Terms and what they mean; nothing where there are none."""
    rows = [f".TP\n.B {_escape(entry.term)}\n{_text(entry.meaning)}" for entry in entries]
    return "\n".join([f".SH {title}", *rows]) if rows else ""


def _text(text: str) -> str:
    """A paragraph, with code in bold."""
    parts = [_escape(part) for part in text.split("`")]
    marked = "".join(f"\\fB{part}\\fR" if i % 2 else part for i, part in enumerate(parts))
    return f"\\&{marked}" if marked.startswith((".", "'")) else marked


def _escape(text: str) -> str:
    """`text` with what groff would take for a request taken for itself."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
