"""What is made of the code for its users is up to date, and every object that a command prints is
as its schema says.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from host_trees import GIB, MIB, Host, NodePool

from hvo.cli.main import COMMANDS, main
from hvo.report.contracts import CONTRACTS
from shared_files import core

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "docs/schemas"
SCENARIO = "pool 20; snap plain; hvo 1; pool 40; snap mixed; pool 5\n"


def hvo(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit status and object of the command with `--json`."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"], prog_name="hvo")
    assert result.exit_code in (0, 1), result.stderr
    return result.exit_code, json.loads(result.stdout)


def strict(schema: Any) -> Any:
    """The schema with keys forbidden that it does not name: what is printed must be documented."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(part) for key, part in schema.items()}
    return found | (
        {"additionalProperties": False}
        if isinstance(found.get("properties"), dict) and found.get("type") == "object"
        else {}
    )


def validate(found: dict[str, Any], name: str) -> None:
    """Fail unless `found` is as the schema `name` says, with no key more."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(strict(schema)).validate(found)


# -- what is made --


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    """Every file as it should be."""
    pytest.importorskip("msgspec", reason="msgspec is absent: JSON schemas are made by it")
    import reference

    return reference.made()


def test_made_files_are_up_to_date(made: dict[Path, str]):
    """Reference, schemas, manual pages and completions are what `make reference` writes, and
    nothing else lies there.
    """
    import reference

    found = {path: (ROOT / path).read_text(encoding="utf-8") for path in reference.there()}
    stale = {str(path) for path in set(made) | set(found) if made.get(path) != found.get(path)}
    assert not stale, "run `make reference`"


def test_every_command_is_described(made: dict[Path, str]):
    """Each has a section, a manual page and, where it has `--json`, a schema."""
    text = made[Path("docs/reference/commands.md")]
    for name in COMMANDS:
        assert f"\n## hvo {name}\n" in text
        assert Path(f"share/man/man1/hvo-{name}.1") in made
        parameters = {
            option for parameter in main.get_command(None, name).params for option in parameter.opts
        }
        if "--json" in parameters:
            assert name in CONTRACTS
    assert {
        name
        for name in CONTRACTS
        if not any(name == other or name.startswith(f"{other}-") for other in COMMANDS)
    } == {"error"}


def test_options_are_all_there(made: dict[Path, str]):
    """Reference and manual page name every option of `hvo run`, the exit statuses and how it is
    called.
    """
    page, manual = made[Path("docs/reference/commands.md")], made[Path("share/man/man1/hvo-run.1")]
    section = re.search(r"\n## hvo run\n.*?(?=\n## |\Z)", page, re.DOTALL)[0]
    options = [
        option for parameter in main.get_command(None, "run").params for option in parameter.opts
    ]
    assert len(options) > 10
    assert not [option for option in options if f"`{option}" not in section]
    assert not [option for option in options if option.replace("-", "\\-") not in manual]
    assert "hvo run [OPTIONS]" in section
    assert ".SH EXIT STATUS\n.TP\n.B 0\n" in manual


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is absent")
def test_manual_pages_are_well_formed():
    """groff, with every warning on, has nothing to say."""
    found = sorted((ROOT / "share/man/man1").glob("*.1"))
    assert len(found) > len(COMMANDS)
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-z", *found],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is absent")
def test_mandoc_finds_nothing_wrong():
    """mandoc's linter, from warnings up."""
    found = sorted((ROOT / "share/man/man1").glob("*.1"))
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", *found], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


# -- what commands print --


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A saved machine, and what the run that saved it printed."""
    path = tmp_path_factory.mktemp("reference") / "machine.core"
    return path, hvo("run", "--memory", "256MiB", "--save", path)[1]


@pytest.fixture
def host(tmp_path) -> Path:
    """A recorded host with two nodes, its switch on, and plain pages to convert."""
    pools = {2 * MIB: {0: NodePool(20, 15), 1: NodePool(10, 10)}, GIB: {0: NodePool()}}
    Host(pools=pools, sections=16, memmap=(0, 16 * 512)).write(tmp_path)
    return tmp_path


def test_run_and_what_reads_its_memory(saved, tmp_path):
    """run, audit and ptdump of the machine that it saved, and report of both."""
    path, run = saved
    validate(run, "run")
    _, audit = hvo("audit", path)
    assert audit["pools"]
    validate(audit, "audit")
    validate(hvo("ptdump", path)[1], "ptdump")
    (tmp_path / "run.json").write_text(json.dumps(run))
    validate(hvo("report", tmp_path / "run.json")[1], "report")


def test_run_of_a_scenario(tmp_path):
    """The snapshots are described too."""
    (tmp_path / "pool.sh").write_text(SCENARIO)
    _, found = hvo("run", "--memory", "256MiB", "--scenario", tmp_path / "pool.sh")
    assert [snapshot["name"] for snapshot in found["snapshots"]] == [
        "boot",
        "plain",
        "mixed",
        "end",
    ]
    validate(found, "run")


def test_audit_with_findings():
    """A core of a kernel that lost pages."""
    status, found = hvo("audit", core("defect-x86-6.12.117-mixed"))
    assert (status, bool(found["findings"]), found["lost"]["pages"] > 0) == (1, True, True)
    validate(found, "audit")


@pytest.mark.parametrize("more", [(), ("--era", "6.2"), ("--nodes", "2")])
def test_plan(more):
    """With and without an era."""
    validate(
        hvo("plan", "--memory", "64GiB", "--pool", "1GiB=2", "--pool", "2MiB=all", *more)[1], "plan"
    )


def test_plan_comparison():
    """Also with alternatives that cannot be planned."""
    _, found = hvo("plan", "--memory", "64GiB", "--pool", "1GiB=2", "--compare", "arch,page-size")
    assert {bool(row["reason"]) for row in found["alternatives"]} == {True, False}
    validate(found, "plan-compare")


def test_check_and_replay():
    """An unsafe result, its replay, and safe ones."""
    status, found = hvo("check", "5.14+split-lock-read", "--arch", "x86_64", "--hazard", "H04")
    assert status == 1
    validate(found, "check")
    validate(hvo("check", "--replay", found["results"][0]["trace"]["token"])[1], "check-replay")
    validate(hvo("check", "7.1", "--hazard", "H13")[1], "check")


def test_check_proposals():
    """The proposals for arm64."""
    validate(hvo("check", "--arm64-proposals")[1], "check-arm64-proposals")


def test_fleet(tmp_path):
    """A fleet with every state and a rejected row, the inventory that it was made as, and one that
    was collected.
    """
    pytest.importorskip("ibis", reason="ibis is absent: hvo fleet needs it")
    _, made = hvo(
        "fleet", "generate", "--hosts", "2000", "--seed", "7", "-o", tmp_path / "fleet.parquet"
    )
    validate(made, "fleet-generate")
    status, found = hvo("fleet", tmp_path / "fleet.parquet", "--top", "3")
    assert (status, len(found["top"]), bool(found["defects"])) == (0, 3, True)
    validate(found, "fleet")
    (tmp_path / "x.csv").write_text(
        "host,arch,kernel,page_size,memory\na,x86_64,6.1,4095,64GiB\nb,x86_64,6.1,4096,64GiB\n"
    )
    status, found = hvo("fleet", tmp_path / "x.csv")
    assert (status, found["rejected"]) == (1, 1)
    validate(found, "fleet")
    (tmp_path / "x.prom").write_text("up 1\n")
    Host(sections=16, memmap=(0, 16 * 512)).write(tmp_path / "tree")
    (tmp_path / "y.json").write_text(json.dumps(hvo("status", "--root", tmp_path / "tree")[1]))
    status, found = hvo("fleet", "collect", tmp_path, "-o", tmp_path / "y.csv")
    assert (status, len(found["refused"])) == (1, 1)
    validate(found, "fleet-collect")


@pytest.mark.slow
def test_check_mutants():
    """Mutants of one protocol, killed and not."""
    _, found = hvo("check", "--mutants", "proposal-F")
    assert found["mutants"]
    validate(found, "check-mutants")


def test_check_litmus():
    """Litmus tests with and without outcomes."""
    files = sorted((ROOT / "tests/data/litmus").glob("*.litmus"))
    _, found = hvo("check", *(part for file in files for part in ("--litmus", file)))
    assert {row["outcomes"] is None for row in found["litmus"]} == {True, False}
    validate(found, "check-litmus")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("status",), "status"),
        (("enable",), "enable"),
        (("disable", "--dry-run"), "disable"),
        (("resize", "2MiB=40", "--dry-run"), "resize"),
        (("resize", "2MiB=8", "--node", "1", "--dry-run"), "resize"),
        (("convert", "--dry-run"), "convert"),
        (("convert", "--undo"), "convert"),
        (("bench-host", "--dry-run"), "bench-host"),
        (("watch",), "watch"),
    ],
)
def test_host_commands(command, name, host):
    """On a recorded host."""
    validate(hvo(*command, "--root", host)[1], name)


def test_status_with_bounds(tmp_path):
    """A kernel that does not count its memory map: figures are null."""
    Host(pools={2 * MIB: {0: NodePool(10, 10)}}, memmap=None).write(tmp_path)
    _, found = hvo("status", "--root", tmp_path)
    assert found["pools"][0]["optimized"] is None
    validate(found, "status")


def test_export_textfile(host, tmp_path):
    """The file form."""
    validate(
        hvo("export", "--root", host, "--textfile", tmp_path / "hvo.prom")[1], "export-textfile"
    )


def test_export_server(host):
    """The server says where it listens, and ends at SIGTERM."""
    code = "from hvo.cli.main import main; main()"
    arguments = ["export", "--root", str(host), "--listen", "127.0.0.1:0", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            validate(json.loads(server.stdout.readline()), "export")
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


# -- the schemas refuse what they should --


def test_the_schemas_refuse_what_is_wrong(saved):
    """A key that is missing, one that nobody described, a size below zero, a wrong kind, deep
    inside and at the top.
    """
    _, run = saved
    promise = run["promises"][0]
    wrong = [
        {key: value for key, value in run.items() if key != "saved"},
        run | {"new": 1},
        run | {"saved": -1},
        run | {"saved": "2MiB"},
        run | {"promises": [{**promise, "holds": "yes"}]},
        run | {"promises": [{**promise, "more": 1}]},
        run | {"vmemmap": run["vmemmap"] | {"after": run["vmemmap"]["after"] | {"own": [-0.5]}}},
    ]
    for found in wrong:
        with pytest.raises(jsonschema.ValidationError):
            validate(found, "run")


def test_users_may_be_given_more_keys():
    """A schema as it is published allows keys that later versions add."""
    for name in CONTRACTS:
        assert 'additionalProperties": false' not in (SCHEMAS / f"{name}.json").read_text()
