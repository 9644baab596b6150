"""Golden records: this tree says what 0.1.0 said, but for the changes that have a reason."""

from pathlib import Path
from typing import Any

import pytest

import records
from records_compare import Changes, compare, read_changes
from shared_files import BESIDE

OLD = records.RECORDS / "0.1.0.json.xz"
CHANGES = records.RECORDS / "changes.toml"
SAFE = {"job": {"verdict": "safe", "states": 7}}


def asked(*, quick: bool) -> records.Records:
    if not BESIDE.exists():
        pytest.skip("reference material is absent: ../shared")
    tree = records.Tree(records.ROOT / "src", records.sys.executable)
    return records.make(tree, BESIDE, quick=quick)


def test_a_part_is_as_before() -> None:
    """The checker's benchmark and its proposals, a core of three architectures, every era on two
    machines.
    """
    new = asked(quick=True)
    assert len(new) > 160
    assert compare(records.read(OLD), new, read_changes(CHANGES), part=True) == []


@pytest.mark.slow
@pytest.mark.exhaustive
def test_everything_is_as_before() -> None:
    """All jobs; every explanation explains something."""
    assert compare(records.read(OLD), asked(quick=False), read_changes(CHANGES)) == []


def test_every_job_of_old_has_what_the_issue_names() -> None:
    """Verdict, property, trace length and states of jobs; none of them is empty by mistake."""
    old = records.read(OLD)
    checks = [record for name, record in old.items() if name.startswith("check/")]
    jobs = [record for record in checks if "verdict" in record]
    assert len(jobs) > 1500
    assert {record["verdict"] for record in jobs} == {"safe", "unsafe"}
    for record in jobs:
        unsafe = record["verdict"] == "unsafe"
        assert bool(record["property"]) == bool(record["trace"]) == unsafe
        assert record["states"] > 0
    assert sum(name.startswith("audit/") for name in old) >= 28
    assert sum(name.startswith("run/") for name in old) >= 60


def changes(tmp_path: Path, text: str) -> Changes:
    path = tmp_path / "changes.toml"
    path.write_text(text)
    return read_changes(path)


def changed(**fields: Any) -> records.Records:
    return {"job": SAFE["job"] | fields}


def test_what_nothing_explains_is_wrong(tmp_path: Path) -> None:
    """A value, a field and a job that differ are each named, with both values."""
    none = changes(tmp_path, "")
    assert compare(SAFE, SAFE, none) == []
    assert compare(SAFE, changed(verdict="unsafe"), none) == [
        'unexplained: job: verdict: "safe" -> "unsafe"'
    ]
    assert compare(SAFE, changed(more=1), none) == ['unexplained: job: more: "absent" -> 1']
    assert compare(SAFE, {}, none) == ['unexplained: job: job: "present" -> "absent"']
    assert compare({}, SAFE, none) == ['unexplained: job: job: "absent" -> "present"']


def test_an_explanation_is_about_one_change(tmp_path: Path) -> None:
    """Pattern, field, old and new value must all be right; "<" is a smaller number."""
    why = '[[change]]\njob = "j*"\nfield = "states"\nold = 7\nnew = "<"\nwhy = "fewer"\n'
    fewer = changes(tmp_path, why)
    assert compare(SAFE, changed(states=5), fewer) == []
    assert compare(SAFE, changed(states=9), fewer)[0] == "unexplained: job: states: 7 -> 9"
    assert compare(SAFE, changed(states=5, verdict="unsafe"), fewer) == [
        'unexplained: job: verdict: "safe" -> "unsafe"'
    ]


def test_an_explanation_that_explains_nothing_is_wrong(tmp_path: Path) -> None:
    """Unless only a part is compared; a renaming that renames nothing is one too."""
    text = '[[change]]\njob = "other"\nold = 1\nnew = 2\nwhy = "x"\n'
    text += '[[renamed]]\nold = "nobody"\nnew = "somebody"\nwhy = "y"\n'
    listed = changes(tmp_path, text)
    assert [line.partition(":")[0] for line in compare(SAFE, SAFE, listed)] == [
        "explains nothing",
        "explains nothing",
    ]
    assert compare(SAFE, SAFE, listed, part=True) == []


def test_jobs_may_have_new_names(tmp_path: Path) -> None:
    """A renaming is done before jobs are compared."""
    listed = changes(tmp_path, '[[renamed]]\nold = "job"\nnew = "task"\nwhy = "the word"\n')
    assert compare(SAFE, {"task": SAFE["job"]}, listed) == []


@pytest.mark.parametrize(
    "text",
    [
        '[[change]]\njob = "a"\nold = 1\nnew = 2\n',
        '[[change]]\njob = "a"\nold = 1\nnew = 2\nwhy = ""\n',
        '[[moved]]\nold = "a"\nnew = "b"\nwhy = "c"\n',
    ],
)
def test_a_reason_must_be_given(tmp_path: Path, text: str) -> None:
    """An entry without one, or of another kind, is refused."""
    with pytest.raises(ValueError, match=r"changes\.toml"):
        changes(tmp_path, text)


def test_records_are_written_and_read(tmp_path: Path) -> None:
    """As text, one job a line, and compressed."""
    for name in ("a.json", "a.json.xz"):
        records.write(tmp_path / name, SAFE)
        assert records.read(tmp_path / name) == SAFE
    assert len((tmp_path / "a.json").read_text().splitlines()) == 3


def test_the_command_line_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with a line for each difference."""
    records.write(tmp_path / "old", SAFE)
    records.write(tmp_path / "new", changed(states=8))
    listed = ["--changes", str(tmp_path / "none")]
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    assert records.main(["compare", old, new, *listed]) == 1
    assert capsys.readouterr().out == "unexplained: job: states: 7 -> 8\n"
    assert records.main(["compare", old, old, *listed]) == 0
