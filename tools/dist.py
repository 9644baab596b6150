"""Builds the wheel and the source distribution, installs each into an empty environment, and shows
that they work and what they weigh.

usage: python tools/dist.py

Writes dist/. Ends with 1 and one line when something is wrong. Only pip's index is asked for
anything.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
_ROUNDS = 15
_KINDS = {".py", ".json", ".sh", ".css", ".js"}
"""What files of the package may be."""
_SIZES = """
import importlib.metadata as m, json
size = lambda d: sum(f.locate().stat().st_size for f in d.files or () if f.locate().is_file())
names = ("pip", "setuptools")
print(json.dumps({d.name: size(d) for d in m.distributions() if d.name not in names}))
"""
_EXTRAS = (
    "import importlib.metadata as m, json;"
    " print(json.dumps(m.metadata('hvo').get_all('Provides-Extra')))"
)


class Wrong(Exception):
    """Something that a user would stumble over, in one line."""


def _what_is_left(screen: int) -> str:
    """What was written to a terminal that nobody has open any more."""
    text = b""
    try:
        while part := os.read(screen, 1 << 16):
            text += part
    except OSError:  # how Linux says the end
        pass
    return text.decode()


class Built(NamedTuple):
    """The two files."""

    wheel: Path
    sdist: Path


class Figures(NamedTuple):
    """What an installation weighs, in bytes, and how long it takes to start, in seconds
    (medians).
    """

    hvo: int
    everything: int
    packages: int
    empty_python: float
    import_hvo: float
    version: float


class Environment:
    """A virtual environment at `path` with nothing in it but pip."""

    def __init__(self, path: Path) -> None:
        venv.create(path, with_pip=True)
        self.path, self.bin = path, path / "bin"

    def install(self, what: Path) -> None:
        """Install a distribution and what it needs, without extras."""
        self.python("-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(what))

    def python(self, *arguments: str) -> str:
        """What Python prints."""
        return self.run("python", *arguments).stdout

    def run(
        self, program: str, *arguments: str, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the project, and insist on its exit
        status.
        """
        plain = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        done = subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.path,
            env=plain,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != status:
            said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
            raise Wrong(
                f"{program} {' '.join(arguments)}: status {done.returncode}, expected {status}:"
                f" {said}"
            )
        return done

    def on_a_terminal(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run a program on a terminal of its own -> its exit status and what is on the screen."""
        screen, terminal = os.openpty()
        with os.fdopen(screen, "rb") as seen:
            command = [self.bin / program, *arguments]
            with subprocess.Popen(
                command, cwd=self.path, stdin=terminal, stdout=terminal, stderr=terminal
            ) as running:
                status = running.wait(60)
            os.close(terminal)
            return status, _what_is_left(seen.fileno())


def installed(what: Path, place: Path) -> Environment:
    """A new environment at `place` with a distribution in it, and what that needs."""
    environment = Environment(place)
    environment.install(what)
    return environment


def build(target: Path) -> Built:
    """Build the sdist, and the wheel from that, into `target`."""
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Wrong(
            f"python -m build: {(done.stderr or done.stdout).strip().rpartition(chr(10))[2]}"
        )
    return Built(next(target.glob("*.whl")), next(target.glob("*.tar.gz")))


def check_contents(built: Built) -> None:
    """Raise `Wrong` unless the wheel has all of the package, its data and `share`, and nothing
    else; the sdist the same sources.
    """
    names = set(zipfile.ZipFile(built.wheel).namelist())
    data = re.compile(r"hvo-[^/]*\.data/data/(share/.*)")
    installed = {found[1] for name in names if (found := data.fullmatch(name))}
    package = {name for name in names if name.startswith("hvo/")}
    others = {
        name for name in names - package if not data.fullmatch(name) and ".dist-info/" not in name
    }
    _same("the wheel's package", package, _files("src/hvo", below="src"))
    _same("the wheel's data", installed, _files("share", below="."))
    _same(
        "the wheel", others | {name for name in package if Path(name).suffix not in _KINDS}, set()
    )
    with tarfile.open(built.sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    sources = {name for name in inside if name.startswith("src/hvo/") and Path(name).suffix}
    _same("the sdist's sources", sources, _files("src/hvo", below="."))
    _same(
        "the sdist",
        {name for name in inside if re.search(r"__pycache__|\.(pyc|elf|core)$|^\.", name)}
        - {".gitignore"},
        set(),
    )


def _files(place: str, below: str) -> set[str]:
    """The files that ought to be there: those of the work tree without what is compiled."""
    found = (
        path
        for path in (ROOT / place).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return {path.relative_to(ROOT / below).as_posix() for path in found}


def _same(what: str, found: set[str], expected: set[str]) -> None:
    if found != expected:
        raise Wrong(
            f"{what}: too much: {sorted(found - expected)[:5]}; missing:"
            f" {sorted(expected - found)[:5]}"
        )


def check_commands(environment: Environment, version: str) -> list[str]:
    """Raise `Wrong` unless the plain installation works -> the commands that told what they
    lack.
    """
    if environment.run("hvo", "--version").stdout != f"hvo {version}\n":
        raise Wrong(f"hvo --version: expected {version}, as the name of the wheel says")
    helped = environment.run("hvo", "--help").stdout
    run = json.loads(environment.run("hvo", "run", "--memory", "1GiB", "--json").stdout)
    if not all(promise["holds"] for promise in run["promises"]):
        raise Wrong("hvo run: a promise does not hold")
    environment.run("hvo", "status")
    environment.python(
        "-c", "from hvo import Machine, __version__; Machine.build('arm64', '4KiB', '256MiB')"
    )
    plan = environment.run(
        "hvo", "plan", "--memory", "1TiB", "--pool", "1GiB=2", "--pool", "2MiB=all", "--json"
    ).stdout
    (environment.path / "plan.json").write_text(plan)
    extras: list[str] = json.loads(environment.python("-c", _EXTRAS))
    lacking = [extra for extra in extras if re.search(rf"^  {extra}  ", helped, re.MULTILINE)]
    for command in lacking:
        check_refusal(environment, command)
    return lacking


def check_refusal(environment: Environment, command: str) -> None:
    """Raise `Wrong` unless `command`, whose extra is not installed, ends with 2 and one line that
    says how to install it.

    A report takes its extra for charts, which a plan of several pools has.
    """
    arguments = {"report": ["plan.json", "-o", "report.html"], "fleet": ["plan.json"]}.get(
        command, []
    )
    status, said = environment.on_a_terminal("hvo", command, *arguments)
    if status != 2 or not re.fullmatch(
        rf"hvo {command} needs [\w-]+: pip install 'hvo\[{command}\]'\r\n", said
    ):
        raise Wrong(
            f"hvo {command} without its extra: expected status 2 and one line that names it, found"
            f" {status}, {said!r}"
        )


def measure(environment: Environment) -> Figures:
    """What the installation weighs and how quickly it starts."""
    sizes: dict[str, int] = json.loads(environment.python("-c", _SIZES))
    empty, imported = (
        _seconds(environment, "python", "-c", code) for code in ("pass", "import hvo")
    )
    return Figures(
        sizes["hvo"],
        sum(sizes.values()),
        len(sizes),
        empty,
        imported,
        _seconds(environment, "hvo", "--version"),
    )


def _seconds(environment: Environment, *command: str) -> float:
    def once() -> float:
        begun = time.perf_counter()
        environment.run(*command)
        return time.perf_counter() - begun

    once()
    return statistics.median(once() for _ in range(_ROUNDS))


def report(built: Built, figures: Figures) -> dict[str, Any]:
    """What `make dist` prints, line by line."""
    return {
        "wheel": f"{built.wheel.stat().st_size / MIB:.2f} MiB ({built.wheel.name})",
        "sdist": f"{built.sdist.stat().st_size / MIB:.2f} MiB ({built.sdist.name})",
        "hvo installed": f"{figures.hvo / MIB:.2f} MiB",
        "with all it needs": f"{figures.everything / MIB:.1f} MiB, {figures.packages} packages",
        "python -c pass": f"{figures.empty_python * 1000:.0f} ms",
        "import hvo": f"{figures.import_hvo * 1000:.0f} ms",
        "hvo --version": f"{figures.version * 1000:.0f} ms",
    }


def version_of(built: Built) -> str:
    """The version in the wheel's name."""
    return built.wheel.name.split("-")[1]


def main() -> None:
    """Build, install, try and weigh."""
    built = build(ROOT / "dist")
    check_contents(built)
    with tempfile.TemporaryDirectory(prefix="hvo-dist-") as place:
        environments = {
            name: installed(what, Path(place) / name) for name, what in built._asdict().items()
        }
        for name, environment in environments.items():
            lacking = check_commands(environment, version_of(built))
            print(
                f"{name}: installs and works; what says that its extra is missing:"
                f" {', '.join(lacking)}"
            )
        for what, figure in report(built, measure(environments["wheel"])).items():
            print(f"{what:20}{figure}")


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"dist: {wrong}")
