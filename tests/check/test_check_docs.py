"""The pages about arm64 and H19: their commands do what they say, and what the checker makes of
them is up to date.
"""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvo.cli.main import main
from hvo.errors import HvoError
from hvo.report.check_pages import renewed
from shared_files import core

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: ROOT / f"docs/{name}.md" for name in ("arm64", "h19")}


def commands() -> list[tuple[str, str]]:
    """Each command of the pages, and the lines that it is said to print."""
    found = [
        re.findall(r"^```\n\$ hvo (.*)\n((?:.+\n)+?)```$", page.read_text(), re.MULTILINE)
        for page in PAGES.values()
    ]
    return [command for page in found for command in page]


@pytest.mark.parametrize(("arguments", "said"), commands(), ids=lambda value: value.split("\n")[0])
def test_commands_of_the_pages(arguments: str, said: str):
    """`unsafe: PROPERTY` is among what is found, `safe` is all that is; other lines begin lines of
    the output.
    """
    words = [
        str(core(word.removesuffix(".elf"))) if word.endswith(".elf") else word
        for word in arguments.split()
    ]
    result = CliRunner().invoke(main, words, prog_name="hvo")
    lines = [line.rstrip() for line in result.output.splitlines()]
    for line in said.splitlines():
        verdict, _, rule = line.partition(": ")
        if verdict == "unsafe":
            assert result.exit_code == 1
            assert any(rule in found and "unsafe" in found for found in lines) or any(
                found.startswith(f"A: {rule}") for found in lines
            )
        elif verdict == "safe":
            assert (result.exit_code, any("unsafe" in found for found in lines)) == (0, False)
        else:
            assert any(found.startswith(line) for found in lines), line


def test_every_command_is_tried():
    """Six of the page about arm64, and three of the other."""
    assert len(commands()) == sum(page.read_text().count("$ hvo ") for page in PAGES.values()) == 8


@pytest.mark.parametrize("name", PAGES)
def test_what_is_made_is_up_to_date(name: str):
    """The table and the runs are what the checker says now: else `python -m hvo.report.check_pages
    docs/arm64.md docs/h19.md`.
    """
    text = PAGES[name].read_text()
    assert renewed(text) == text
    assert text.count("<!-- made:") == text.count("<!-- end -->") > 0


@pytest.mark.parametrize(
    "words", ["nothing known", "run H19 7.1 x86_64", "run-from x H19 7.1 x86_64"]
)
def test_a_part_that_cannot_be_made(words: str):
    """Unknown words, and a run that there is none of."""
    with pytest.raises(HvoError, match="a page asks for"):
        renewed(f"<!-- made: {words} -->\n<!-- end -->\n")
