"""Protocols of the user's own: the documented example, what a file may say, and what is said about
one that is wrong.
"""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvo.check.batch import check_all
from hvo.check.scenarios.user_protocol import read_own
from hvo.check.scenarios.user_scenarios import own_cases
from hvo.check.select import asked
from hvo.cli.main import main
from hvo.errors import HvoError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/own-protocol.md"
HEAD = "from hvo.protocol import *\n"


def run(*arguments: str) -> tuple[int, dict]:
    result = CliRunner().invoke(main, ["check", *arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.output)


def documented() -> list[tuple[str, str]]:
    """Each command of the page, and the verdict it is said to have."""
    return re.findall(r"^\$ hvo check (.*)\n(.*)$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.parametrize(("arguments", "said"), documented())
def test_commands_of_the_page(arguments: str, said: str, monkeypatch: pytest.MonkeyPatch):
    """They do what the page says: the worst verdict, and the most severe property found."""
    monkeypatch.chdir(ROOT)
    status, found = run(*arguments.split())
    results = found["results"]
    unsafe = [result for result in results if result["verdict"] == "unsafe"]
    assert status == (1 if said.startswith("unsafe") else 0)
    assert (
        {result["verdict"] for result in results} == {"safe"}
        if said == "safe"
        else unsafe[0]["property"] == said.split(": ")[1]
    )


def test_the_page_shows_the_example():
    """The lines that are quoted are the file's."""
    assert len(documented()) == 3
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1:]:
        assert block in (ROOT / "docs/examples/my_protocol.py").read_text()


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "protocol.py"
    path.write_text(text)
    return str(path)


def test_a_run_of_ones_own_is_replayed(tmp_path: Path):
    """The token finds the file again, and says so when that has changed or is gone."""
    path = write(tmp_path, (ROOT / "docs/examples/my_protocol.py").read_text())
    _, found = run(path, "--hazard", "H11", "--cpus", "4")
    (result,) = found["results"]
    assert "4 CPUs" in result["bounds"]
    status, again = run("--replay", result["trace"]["token"])
    assert (status, again["protocol"], again["tables"]["different"]) == (1, path, [])
    assert len(again["steps"]) == len(result["trace"]["steps"])
    write(tmp_path, (ROOT / "docs/examples/my_protocol_mended.py").read_text())
    for expected in ("has changed since", "cannot read"):
        refused = CliRunner().invoke(main, ["check", "--replay", result["trace"]["token"]])
        assert refused.exit_code == 2
        assert expected in refused.stderr
        Path(path).unlink(missing_ok=True)


ACTORS = (
    HEAD
    + """
GEOMETRY = {"used": 2, "group": 2, "leaf": 2}

def _one_way(first, second):
    yield Acquire(first)
    yield Acquire(second)

def here(v, order, head):
    yield from _one_way(Lock.PAGE_TABLE, Lock.HUGETLB)

def there(v, order, head):
    yield from _one_way(Lock.HUGETLB, Lock.PAGE_TABLE)
"""
)


def test_actors_without_an_optimiser(tmp_path: Path):
    """Two functions of a file against each other: their deadlock is found; helpers and imported
    names are no actors.
    """
    status, found = run(write(tmp_path, ACTORS))
    (result,) = found["results"]
    assert (status, result["scenario"], result["property"]) == (1, "here against there", "deadlock")
    assert "2 vmemmap pages" in result["bounds"]


AROUND = """
from hvo.vmemmap.proposals import (optimize as _optimize, restore as _restore)
from hvo.vmemmap.exchange import (PROPOSALS)

MACHINE = "arm64"

def optimize(v, order, head):
    return _optimize(v, PROPOSALS["B"], order, head)

def restore(v, order, head):
    return _restore(v, PROPOSALS["B"], order, head)

def reader(v, order, head):
    from hvo.steps.struct_pages import (LoadPage)
    yield LoadPage(head, "flags")
"""


def test_the_way_back_and_a_machine(tmp_path: Path):
    """A file that uses a proposal as it is: safe on arm64 in all scenarios, with restore, and
    against a reader of its own.
    """
    results = check_all(asked([write(tmp_path, AROUND)], None, [], None))
    assert {result.verdict for result in results} == {"safe"}
    assert {"H04", "H12", "H19", "own"} <= {result.case.hazard for result in results}
    assert {result.case.hardware.name for result in results} == {"arm64"}


def test_a_restore_that_leaves_copies_of_the_head(tmp_path: Path):
    """H19 in a file: the 6.2 restore without its reset."""
    text = (
        "from hvo.vmemmap.era import parse_variant\nfrom dataclasses import replace\nimport numpy"
        " as np\nfrom hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios as _o\nfrom"
        " hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios as _r\nERA = '6.2'\ndef"
        " optimize(v, order, head): return _o(v, order, np.array([head]))\ndef restore(v, order,"
        " head):\n    v = replace(v, era=parse_variant('6.2-reset-tails'))\n    errors = yield from"
        " _r(v, order, np.array([head]))\n    return int(errors[0])\n"
    )
    results = check_all(asked([write(tmp_path, text)], None, ["H19", "H03"], None))
    assert [(result.case.hazard, result.verdict) for result in results] == [
        ("H03", "safe"),
        ("H19", "unsafe"),
    ]
    assert results[1].findings[0].property == "wrong-head"


WRONG = {
    "no protocol": ("x = 1\n", "has no protocol: expected a generator function optimize"),
    "syntax": ("def optimize(v, order, head:\n    pass\n", r"protocol\.py:1: SyntaxError"),
    "import": ("import there_is_no_such_thing\n", r"protocol\.py:1: ModuleNotFoundError"),
    "arguments": (
        "def optimize(v):\n    yield\n",
        r"optimize\(v\): expected to be called with \(v, order, head\)",
    ),
    "no generator": (
        "def optimize(v, order, head):\n    return 3\n",
        "gives 3: expected a generator",
    ),
    "no step": (
        "def optimize(v, order, head):\n    yield from []\n    yield 'flush'\n",
        r"protocol\.py:3: optimize yields 'flush'",
    ),
    "exception": (
        "def optimize(v, order, head):\n    yield from []\n    1 / 0\n",
        r"protocol\.py:3: ZeroDivisionError",
    ),
    "bad value": (
        HEAD + "def optimize(v, order, head):\n    yield FreeFrame(None)\n",
        r"FreeFrame\(pfn=None.*cannot be done",
    ),
    "bad field": (
        HEAD + "def optimize(v, order, head):\n    yield LoadPage(head, 'colour')\n",
        "'colour'.*cannot be done",
    ),
    "era": ("ERA = '2.6'\ndef optimize(v, order, head):\n    yield\n", "2.6"),
    "machine": ("MACHINE = 'vax'\ndef optimize(v, order, head):\n    yield\n", "MACHINE is 'vax'"),
    "geometry": (
        "GEOMETRY = {'pages': 0}\ndef optimize(v, order, head):\n    yield\n",
        "GEOMETRY has 'pages': 0",
    ),
    "group": (
        "GEOMETRY = {'group': 3}\ndef optimize(v, order, head):\n    yield\n",
        "GEOMETRY has 'group': 3: expected a power of two",
    ),
    "used": (
        "GEOMETRY = {'used': 5}\ndef optimize(v, order, head):\n    yield\n",
        "GEOMETRY has 'used': 5: expected no more than 'group'",
    ),
    "bad place": (
        HEAD + "def optimize(v, order, head):\n    yield WriteEntry(1 << 30, 5, 0, 7)\n",
        r"WriteEntry\(.*cannot be done",
    ),
    "hazard": (
        HEAD + "def optimize(v, order, head):\n    yield WriteBarrier()\n",
        "no scenario of hazard 'H99'",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_file_is_one_line(kind: str, tmp_path: Path):
    """The error says the file, the line where there is one, and what was found; nothing else is
    raised.
    """
    text, expected = WRONG[kind]
    with pytest.raises(HvoError) as caught:
        check_all(
            asked([write(tmp_path, text)], None, ["H99"] if kind == "hazard" else ["H01"], None)
        )
    assert re.search(expected, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert "protocol.py" in str(caught.value)


def test_the_command_exits_2_with_one_line(tmp_path: Path):
    """As a process, with jobs in others."""
    text, expected = WRONG["exception"]
    script = "import sys; from hvo.cli.main import main; sys.argv[0] = 'hvo'; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "check", write(tmp_path, text)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"hvo: .*{expected}.*\n", done.stderr), done.stderr


def test_a_job_holds_the_text(tmp_path: Path):
    """A job can be done where the file is not."""
    path = write(tmp_path, ACTORS)
    cases = own_cases(read_own(path), None, ())
    Path(path).unlink()
    (result,) = check_all(pickle.loads(pickle.dumps(cases)))
    assert result.findings[0].property == "deadlock"
