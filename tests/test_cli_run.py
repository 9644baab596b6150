"""The command `hvo`: quick answers, one-line errors and exit statuses, and what `hvo run` prints,
writes and means.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hvo import Machine, __version__
from hvo.cli.main import main
from hvo.vmemmap.era import FIXES, era, parse_variant
from shared_files import core

GIB, MIB = 1 << 30, 1 << 20
SMALL = ("run", "--memory", "1GiB")
KEYS = {
    "machine",
    "era",
    "pool",
    "memmap_before",
    "memmap_after",
    "saved",
    "table_cost",
    "vmemmap",
    "sample",
    "promises",
    "seconds",
    "command",
}
GUARANTEES = {
    "saves",
    "frames-return",
    "tails-read-only",
    "dcache-head",
    "hot-remove",
    "ptdump",
    "restore-fails-safe",
    "gate",
}
README = Path(__file__).resolve().parents[1] / "README.md"


def hvo(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="hvo")


def hvo_process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command as people do."""
    code = "import sys; from hvo.cli.main import main; sys.argv[0] = 'hvo'; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def as_json(*arguments: str | Path, status: int = 0) -> dict:
    """The object that the command prints."""
    result = hvo(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (status, "")
    return json.loads(result.stdout)


def refused(*arguments: str | Path) -> str:
    """The one line on standard error of a command that exits 2 and prints nothing else."""
    result = hvo(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.strip()


@pytest.fixture
def counts_only(monkeypatch):
    """Leave out the guarantees that are measured on machines of their own: for tests of what is
    counted on the big one.
    """
    monkeypatch.setattr("hvo.machine.run.run.guarantees", lambda *_: [])


# -- the command itself --


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_quick_answers_import_little(argument):
    """Neither the version nor the help waits for numpy, drgn or rich."""
    code = (
        "import sys\nfrom hvo.cli.main import main\ntry:\n    main([sys.argv[1]])\n"
        "finally:\n    print(sorted({'numpy', 'drgn', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, argument], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert (__version__ if argument == "--version" else "run") in done.stdout


def test_no_command_shows_the_help():
    """`hvo` alone is a question."""
    result = hvo()
    assert result.exit_code == 0
    assert "Commands:" in result.stdout


def test_unknown_words():
    """An unknown command or option is named in one line."""
    assert re.search(r"^hvo: no command 'fly': there is .*\brun\b", refused("fly"))
    assert "--wings" in refused("run", "--wings")
    assert "extra" in refused("run", "extra")


def test_errors_of_the_process():
    """As a process too: one line, exit 2, no traceback."""
    done = hvo_process("run", "--arch", "vax")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "unknown architecture 'vax'" in done.stderr


def test_a_defect_of_our_own_is_not_hidden(monkeypatch):
    """It is called one, with its place; 2, for 1 would mean that a guarantee does not hold."""
    monkeypatch.setattr("hvo.machine.run.run.run", lambda *_: 1 / 0)
    found = hvo(*SMALL)
    assert (found.exit_code, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    assert "defect of hvo, please report it: ZeroDivisionError" in found.stderr
    assert "test_cli_run.py line" in found.stderr


def test_a_reader_that_leaves():
    """`hvo run | head -1` ends without a complaint."""
    shell = (
        f'"{sys.executable}" -c "from hvo.cli.main import main; main()" run --memory 128MiB |'
        " head -1"
    )
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stderr == ""
    assert done.stdout.startswith("machine")


# -- what it measures --


@pytest.mark.parametrize(("name", "freed"), [("5.14", 6), ("5.18", 7), ("6.2", 7), ("7.1", 7)])
def test_json_of_each_era(name, freed):
    """The keys are the contract's; what is saved is what each era gives back, and every guarantee
    holds.
    """
    found = as_json(*SMALL, "--era", name)
    assert set(found) == KEYS
    assert found["machine"] == {
        "arch": "arm64",
        "page_size": 4096,
        "memory": GIB,
        "struct_page_size": 64,
    }
    assert found["pool"] == {"size": 2 * MIB, "pages": 512, "optimized": 512}
    assert (found["memmap_before"], found["saved"], found["table_cost"]) == (
        16 * MIB,
        512 * freed * 4096,
        8 * 4096,
    )
    assert found["memmap_before"] - found["memmap_after"] == found["saved"]
    assert set(found["seconds"]) == {"build", "optimize", "restore", "audit"}
    assert {guarantee["id"] for guarantee in found["promises"]} >= GUARANTEES
    assert all(guarantee["holds"] and guarantee["evidence"] for guarantee in found["promises"])


@pytest.mark.parametrize(
    ("options", "saved", "tables"),
    [
        (
            ("--arch", "x86_64", "--memory", "4GiB", "--hugepage-size", "1GiB"),
            4 * 4095 * 4096,
            32 * 4096,
        ),
        (("--arch", "arm64", "--page-size", "16KiB", "--memory", "1GiB"), 32 * 7 * 16384, 0),
        (("--arch", "arm64", "--page-size", "64KiB", "--memory", "2GiB"), 4 * 7 * 65536, 0),
        (("--arch", "riscv64", "--memory", "256MiB"), 128 * 7 * 4096, 2 * 4096),
        (
            ("--memory", "256MiB", "--hugepage-size", "32MiB", "--nodes", "2"),
            8 * 127 * 4096,
            2 * 4096,
        ),
        (("--memory", "256MiB", "--pages", "3"), 3 * 7 * 4096, 4096),
        (("--memory", "256MiB", "--hugepage-size", "64KiB"), 0, 0),
        (("--memory", "256MiB", "--pages", "0"), 0, 0),
    ],
)
@pytest.mark.usefixtures("counts_only")
def test_other_shapes(options, saved, tables):
    """Architectures, granules, sizes and nodes: what is saved and what it costs is counted, and
    comes out as it must.
    """
    found = as_json("run", *options)
    assert (found["saved"], found["table_cost"]) == (saved, tables)


@pytest.mark.slow
@pytest.mark.usefixtures("counts_only")
def test_a_tebibyte():
    """1 TiB saves 14 GiB with 2 MiB pages, and 16 GiB less 4 MiB with 1 GiB pages."""
    assert as_json("run", "--memory", "1TiB")["saved"] == 14 * GIB
    assert (
        as_json("run", "--memory", "1TiB", "--hugepage-size", "1GiB")["saved"] == 16 * GIB - 4 * MIB
    )


def test_a_broken_guarantee_exits_1():
    """Without reset-tails restored pages are none that the allocator takes: it is said, and the
    status is 1.
    """
    found = as_json(*SMALL, "--era", "6.2-reset-tails", status=1)
    broken = {guarantee["id"] for guarantee in found["promises"] if not guarantee["holds"]}
    assert found["era"] == "6.2-reset-tails"
    assert "frames-return" in broken
    assert "saves" not in broken


@pytest.mark.usefixtures("counts_only")
def test_a_scenario_adds_its_snapshots(tmp_path):
    """The result of a scenario is that of its default pool at the end, and the counters at every
    snap.
    """
    file = tmp_path / "grow.sh"
    file.write_text("hvo 1; pool 10; snap grown; pool 4\n")
    found = as_json(*SMALL, "--era", "6.2", "--scenario", file)
    assert set(found) == {*KEYS, "snapshots"}
    assert [snapshot["name"] for snapshot in found["snapshots"]] == ["boot", "grown", "end"]
    assert [snapshot["counters"]["HugePages_Total"] for snapshot in found["snapshots"]] == [
        0,
        10,
        4,
    ]
    assert found["pool"] == {"size": 2 * MIB, "pages": 4, "optimized": 4}
    assert found["saved"] == 4 * 7 * 4096


@pytest.mark.usefixtures("counts_only")
def test_boot_parameters_fill_the_pool():
    """Pages reserved at boot are the pool that the run is about."""
    found = as_json(
        "run",
        "--arch",
        "x86_64",
        "--memory",
        "4GiB",
        "--cmdline",
        "hugepagesz=1G hugepages=2 hugetlb_free_vmemmap=on",
    )
    assert found["pool"] == {"size": GIB, "pages": 2, "optimized": 2}
    assert found["saved"] == 2 * 4095 * 4096


@pytest.mark.usefixtures("counts_only")
def test_like_a_core(tmp_path):
    """A machine that begins as a real kernel's memory has its shape and pool, and every guarantee
    holds on it.
    """
    found = as_json("run", "--like", core("x86-6.12-off"))
    assert (found["machine"]["arch"], found["machine"]["memory"], found["era"]) == (
        "x86_64",
        GIB,
        "6.2",
    )
    assert found["pool"] == {"size": 2 * MIB, "pages": 64, "optimized": 64}
    assert found["saved"] == 64 * 7 * 4096


@pytest.mark.usefixtures("counts_only")
def test_save_and_start_from_it(tmp_path):
    """The saved core is the machine while its pages were optimised: a machine like it has them."""
    saved = tmp_path / "machine.elf"
    first = as_json("run", "--memory", "256MiB", "--pages", "9", "--save", saved)
    again = as_json("run", "--like", saved)
    assert again["pool"] == first["pool"] == {"size": 2 * MIB, "pages": 9, "optimized": 9}
    assert again["saved"] == first["saved"]
    assert [path.name for path in tmp_path.iterdir()] == ["machine.elf"]


# -- what it shows --


def test_text():
    """The terminal shows the picture, the counts, and each guarantee with its evidence."""
    result = hvo("run", "--memory", "256MiB", "--pages", "64")
    assert result.exit_code == 0
    assert "64 pages of 2MiB, 64 of them optimised" in result.stdout
    assert "█▒▒▒▒▒▒▒" in result.stdout
    assert re.search(r"^█+▒░+$", result.stdout, re.MULTILINE)
    assert all(re.search(rf"✓ {guarantee}\b", result.stdout) for guarantee in GUARANTEES)
    assert "\x1b" not in result.output


def test_text_of_a_broken_guarantee():
    """A guarantee that does not hold has a cross."""
    assert "✗ frames-return" in hvo("run", "--memory", "256MiB", "--era", "6.2-reset-tails").stdout


def test_html_is_one_whole_page(tmp_path):
    """The page has the same figures, needs nothing from elsewhere, and its text cannot become
    markup.
    """
    page = tmp_path / "run.html"
    assert hvo("run", "--memory", "256MiB", "--html", page).exit_code == 0
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert not re.search(r"(src|href)=|@import|url\(", text)
    assert "128 pages of 2MiB on arm64 with 256MiB" in text
    assert "head&#x27;s flags" in text


# -- what it refuses --


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--arch", "vax"), "expected one of x86_64, arm64, riscv64"),
        (("--arch", "loongarch64", "--page-size", "16KiB"), "arm64, x86_64 and riscv64"),
        (("--arch", "x86_64", "--page-size", "16KiB"), "x86_64 has 4KiB"),
        (("--memory", "100MiB"), "a multiple of a section, 128MiB"),
        (("--memory", "0"), "a multiple of a section"),
        (("--memory", "128MiB", "--nodes", "2"), "a multiple of a section"),
        (("--memory", "lots"), "expected a whole number of bytes"),
        (("--nodes", "0"), "--nodes"),
        (("--hugepage-size", "3MiB"), "has 64KiB, 2MiB, 32MiB, 1GiB"),
        (("--page-size", "64KiB", "--memory", "4GiB", "--hugepage-size", "16GiB"), "give it more"),
        (("--memory", "1GiB", "--pages", "513"), "holds at most 512"),
        (("--pages", "-1"), "--pages"),
        (("--pages", "1", "--fill"), "--pages and --fill"),
        (("--era", "4.19"), "expected one of 5.14, 5.18, 6.2, 7.1"),
        (("--era", "6.2-nothing"), "reset-tails"),
        (("--cmdline", "hugepages=many"), "expected a number of pages"),
        (("--like", "no-such-core"), "no-such-core"),
        (("--scenario", "no-such-file"), "no-such-file"),
        (("--save", "no/such/place"), "No such file or directory"),
        (("--html", "/"), "it is a directory"),
    ],
)
def test_what_cannot_be(options, said):
    """Impossible combinations and unusable files: exit 2 and one line that says what would be
    accepted.
    """
    assert said in refused("run", *options)


def test_options_that_contradict_each_other(tmp_path):
    """A scenario sizes the pools itself, and a machine like a core has that core's shape."""
    file = tmp_path / "file"
    file.write_text("pool 1\n")
    assert "--scenario" in refused("run", "--scenario", file, "--pages", "3")
    assert "--memory" in refused("run", "--like", file, "--memory", "1GiB")
    assert "expected an ELF" in refused("run", "--like", file)


def test_nothing_is_written_when_it_cannot_run(tmp_path):
    """A scenario that fails leaves no core and no page behind."""
    file = tmp_path / "scenario.sh"
    file.write_text("pool 1; $bb reboot\n")
    refused(
        "run",
        "--memory",
        "128MiB",
        "--scenario",
        file,
        "--save",
        tmp_path / "core",
        "--html",
        tmp_path / "page",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["scenario.sh"]


# -- variants --


@pytest.mark.parametrize("name", ["5.14", "5.18", "6.2", "7.1"])
def test_a_variant_reads_back(name):
    """Every era with each fix taken away or put in has a text that means just that."""
    for fix in FIXES:
        for variant in (
            era(name, add=(fix,)),
            era(name, drop=(fix,)),
            era(name, drop=(fix, "reset-tails")),
        ):
            assert parse_variant(variant.variant) == variant


# -- the library --


def test_the_example_of_the_readme(capsys):
    """The lines in the README run, and print what it says."""
    example = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert example is not None
    assert len(example[1].strip().splitlines()) <= 12
    exec(compile(example[1], "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert [line.split()[-1] for line in lines[:8]] == ["RW", *["ro"] * 7]
    assert len({line.split()[3] for line in lines[1:8]}) == 1
    assert lines[8].split()[0] == "100"
    assert lines[9] == "True"


def test_the_package_offers_the_machine():
    """`from hvo import Machine` is the machine, and there is nothing else."""
    import hvo
    from hvo.machine import machine

    assert Machine is machine.Machine
    with pytest.raises(AttributeError):
        _ = hvo.Tractor
