"""Golden records: what `hvo check`, `hvo audit` and `hvo run` say, and how it differs from before.

usage: python tools/records.py make OUT [--src DIR] [--python PROGRAM] [--shared DIR] [--quick]
       python tools/records.py compare OLD NEW [--changes FILE] [--part]

`make` asks a source tree through its command line and JSON only, so that 0.1.0 and every later tree
answer the same questions. OUT is one job a line, sorted; compressed if its name ends in .xz. Times
are left out; a search is bounded by its states, so that records are equal on every host.
`compare` exits 1 for a difference that FILE (tests/data/records/changes.toml) does not explain, and
for an explanation that explains nothing. With `--part`, NEW may have only some of the jobs.
"""

import argparse
import json
import lzma
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from port_protocol import port
from records_compare import Records, compare, read_changes

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("HVO_SHARED", ROOT.parent / "shared"))
RECORDS = ROOT / "tests/data/records"
ERAS = ("5.14", "5.18", "6.2", "7.1")
MACHINES = ("x86_64", "riscv64", "arm64", "arm64+bbm2+noabort")
SHAPES = (
    ("arm64", "4KiB", ("2MiB", "32MiB", "1GiB")),
    ("arm64", "16KiB", ("32MiB", "1GiB")),
    ("arm64", "64KiB", ("512MiB",)),
    ("x86_64", "4KiB", ("2MiB", "1GiB")),
    ("riscv64", "4KiB", ("2MiB", "1GiB")),
)
SCENARIOS = ("few", "gig", "mixed", "off", "on")
"""Shell files in the reference material, for 2 GiB of x86-64."""
BOUND = ("--states", "200000", "--seconds", "3600")
_TIMES = {"seconds", "command"}
"""Keys of results that are left out."""
_PATIENCE = 1800
"""Seconds for one command; only a hang takes as long."""
_START = "from hvo.cli.main import main; main()"

Reader: TypeAlias = Callable[[str, Any], Iterator[tuple[str, Any]]]
"""From the name of a command and what it printed to named records."""


class Command(NamedTuple):
    """One run of hvo: the name that its records begin with, its arguments, how what it prints is
    read, and whether it is of the part that `make test` compares.
    """

    name: str
    arguments: tuple[str, ...]
    read: Reader
    quick: bool = False


def checked(name: str, printed: Any) -> Iterator[tuple[str, Any]]:
    """A record for each job of `hvo check`."""
    for job in printed["results"]:
        of_file = job["protocol"].endswith(".py")
        where = () if of_file else (job["protocol"],)
        key = "/".join((name, *where, job["arch"], job["hazard"], job["scenario"]))
        trace = job["trace"]
        yield (
            key,
            {
                "verdict": job["verdict"],
                "property": job["property"],
                "trace": trace and len(trace["steps"]),
                "states": job["states"],
                "violations": {found["property"]: found["steps"] for found in job["violations"]},
            },
        )


def compared(name: str, printed: Any) -> Iterator[tuple[str, Any]]:
    """A record for each proposal of `hvo check --arm64-proposals`."""
    for row in printed["proposals"]:
        yield f"{name}/{row['proposal']}", without_times(row)


def whole(name: str, printed: Any) -> Iterator[tuple[str, Any]]:
    """One record of everything; findings of an audit by rule and page."""
    record = without_times(printed)
    if "findings" in record:
        record["findings"] = dict(_named(record["findings"]))
    yield name, record


def _named(findings: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: dict[str, int] = {}
    for found in findings:
        name = "{id} pfn {pfn} address {address}".format(**found)
        seen[name] = seen.get(name, 0) + 1
        yield f"{name} #{seen[name]}", {key: found[key] for key in ("severity", "message")}


def without_times(value: Any) -> Any:
    """`value` without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in _TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


# -- what is asked --


def commands(shared: Path, protocols: Path) -> Iterator[Command]:
    """Everything; `protocols` is where the protocol files are that the tree can read."""
    yield from _of_the_checker()
    for path in sorted(protocols.glob("*.py")):
        for machine in (None, *MACHINES):
            yield _check(f"file/{path.name}/{machine or 'its own'}", str(path), machine)
    for path in sorted([*shared.glob("cores/*.elf.xz"), *shared.glob("cores-new/*.elf.xz")]):
        name = path.name.removesuffix(".elf.xz")
        quick = name in ("x86-6.12-on", "arm64-7.3-4k-sizes", "riscv64-7.2-sv57")
        yield Command(f"audit/{name}", ("audit", str(path)), whole, quick)
    yield from _of_the_machine(shared)


def _check(name: str, protocol: str, machine: str | None, *, quick: bool = False) -> Command:
    where = () if machine is None else ("--arch", machine)
    return Command(f"check/{name}", ("check", protocol, *where, *BOUND), checked, quick)


def _of_the_checker() -> Iterator[Command]:
    yield Command("check/benchmark", ("check", *BOUND), checked, quick=True)
    yield Command("proposals", ("check", "--arm64-proposals"), compared, quick=True)
    for letter in "ABCDEF":
        yield _check(f"proposal-{letter}", f"proposal-{letter}", None)
    for era in ERAS:
        for machine in (None, *MACHINES):
            yield _check(f"era {machine or 'its own'}", era, machine)


def _of_the_machine(shared: Path) -> Iterator[Command]:
    for arch, page, sizes in SHAPES:
        for era in ERAS:
            for size in sizes:
                shape = ("--arch", arch, "--page-size", page, "--hugepage-size", size)
                quick = (arch, page, size) in (
                    ("x86_64", "4KiB", "2MiB"),
                    ("arm64", "4KiB", "1GiB"),
                )
                yield Command(
                    f"run/{arch}/{page}/{size}/{era}",
                    ("run", *shape, "--era", era, "--memory", "4GiB"),
                    whole,
                    quick,
                )
    for era in ERAS:
        nodes = ("run", "--arch", "x86_64", "--nodes", "2", "--memory", "2GiB", "--era", era)
        yield Command(f"run/x86_64/two nodes/{era}", nodes, whole)
        for scenario in SCENARIOS:
            path = shared / f"cores/scenarios/{scenario}.sh"
            if path.exists():
                works = ("--memory", "2GiB", "--era", era, "--scenario", str(path))
                yield Command(
                    f"run/scenario/{scenario}/{era}", ("run", "--arch", "x86_64", *works), whole
                )


# -- asking --


class Tree(NamedTuple):
    """The source tree that answers, and the Python that runs it."""

    src: Path
    python: str

    def ask(self, command: Command) -> Records:
        """The records of one command; if it prints no result, the one line that says why."""
        ran = subprocess.run(
            [self.python, "-c", _START, *command.arguments, "--json"],
            env=os.environ | {"PYTHONPATH": str(self.src)},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if not ran.stdout:
            said = ran.stderr.strip().splitlines() or [""]
            line = re.sub(r"(?<![\w.])/\S*/", "", said[-1])
            return {command.name: {"exit": ran.returncode, "error": line}}
        found: Records = {command.name: {"exit": ran.returncode}}
        for name, record in command.read(command.name, json.loads(ran.stdout)):
            found[name] = found.get(name, {}) | record
        return found


def make(tree: Tree, shared: Path, *, quick: bool = False) -> Records:
    """The records of a source tree (`quick`: of the part that takes a few seconds)."""
    with tempfile.TemporaryDirectory() as directory:
        chosen = [
            command
            for command in commands(shared, _protocols(tree, shared, Path(directory)))
            if command.quick or not quick
        ]
        with ThreadPoolExecutor(os.cpu_count()) as executor:
            answers = list(executor.map(partial(_ask, tree), chosen))
    return {name: record for answer in answers for name, record in answer.items()}


def _ask(tree: Tree, command: Command) -> Records:
    if sys.stderr.isatty():
        print(command.name, file=sys.stderr)
    return tree.ask(command)


def _protocols(tree: Tree, shared: Path, directory: Path) -> Path:
    """The protocol files of the reference material, ported for a tree later than 0.1.0."""
    if not (tree.src / "hvo/protocol.py").exists():
        return shared / "checker"
    for path in shared.glob("checker/*.py"):
        (directory / path.name).write_text(port(path.read_text()))
    return directory


# -- files and the command line --


def write(path: Path, records: Records) -> None:
    """One job a line, sorted."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(record, sort_keys=True, separators=(',', ':'))}"
        for name, record in sorted(records.items())
    ]
    text = ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    path.write_bytes(lzma.compress(text, preset=9) if path.suffix == ".xz" else text)


def read(path: Path) -> Records:
    """What `write` wrote."""
    data = path.read_bytes()
    return json.loads(lzma.decompress(data) if path.suffix == ".xz" else data)


def main(arguments: Iterable[str] | None = None) -> int:
    """The command line -> the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    actions = parser.add_subparsers(required=True, dest="action")
    making = actions.add_parser("make", help="ask a source tree")
    making.add_argument("out", type=Path)
    making.add_argument("--src", type=Path, default=ROOT / "src", help="directory with hvo in it")
    making.add_argument("--python", default=sys.executable, help="the Python that runs it")
    making.add_argument("--shared", type=Path, default=SHARED, help="the reference material")
    making.add_argument("--quick", action="store_true", help="only the part for `make test`")
    comparing = actions.add_parser("compare", help="show what nothing explains")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.add_argument("--changes", type=Path, default=RECORDS / "changes.toml")
    comparing.add_argument("--part", action="store_true", help="NEW has only some of the jobs")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    if asked.action == "make":
        write(asked.out, make(Tree(asked.src, asked.python), asked.shared, quick=asked.quick))
        return 0
    changes = read_changes(asked.changes)
    wrong = compare(read(asked.old), read(asked.new), changes, part=asked.part)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
