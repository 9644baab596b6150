"""The command: its contract, its exit status, and the run shown again."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from hvo.check.jobs import Interrupted, asked, check_all
from hvo.cli.check import command
from hvo.errors import HvoError

KEYS = {"protocol", "arch", "scenario", "verdict", "property", "trace", "states", "transitions", "seconds", "bounds"}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments), standalone_mode=True)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_json_contract_and_replay():
    """Unsafe exits 1 with a trace, whose token shows the same run as text, as Mermaid and as JSON."""
    status, output = run("5.14+split-lock-read", "--arch", "x86_64", "--hazard", "H04", "--json")
    (result,) = json.loads(output)["results"]
    assert status == 1
    assert set(result) >= KEYS
    assert (result["verdict"], result["property"]) == ("unsafe", "access-freed")
    token = result["trace"]["token"]
    status, text = run("--replay", token)
    assert status == 1
    assert "access-freed" in text
    assert "sequenceDiagram" in run("--replay", token, "--mermaid")[1]
    steps = json.loads(run("--replay", token, "--json")[1])["steps"]
    assert len(steps) == len(result["trace"]["steps"])
    assert steps[-1]["violated"][0][0] == "access-freed"


def test_safe_exits_0():
    """A protocol that is well in what was asked."""
    status, output = run("7.1", "--arch", "x86_64", "--hazard", "H13", "--json")
    assert status == 0
    assert {result["verdict"] for result in json.loads(output)["results"]} == {"safe"}


def test_more_cpus_are_in_the_bounds():
    """Three CPUs: a reader joins, and the verdict says so."""
    status, output = run("6.2", "--arch", "x86_64", "--hazard", "H11", "--cpus", "4", "--json")
    assert status == 0
    assert "4 CPUs" in json.loads(output)["results"][0]["bounds"]


@pytest.mark.parametrize(("protocols", "hazards", "cpus"), [(["9.9"], [], None), ([], ["H99"], None), ([], ["H04"], 1)])
def test_what_cannot_be_asked(protocols: list[str], hazards: list[str], cpus: int | None):
    """An unknown protocol or hazard, or too few CPUs, is said in one line."""
    with pytest.raises(HvoError):
        asked(protocols, None, hazards, cpus)


def test_a_word_that_is_no_run():
    """A token that somebody mistyped."""
    result = CliRunner().invoke(command, ["--replay", "nonsense"])
    assert isinstance(result.exception, HvoError)


def test_interrupted_work_shows_what_is_known():
    """Ctrl-C after the first of several jobs: its result is there, and no other is waited for."""
    cases = asked([], None, ["H12", "H10"], None)

    def interrupt(done: int, jobs: int) -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool, pytest.raises(Interrupted) as ended:
        check_all(cases, None, pool, interrupt)
    assert 1 <= len(ended.value.results) <= len(cases)
    assert ended.value.results[0].case == cases[0]
