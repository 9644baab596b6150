"""Protocol files whose verdicts were derived by hand before they were run (`tests/data/checker`,
ported from those of 0.1.0): the unsafe ones are found, the safe ones are safe.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from hvo.check.check import Result, check
from hvo.check.model.hardware import parse_hardware
from hvo.check.search.explore import Options
from hvo.check.select import asked
from hvo.cli.main import main
from hvo.errors import HvoError

FILES = Path(__file__).parent.parent / "data" / "checker"

KNOWN = {"lost-update"}
"""What mainline's own protocols violate too: the head is copied while memory failure marks it."""


def results(
    name: str, machine: str | None, *hazards: str, path: Path | None = None, plain: bool = False
) -> list[Result]:
    hardware = None if machine is None else parse_hardware(machine)
    cases = asked([str(path or FILES / name)], hardware, hazards, None)
    options = Options(reduce=not plain, symmetry=not plain)
    return [check(case, options) for case in cases]


def violated(name: str, machine: str | None, *hazards: str, plain: bool = False) -> set[str]:
    found = results(name, machine, *hazards, plain=plain)
    assert all(result.verdict != "unfinished" for result in found)
    return {finding.property for result in found for finding in result.findings}


UNSAFE = [
    ("red_oldcontents.py", "riscv64", "own", "old-contents"),
    ("red_oldcontents.py", "arm64", "own", "old-contents"),
    ("i10_contents_change_before_flush.py", "arm64+bbm2+noabort", "H01", "stale-contents"),
    ("i10_contents_change_before_flush.py", "x86_64", "H01", "stale-contents"),
    ("i1_key_after_remap.py", "x86_64", "H21", "wrong-head"),
    ("i6_sb_handshake.py", "x86_64", "own", "write-read-only"),
    ("i6_sb_handshake.py", "arm64+bbm2+noabort", "own", "write-read-only"),
    ("i9_loadpage_reorder.py", "arm64+bbm2+noabort", "own", "write-read-only"),
    ("i9b_testpage_reorder.py", "arm64+bbm2+noabort", "own", "write-read-only"),
    ("a_rollback_flush_wrong.py", "x86_64", "H24", "write-read-only"),
    ("a2_rollback_no_flush_used.py", "x86_64", "H18", "write-read-only"),
    ("b_wrong_zone.py", "x86_64", "H25", "wrong-zone"),
    ("c_poison_lost_on_failed_restore.py", "x86_64", "H26", "poison-freed"),
    ("c2_poison_lost_shown.py", "x86_64", "own", "poison-freed"),
    ("i5_lazy_rw_upgrade_x86.py", "arm64", "H19", "write-read-only"),
]


@pytest.mark.parametrize(("name", "machine", "hazard", "rule"), UNSAFE)
def test_unsafe_files(name: str, machine: str, hazard: str, rule: str):
    """The property that was derived is violated."""
    assert rule in violated(name, machine, hazard)


@pytest.mark.parametrize(
    ("name", "machine", "hazard", "rule"), [row for row in UNSAFE if row[0][:3] in ("red", "i6_")]
)
def test_unsafe_files_by_the_plain_search(name: str, machine: str, hazard: str, rule: str):
    """And by the search without reductions."""
    assert rule in violated(name, machine, hazard, plain=True)


SAFE = [
    ("i10c_contents_right.py", "arm64+bbm2+noabort", ("H01", "H11", "H18", "H24")),
    ("i10c_contents_right.py", "x86_64", ("H01", "H11", "H18", "H24")),
    ("i5_lazy_rw_upgrade_x86.py", "x86_64", ()),
    ("af2026_split_only.py", "arm64+haf", ()),
    ("af2026.py", "arm64+haf", ("H01", "H11", "H16", "H18", "H24")),
]


@pytest.mark.parametrize(("name", "machine", "hazards"), SAFE)
def test_safe_files(name: str, machine: str, hazards: tuple[str, ...]):
    """Nothing is violated."""
    assert violated(name, machine, *hazards) == set()


@pytest.mark.slow
def test_the_series_of_2026_with_two_optimisers():
    """The simplified form is safe in everything, two optimisers of 16 tries included."""
    assert violated("af2026.py", "arm64+haf") == set()


@pytest.mark.parametrize("leaf", [8, 16, 32, 64, 128, 512])
def test_any_leaf(leaf: int, tmp_path: Path):
    """A leaf maps more pages: the verdicts are those of the small machine."""
    path = tmp_path / "leaf.py"
    text = (FILES / "geo_leaf32.py").read_text()
    path.write_text(text.replace("32", str(leaf)))
    assert f'"leaf": {leaf}' in path.read_text()
    found = results("", "x86_64", "H01", "H11", "H18", path=path)
    assert {result.verdict for result in found} == {"safe"}
    assert results("", "x86_64", "H07", path=path)[0].findings[0].property == "lost-update"


# -- loops that wait --

WAITS = """
from hvo.protocol import *

def waiter(v, order, head):
    while not (yield TestPage(head, "dcache_clean")):
        pass

def setter(v, order, head):
    yield StorePage(head, "dcache_clean", {value})
"""


@pytest.mark.parametrize(("value", "rule"), [(1, None), (0, "no-progress")])
def test_a_loop_that_waits_for_another_actor(value: int, rule: str | None, tmp_path: Path):
    """It ends when everybody gets a turn, or never does."""
    path = tmp_path / "waits.py"
    path.write_text(WAITS.format(value=value))
    (result,) = results("", "x86_64", path=path)
    assert [finding.property for finding in result.findings] == ([rule] if rule else [])


# -- what is new against mainline --


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check", *arguments])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("name", "status"), [("base71.py", 0), ("c_poison_lost_on_failed_restore.py", 1)]
)
def test_only_what_the_kernel_does_not_violate(name: str, status: int):
    """The kernel's own protocol as a file has nothing new; one that loses records has."""
    path = str(FILES / name)
    hazards = ("--hazard", "H07", "--hazard", "H26")
    assert run(path, *hazards)[0] == 1
    code, said = run(path, *hazards, "--against", "7.1", "--json")
    assert code == status
    assert "as 7.1 has it: lost-update" in said


@pytest.mark.parametrize(("name", "era"), [("base71.py", "7.1"), ("base62.py", "6.2")])
def test_the_kernels_own_protocols(name: str, era: str):
    """Memory failure marks the head while it is copied: nothing else is found."""
    assert violated(name, "x86_64", "H01", "H07", "H11", "H18", "H24", "H26") == KNOWN


def test_premises_can_be_lifted():
    """A free page's head is not written to, and x86-64 has no PG_dcache_clean, unless asked."""
    path = str(FILES / "base71.py")
    about = {"against a writer of the head", "against __sync_icache_dcache"}
    kept = asked([path], None, ("H01",), None)
    assert not {case.scenario.name for case in kept} & about
    lifted = frozenset({"frozen-head", "no-dcache-flag"})
    cases = asked([path], None, ("H01", "H02"), None, lifted=lifted)
    assert about < {case.scenario.name for case in cases}
    on_arm64 = asked([path], parse_hardware("arm64"), ("H02",), None)
    assert [case.scenario.name for case in on_arm64] == ["against __sync_icache_dcache"]


def test_sequential_consistency_can_be_asked_for():
    """The handshake by two flags is right where a CPU's stores are seen at once."""
    path = str(FILES / "i6_sb_handshake.py")
    assert run(path, "--hazard", "own")[0] == 1
    code, said = run(path, "--hazard", "own", "--memory-model", "sc")
    assert (code, "stores on their way" in said) == (0, False)
    assert "2 stores on their way a CPU" in run(path, "--hazard", "own")[1]


# -- what is in a file --


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            (FILES / "typo_optimize_folios.py").read_text(),
            "optimize_folios(v, order, heads) is no role",
        ),
        ("def optimise(v, order, head):\n    yield\n", "optimize is one"),
        ("def optimize(v):\n    yield\n", "expected to be called with (v, order, head)"),
    ],
)
def test_a_public_generator_that_is_no_role(text: str, said: str, tmp_path: Path):
    """It is an error, not an actor that nobody meant."""
    path = tmp_path / "typo.py"
    path.write_text(text)
    with pytest.raises(HvoError, match="typo") as error:
        asked([str(path)], None, (), None)
    assert said in str(error.value)


LISTS = """
import numpy as np
from hvo.vmemmap.optimize import hugetlb_vmemmap_optimize_folios
from hvo.vmemmap.restore import hugetlb_vmemmap_restore_folios
from hvo.protocol import *

SCENARIOS = [
    {"actors": ["optimize", "raw-error"], "failures": 1},
    {"actors": [("optimize", 0), ("optimize", 1), "reader"], "split": True},
    {"actors": ["restore", "checker"], "before": "optimize"},
]
GEOMETRY = {"pages": 2, "used": 2, "group": 2, "leaf": 4}

def optimize_list(v, order, heads):
    results = yield from hugetlb_vmemmap_optimize_folios(v, order, heads)
    return int(results[0])

def restore_list(v, order, heads):
    results = yield from hugetlb_vmemmap_restore_folios(v, order, heads)
    return int(results[0])

def optimize(v, order, head):
    return (yield from optimize_list(v, order, np.array([head], np.int64)))

def restore(v, order, head):
    return (yield from restore_list(v, order, np.array([head], np.int64)))

def checker(v, order, head):
    flags = yield LoadPage(head, "flags")
    yield Assert(HOLDS, "the flags are what they are")
"""


@pytest.mark.parametrize("holds", [True, False])
def test_lists_scenarios_and_assertions(holds: bool, tmp_path: Path):
    """A file says what is done with lists, asks for scenarios by name, and what must hold in
    them.
    """
    path = tmp_path / "lists.py"
    path.write_text(LISTS.replace("HOLDS", str(holds)))
    found = results("", None, "own", "H17", path=path)
    names = {result.case.scenario.name for result in found}
    assert "a list of two, allocations refused" in names
    assert "a list of two restored, against a reader" in names
    assert "optimize of page 0 against raw-error of page 0, failures=1" in names
    assert (
        "optimize of page 0 against optimize of page 1 against reader of page 0, split=True"
        in names
    )
    wrong = {finding.property for result in found for finding in result.findings}
    assert wrong == ({"lost-update"} if holds else {"lost-update", "assertion"})


def test_a_scenario_that_names_nobody(tmp_path: Path):
    """One line says who there is."""
    path = tmp_path / "lists.py"
    path.write_text(LISTS.replace('"raw-error"', '"nobody"').replace("HOLDS", "True"))
    with pytest.raises(HvoError, match="'nobody': there are optimize_list"):
        asked([str(path)], None, (), None)
