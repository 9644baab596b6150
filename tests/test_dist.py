"""The wheel and the sdist install into empty environments and work there, with their manual pages
and completions.
"""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import dist
from hvo import __version__

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dist.Built:
    """The wheel and the sdist of this tree."""
    return dist.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def plain(built, tmp_path_factory) -> dist.Environment:
    """An environment with the wheel and no extras."""
    return dist.installed(built.wheel, tmp_path_factory.mktemp("plain"))


def completed(plain: dist.Environment, shell: list[str]) -> set[str]:
    """What a shell prints that has the environment's commands, one a line."""
    there = os.environ | {"PATH": f"{plain.bin}:{os.environ['PATH']}"}
    done = subprocess.run(
        shell, env=there, cwd=plain.path, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def bash(plain: dist.Environment, *words: str) -> set[str]:
    """What bash offers for the last of `words`, by the script that is installed."""
    script = plain.path / "share/bash-completion/completions/hvo"
    line = " ".join(words)
    asked = (
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; _hvo_completion hvo"
    )
    text = f"source {script}; {asked}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return completed(plain, ["bash", "-c", text])


def test_contents(built):
    """The wheel has the package, its data and what is shared, and nothing else."""
    dist.check_contents(built)
    names = zipfile.ZipFile(built.wheel).namelist()
    assert {
        "hvo/layout/support.json",
        "hvo/machine/scenario/scenario.sh",
        "hvo/report/assets/page.css",
    } <= set(names)
    assert not [name for name in names if "test" in name or "__pycache__" in name]


def test_one_version(built, plain):
    """The package, the wheel and the installed metadata say the same."""
    said = plain.python(
        "-c", "import hvo, importlib.metadata as m; print(hvo.__version__, m.version('hvo'))"
    )
    assert said.split() == [__version__] * 2
    assert dist.version_of(built) == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_works(plain):
    """Commands work; each whose extra is missing says so."""
    assert {"export", "watch", "report"} <= set(dist.check_commands(plain, __version__))


def test_the_sdist_works(built, tmp_path):
    """pip builds from it what the wheel is."""
    dist.check_commands(dist.installed(built.sdist, tmp_path / "environment"), __version__)


def test_the_plain_installation_is_small(plain):
    """No library of an extra comes with it, and hvo itself takes at most 5 MiB."""
    figures = dist.measure(plain)
    assert figures.hvo < 5 * dist.MIB
    assert figures.packages <= 10
    assert figures.hvo < figures.everything


def test_wrong_things_are_noticed(built, plain, tmp_path):
    """A file too much in the wheel, and a command that does not end as it should."""
    wheel = tmp_path / built.wheel.name
    shutil.copy(built.wheel, wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tests/test_x.py", "")
    with pytest.raises(dist.Wrong, match=re.escape("too much: ['tests/test_x.py']")):
        dist.check_contents(built._replace(wheel=wheel))
    with pytest.raises(dist.Wrong, match="status 2, expected 0"):
        plain.run("hvo", "nonsense")
    with pytest.raises(dist.Wrong, match="status without its extra"):
        dist.check_refusal(plain, "status")


@pytest.mark.skipif(shutil.which("man") is None, reason="man is absent")
def test_man_finds_the_pages(plain):
    """`man hvo run`, with the environment's pages, shows the page of `hvo run`, and has nothing to
    complain about.
    """
    there = os.environ | {
        "MANPATH": str(plain.path / "share/man"),
        "LC_ALL": "C.UTF-8",
        "MANWIDTH": "100",
        "PAGER": "cat",
    }
    done = subprocess.run(
        ["man", "--warnings", "hvo", "run"], env=there, capture_output=True, text=True, check=True
    )
    assert "HVO-RUN(1)" in done.stdout
    assert "--hugepage-size SIZE" in done.stdout
    assert done.stderr == ""


def test_bash_completes(plain):
    """Commands, and options of a command."""
    assert {"run", "resize", "report"} == bash(plain, "hvo", "r")
    assert {"--hugepage-size", "--html", "--help"} == bash(plain, "hvo", "run", "--h")
    assert bash(plain, "hvo", "no-such") == set()


@pytest.mark.parametrize(
    "words", ["hvo audit m", "hvo ptdump m", "hvo run --save m", "hvo run --scenario m"]
)
def test_files_are_left_to_the_shell(plain, words):
    """Where a file is wanted the scripts are told so: click's first field is the kind of what may
    follow.
    """
    asked = {
        "_HVO_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [plain.bin / "hvo"], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout == "file,m\n"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is absent")
def test_zsh_reads_the_script(plain):
    """The script is well-formed, and says what it completes."""
    script = plain.path / "share/zsh/site-functions/_hvo"
    assert script.read_text().startswith("#compdef hvo\n")
    subprocess.run(["zsh", "-n", script], check=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is absent")
def test_fish_completes(plain):
    """Commands, by the script that is installed."""
    script = plain.path / "share/fish/vendor_completions.d/hvo.fish"
    assert {"run", "resize", "report"} <= completed(
        plain, ["fish", "-c", f"source {script}; complete -C 'hvo r' | string split -f1 \\t"]
    )
