"""The command: its contract, its exit status, and the run shown again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvo.check.batch import Interrupted, check_all
from hvo.check.select import asked
from hvo.cli.main import main
from hvo.errors import HvoError

KEYS = {
    "protocol",
    "arch",
    "scenario",
    "verdict",
    "property",
    "trace",
    "states",
    "transitions",
    "seconds",
    "bounds",
}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_json_contract_and_replay():
    """Unsafe exits 1 with a trace, whose token shows the same run as text, as Mermaid and as
    JSON.
    """
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


@pytest.mark.parametrize(
    ("protocols", "hazards", "cpus"), [(["9.9"], [], None), ([], ["H99"], None), ([], ["H04"], 1)]
)
def test_what_cannot_be_asked(protocols: list[str], hazards: list[str], cpus: int | None):
    """An unknown protocol or hazard, or too few CPUs, is said in one line."""
    with pytest.raises(HvoError):
        asked(protocols, None, hazards, cpus)


def test_a_word_that_is_no_run():
    """A token that somebody mistyped."""
    result = CliRunner().invoke(main, ["check", "--replay", "nonsense"])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_interrupted_work_shows_what_is_known():
    """Ctrl-C after the first of several jobs: its result is there, and no other is waited for."""
    cases = asked([], None, ["H12", "H10"], None)

    def interrupt(told: str) -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool, pytest.raises(Interrupted) as ended:
        check_all(cases, None, pool, interrupt)
    assert 1 <= len(ended.value.results) <= len(cases)
    assert ended.value.results[0].case == cases[0]


def test_an_interrupted_search_shows_what_it_found():
    """Ctrl-C within a job that is done here: its result so far, which is never `safe`."""
    (case,) = asked(["6.2"], None, ["H17"], None)[:1]

    def interrupt(told: str) -> None:
        if int(told.split()[-2]) > 100:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as ended:
        check_all([case], None, None, interrupt)
    (result,) = ended.value.results
    assert result.verdict == "unfinished"
    assert "interrupted at" in result.bounds
    assert result.states > 100


LONG = """
from hvo.steps.struct_pages import (StorePage)

def _store(head):
    for i in range(400):
        yield StorePage(head, "dcache_clean", i % 2)

def one(v, order, head):
    yield from _store(head)

def two(v, order, head):
    yield from _store(head)

def three(v, order, head):
    yield from _store(head)
"""
"""64 million states."""


@pytest.mark.parametrize("more", [["7.1"], []], ids=["processes", "here"])
def test_ctrl_c_on_a_running_command(tmp_path: Path, more: list[str]):
    """SIGINT to the command while it works: it ends at once with what it knows and status 130, and
    leaves no process behind.
    """
    path = tmp_path / "long.py"
    path.write_text(LONG)
    script = "import sys; from hvo.cli.main import main; sys.argv[0] = 'hvo'; main()"
    arguments = [sys.executable, "-c", script, "check", str(path), *more, "--states", "100000000"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        time.sleep(3)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all processes
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "hvo: interrupted"
    assert "Traceback" not in err
    assert ("7.1" in out) == bool(more)  # the others' results
    assert ("interrupted at" in out) == (not more)  # its own, as far as it came
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_matrix_is_shown():
    """Protocols down, hazards across, with a mark for each verdict; not for a single cell."""
    _, output = run("--hazard", "H04", "--hazard", "H05")
    lines = output.splitlines()
    assert ["protocol", "machine", "H04", "H05"] in [line.split() for line in lines]
    row = next(line for line in lines if line.startswith("5.14+split-lock-read+split-recheck "))
    assert "✓" in row
    assert "✗" in next(line for line in lines if line.startswith("5.18 "))
    assert "✓ safe" not in run("7.1", "--arch", "x86_64", "--hazard", "H13")[1]


def test_a_bound_shows_in_the_matrix():
    """A search that was stopped is neither safe nor unsafe."""
    status, output = run("7.1", "6.2", "--arch", "x86_64", "--hazard", "H17", "--states", "50")
    assert status == 0
    assert "unfinished" in output
    assert " ? " in output or output.splitlines()[1].rstrip().endswith("?")


def test_a_run_shows_its_tables():
    """--dump prints the tables that the run on bytes leaves; without a run to show it is a wrong
    use.
    """
    _, output = run("5.18", "--arch", "x86_64", "--hazard", "H05", "--json")
    token = json.loads(output)["results"][0]["trace"]["token"]
    status, output = run("--replay", token, "--dump")
    assert status == 1
    assert "run again on bytes: the page tables end the same" in output
    assert "---[ Vmemmap ]---" in output
    assert "page   7  level" in output
    assert len(json.loads(run("--replay", token, "--json")[1])["tables"]["entries"]) == 8
    assert CliRunner().invoke(main, ["check", "--dump"]).exit_code == 2


def test_a_page_is_written(tmp_path: Path):
    """--html writes the page beside what is printed, and is refused before the work where it cannot
    be written.
    """
    path = tmp_path / "check.html"
    status, output = run("--hazard", "H12", "--html", str(path))
    assert status == 1
    assert "unsafe" in output
    assert path.read_text().startswith("<!doctype html>")
    assert (
        CliRunner()
        .invoke(main, ["check", "--hazard", "H12", "--html", str(tmp_path / "no/check.html")])
        .exit_code
        == 2
    )


NOTHING = {
    (
        "--arch",
        "arm64",
        "--hazard",
        "H14",
    ): (
        r"no scenario of H14 on arm64, but on x86_64: name a protocol \(hvo check 7\.1 --arch"
        r" arm64\)"
    ),
    ("5.14", "--hazard", "H15"): "no scenario of H15 is about 5.14",
    ("7.1", "--hazard", "H14", "--cpus", "1"): "2 actors or more, one a CPU: raise --cpus",
    ("--arch", "x86_64+bbm2"): "unknown machine 'x86_64\\+bbm2': expected x86_64, riscv64 or arm64",
    ("--arch", "arm64+bbm1+bbm2"): "unknown machine 'arm64\\+bbm1\\+bbm2'",
}


@pytest.mark.parametrize("arguments", NOTHING, ids=" ".join)
def test_why_nothing_is_checked(arguments: tuple[str, ...]):
    """A question that nothing answers says which part of it is to blame; so does a machine that
    there is none of.
    """
    result = CliRunner().invoke(main, ["check", *arguments])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert re.search(NOTHING[arguments], result.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--arm64-proposals 7.1", "--arm64-proposals does not look at PROTOCOL"),
        ("--litmus x.litmus --hazard H01", "--litmus does not look at --hazard"),
        ("--mutants --html x.html proposal-F", "--mutants does not look at --html"),
        ("--replay x --cpus 3", "--replay does not look at --cpus"),
    ],
)
def test_what_would_be_passed_over_is_refused(arguments: str, said: str):
    """An option that asks something else than whether protocols are safe has no use for the others,
    and nothing is ignored in silence.
    """
    result = CliRunner().invoke(main, ["check", *arguments.split()])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
