"""Hazards are data: the list, its page and every place that shows a number agree, and each command
of the page finds what the page says.
"""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvo.check.model.properties import SEVERITY
from hvo.check.scenarios.hazards import CASES
from hvo.cli.main import main
from hvo.report.hazards import hazard_stories
from hvo.vmemmap.era import FIXES
from hvo.vmemmap.hazards.hazard import Hazard
from hvo.vmemmap.hazards.registry import HAZARDS, hazard_title

PAGE = Path(__file__).resolve().parents[2] / "docs/hazards.md"
SEARCHED = [hazard for hazard in HAZARDS if hazard.command()]
BY_ID = {hazard.id: hazard for hazard in HAZARDS}


def hvo(*arguments: str) -> tuple[int, str]:
    """Status and output of a command."""
    result = CliRunner().invoke(main, list(arguments), prog_name="hvo")
    return result.exit_code, result.stdout


def section(number: str) -> str:
    """What the page says of a hazard."""
    found = re.search(
        rf'^## <a id="{number.lower()}"></a>{number}: .*?(?=^## )', PAGE.read_text(), re.M | re.S
    )
    assert found, number
    return found[0]


def test_every_number_of_both_lists_is_there():
    """H01 to H29, without a gap, each once, with a title, a story and where it began."""
    numbers = [hazard.id for hazard in HAZARDS]
    assert len(set(numbers)) == len(numbers)
    assert {number[:3] for number in numbers} == {f"H{i:02}" for i in range(1, 30)}
    assert all(hazard.title and hazard.story and hazard.since for hazard in HAZARDS)


def test_what_has_no_fix_says_why():
    """A hazard without a commit has a note, one without a hash too; hashes have 12 digits."""
    for hazard in HAZARDS:
        if hazard.fixed_by is None or hazard.fixed_by.hash is None:
            assert hazard.note, hazard.id
        else:
            assert re.fullmatch("[0-9a-f]{12}", hazard.fixed_by.hash)
            assert re.fullmatch(r"v\d\.\d+", hazard.fixed_by.version)


def test_properties_and_fixes_exist():
    """A hazard violates a property of the checker, and a fix closes a hazard with the commit that
    the hazard names.
    """
    assert {hazard.property for hazard in HAZARDS} - {None} <= set(SEVERITY)
    for name, fix in FIXES.items():
        assert fix.name == name
        assert fix.hazard is None or BY_ID[fix.hazard].fixed_by == fix.commit


def test_every_scenario_has_a_title():
    """No name that a result shows stands unexplained; hazards with a command have scenarios."""
    names = {case.hazard for case in CASES}
    assert not [name for name in names if not hazard_title(name)]
    assert {hazard.id for hazard in SEARCHED} <= names
    assert not {hazard.id for hazard in HAZARDS if not hazard.command()} & names


@pytest.mark.parametrize("hazard", SEARCHED, ids=lambda hazard: hazard.id)
def test_the_command_finds_what_the_page_says(hazard: Hazard):
    """Protocols, machines, scenarios and verdicts of the page are those that the command prints;
    the hazard's property is among them, unless the page says that nothing is found.
    """
    command = hazard.command()
    assert command
    assert f"\n```\n{command}\n```\n" in section(hazard.id)
    status, text = hvo(*command.split()[1:], "--json")
    results = json.loads(text)["results"]
    found = {
        (f"`{row['protocol']}`", row["arch"], row["scenario"], verdict(row)) for row in results
    }
    told = {
        tuple(cell.strip() for cell in line.strip("|\n").split("|"))
        for line in re.findall(r"^\| `.*$", section(hazard.id), re.M)
    }
    assert found == told
    violated = {row["property"] for row in results} - {None}
    assert status == bool(violated)
    # On riscv64 tails are writable: what faults elsewhere changes the shared frame there.
    assert violated <= {hazard.property, "shared-tail-written"}
    assert not violated or hazard.property in violated
    assert bool(violated) == (hazard.id != "H17")


def verdict(row: dict[str, str]) -> str:
    """As the page says it."""
    return f"unsafe: {row['property']}" if row["property"] else row["verdict"]


def test_list_prints_every_hazard():
    """As a table with number, title, since, commit and command, and as JSON with the story."""
    status, text = hvo("check", "--list")
    assert status == 0
    row = next(line for line in text.splitlines() if line.startswith("H04 "))
    assert re.fullmatch(
        r"H04 +Two splits of one leaf +v5.14 +d8d55f5616cf v5.18 +access-freed +"
        r"hvo check --hazard H04 *",
        row,
    )
    status, text = hvo("check", "--list", "--json")
    rows = json.loads(text)["hazards"]
    assert [row["id"] for row in rows] == [hazard.id for hazard in HAZARDS]
    assert rows[0]["fixed_by"] == {
        "hash": "060a2c92d1b6",
        "subject": "arm64: mm: hugetlb: Disable HUGETLB_PAGE_OPTIMIZE_VMEMMAP",
        "version": "v6.3",
    }


def test_list_is_asked_alone():
    """Beside --list a protocol or a hazard would be passed over: an error says so."""
    result = CliRunner().invoke(main, ["check", "--list", "7.1"], prog_name="hvo")
    assert result.exit_code == 2
    assert "--list does not look at PROTOCOL" in result.stderr


def test_a_hazard_without_a_scenario_says_so():
    """It is known, and cannot be searched yet; a number that does not exist is unknown."""
    for number, words in (("H25", "hazard H25 (Shared tail of another"), ("H99", "unknown hazard")):
        result = CliRunner().invoke(main, ["check", "--hazard", number], prog_name="hvo")
        assert result.exit_code == 2
        assert words in result.stderr


def test_a_replay_says_what_its_hazard_is():
    """The title stands above the steps."""
    _, text = hvo("check", "5.14+split-lock-read", "--arch", "x86_64", "--hazard", "H04", "--json")
    token = json.loads(text)["results"][0]["trace"]["token"]
    assert hvo("check", "--replay", token)[1].startswith("H04  Two splits of one leaf")


def test_a_number_is_explained_where_it_appears_first(tmp_path: Path):
    """On the terminal the title stands beside the number before any table; a page links each number
    to its story, which names the commit.
    """
    html = tmp_path / "check.html"
    _, text = hvo(
        "check", "5.14+split-lock-read", "--arch", "x86_64", "--hazard", "H04", "--html", str(html)
    )
    assert re.match(r"H04 +Two splits of one leaf\n", text.replace(" \n", "\n"))
    assert "H04 (Two splits of one leaf), 5.14+split-lock-read on x86_64: access-freed" in text
    page = html.read_text()
    assert '<a href="#hazard-H04" title="Two splits of one leaf">H04</a>' in page
    assert 'id="hazard-H04"' in page
    assert "use page table lock to protect kernel pmd operations" in page


def test_a_group_tells_the_stories_of_its_hazards():
    """H01 is H01a and H01b; a name that is no hazard tells nothing."""
    told = hazard_stories(["H01", "nothing"])
    assert "H01a: The split" in told
    assert "H01b: The remap" in told
    assert hazard_stories(["nothing"]) == ""
