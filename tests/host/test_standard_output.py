"""A change that was made is never called failed, and what went wrong is one line: standard output
that is full, closed or not read, in every host command, and JSON of what exits 2.
"""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from forked import forked
from host_trees import GIB, MIB, Host, NodePool

from hvo.cli.main import COMMANDS

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/schemas"
GATE = "proc/sys/vm/hugetlb_optimize_vmemmap"
READING = {
    "status": [],
    "watch": ["--json"],
    "resize": ["2MiB=10", "--dry-run"],
    "convert": ["--dry-run"],
    "bench-host": ["--dry-run"],
}
CHANGING = {
    "enable": (["--persist"], "2 writes, from /etc/sysctl.d/00-hvo.conf <- "),
    "disable": ([], f"/{GATE} <- 0"),
    "resize": (["2MiB=12"], "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages <- 12"),
    "export": (["--textfile", "{root}/hvo.prom"], "hvo.prom is written"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A recorded host; its switch is off."""
    reset(tmp_path, 0)
    return tmp_path


def reset(root: Path, gate: int) -> None:
    """The host as it was in the beginning."""
    host = Host(pools={2 * MIB: {0: NodePool(10, 10)}, GIB: {0: NodePool()}}, sections=16)
    host.gate, host.memmap = gate, (0, 16 * 512)
    host.write(root)
    (root / "etc/sysctl.d/00-hvo.conf").unlink(missing_ok=True)


@pytest.mark.parametrize("out", ["full", "closed", "gone"])
@pytest.mark.parametrize("name", CHANGING)
def test_a_change_is_told_where_its_report_cannot_be(name, out, root):
    """The status is that of the change, standard error says what was done."""
    words, said = CHANGING[name]
    given = [name, *(word.format(root=root) for word in words), "--root", root]
    for more in ([], ["--json"]):
        ended = []
        for kind in ("file", out):
            reset(root, int(name == "disable"))
            ended += forked([([*given, *more], kind)], name)
        usual, found = ended
        assert found.status == usual.status
        if usual.out:
            assert f"done all the same: {said}" in found.err.replace(f"{root}/", "")
        assert (found.err.count("\n"), "Traceback" in found.err) == (
            usual.err.count("\n") + bool(usual.out),
            False,
        )


@pytest.mark.parametrize("out", ["full", "closed", "gone"])
def test_what_only_reads_could_not_do_its_work(out, root):
    """2 with one line; a reader who has seen enough is no failure."""
    reset(root, 1)
    cases = [([name, *words, "--root", root], out) for name, words in READING.items()]
    cases += [([*words, "--json"], out) for words, _ in cases if "--json" not in words]
    for (words, _), found in zip(cases, forked(cases, *READING), strict=True):
        if out == "gone":
            assert (found.status, found.err) == (0, ""), (words, found)
        else:
            assert (found.status, found.err.count("\n")) == (2, 1), (words, found)
            assert "cannot write to standard output: " in found.err


def test_by_a_real_shell(root):
    """`>&-` and `2>&-` from the beginning of the process: no file of the host gets such a number,
    and with it what is said.
    """
    hvo = f'{sys.executable} -c "from hvo.cli.main import main; main()"'
    for redirected, status in ((">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0), ("> /dev/full", 0)):
        (root / GATE).write_text("0\n")
        done = subprocess.run(f"{hvo} enable --persist --root {root} {redirected}", shell=True)
        assert done.returncode == status, redirected
        assert (root / GATE).read_text() == "1\n"
        assert (root / "etc/sysctl.d/00-hvo.conf").read_text().startswith("vm.hugetlb_optimize")
    done = subprocess.run(f"{hvo} status --root {root} | head -1", shell=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_exporter_goes_on_where_nobody_reads_its_address(root):
    """It serves, and says where on standard error."""
    hvo = [sys.executable, "-c", "from hvo.cli.main import main; main()"]
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen(
            [*hvo, "export", "--root", root, "--listen", "127.0.0.1:0"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert "metrics at http://127.0.0.1:" in process.stderr.readline()
        assert process.poll() is None
        process.terminate()
        assert (process.wait(60), process.stderr.read()) == (0, "")


def test_what_exits_2_is_one_object(root, tmp_path):
    """Every command: bad arguments, and input that is not there; as the schema says, with the line
    of standard error.
    """
    missing = tmp_path / "missing"
    cases = [([name, "--no-such-option", "--json"], "file") for name in sorted(COMMANDS)]
    empty = tmp_path / "empty"
    (empty / "proc").mkdir(parents=True)
    hosts = ("status", "enable", "disable", "convert", "bench-host", "watch")
    cases += [([name, "--root", empty, "--json"], "file") for name in hosts]
    cases += [
        (["resize", "2MiB=1", "--root", empty, "--json"], "file"),
        (["resize", "2MiB=1", "--node", "7", "--root", root, "--json"], "file"),
        (["enable", "--boot", "--root", root, "--json"], "file"),
        (["audit", missing, "--json"], "file"),
        (["ptdump", missing, "--json"], "file"),
        (["run", "--memory", "3KiB", "--json"], "file"),
        (["check", "no-such-era", "--json"], "file"),
        (["plan", "--memory", "1GiB", "--pool", "2MiB=x", "--json"], "file"),
        (["report", missing, "--json"], "file"),
        (["fleet", missing, "--json"], "file"),
        (["export", "--listen", "127.0.0.1:1", "--textfile", "x.prom", "--json"], "file"),
        (["nonsense", "--json"], "file"),
        (["--json"], "file"),
    ]
    schema = json.loads((SCHEMAS / "error.json").read_text())
    for (words, _), found in zip(cases, forked(cases), strict=True):
        assert (found.status, found.err.count("\n")) == (2, 1), (words, found)
        said = json.loads(found.out)
        jsonschema.Draft202012Validator(schema).validate(said)
        assert said["error"]["message"] == found.err.rstrip("\n"), words
        assert said["error"]["kind"] in ("usage", "input"), (words, found)


def test_without_json_nothing_is_on_standard_output(root):
    """And after `--` it is a name."""
    for words in (["status", "--no"], ["report", "-o", "x.html", "--", "--json"]):
        found = forked([(words, "file")])[0]
        assert (found.status, found.out, found.err.count("\n")) == (2, "", 1)


def test_a_defect_is_one_line_and_no_traceback(root):
    """Whatever is raised: 2, which is not the 1 of findings, with the place, and a way to see
    more.
    """
    code = """
import sys
import hvo.host.status
def broken(*_):
    raise ZeroDivisionError("a defect")
hvo.host.status.read_status = broken
from hvo.cli.main import main
main()
"""
    python = [sys.executable]
    for dev, seen in ((), False), (("-X", "dev", "-W", "ignore"), True):
        done = subprocess.run(
            [*python, *dev, "-c", code, "status", "--root", root, "--json"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert ("Traceback" in done.stderr) == seen
        assert json.loads(done.stdout)["error"]["kind"] == "defect"
        assert "ZeroDivisionError: a defect, <string> line 5" in done.stderr.splitlines()[-1]
