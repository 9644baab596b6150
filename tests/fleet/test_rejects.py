"""Rows that cannot be right: every rule is broken by a row, which is rejected with its line;
nothing is dropped silently.
"""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from inventories import (
    GIB,
    HOST,
    MIB,
    POOL,
    SAVED,
    answer,
    ask,
    host,
    hvo,
    write_csv,
    write_json_lines,
)

from hvo.fleet.columns import COLUMNS, NAMES
from hvo.fleet.rules import SENTENCES

_TYPED = [column.name for column in COLUMNS if column.kind != "text"]
BAD: list[tuple[str, list[dict[str, Any]]]] = [
    *(
        (
            f"{name}: expected {'true or false' if name in ('gate', 'supported') else ''}",
            [host(**{name: "x"})],
        )
        for name in _TYPED
    ),
    *(
        (f"{name}: it is missing", [host(**{name: None})])
        for name in ("host", "arch", "kernel", "page_size", "memory", "pages")
    ),
    ("kernel: expected a release that begins with a version", [host(kernel="linux")]),
    ("page_size: expected a power of two from 1KiB to 1MiB", [host(page_size=4095)]),
    ("page_size: expected a power of two from 1KiB to 1MiB", [host(page_size=2 * MIB)]),
    ("page_size: the architecture has no such base page", [host(page_size=8192)]),
    ("memory: expected from 1KiB to 4PiB", [host(memory=64, optimized=0)]),
    ("memory: expected from 1KiB to 4PiB", [host(memory=(1 << 52) + 1)]),
    ("struct_page_size: expected from 1 byte to one base page", [host(struct_page_size=0)]),
    ("struct_page_size: expected from 1 byte to one base page", [host(struct_page_size=8192)]),
    ("pages: there are some, and no hugepage_size", [host(hugepage_size=None)]),
    (
        "hugepage_size: expected a power of two larger than page_size",
        [host(hugepage_size=3 * MIB, optimized=0)],
    ),
    (
        "hugepage_size: expected a power of two larger than page_size",
        [host(hugepage_size=2048, optimized=0)],
    ),
    ("hugepage_size: the architecture has no such HugeTLB page", [host(hugepage_size=4 * MIB)]),
    ("pages: the pool is larger than memory", [host(pages=32769)]),
    ("pages: the pool is larger than memory", [host(pages=900_000_000_000_000)]),
    ("optimized: expected 0 <= optimized_min", [host(optimized=1001)]),
    (
        "optimized: expected 0 <= optimized_min",
        [host(optimized=None, optimized_min=7, optimized_max=6)],
    ),
    ("optimized: expected 0 <= optimized_min", [host(optimized=5, optimized_min=6)]),
    ("optimized: expected 0 <= optimized_min", [host(optimized=5, optimized_max=4)]),
    ("optimized: expected 0 <= optimized_min", [{**HOST, "optimized": 1}]),
    ("self_hosted: expected 0 to pages", [host(self_hosted=1001)]),
    (
        "optimized: pages of this size cannot be optimised",
        [host(arch="riscv64", hugepage_size=65536)],
    ),
    ("optimized: pages of this size cannot be optimised", [host(struct_page_size=56)]),
    (
        "host: its rows differ in",
        [host(), host(hugepage_size=GIB, pages=1, optimized=0, memory=65 * GIB)],
    ),
    (
        "host: its rows differ in",
        [host(), host(hugepage_size=GIB, pages=1, optimized=0, group="db")],
    ),
    (
        "host: its rows differ in",
        [host(), host(hugepage_size=GIB, pages=1, optimized=0, gate=None)],
    ),
    ("host: two rows for the same pool", [host(), host()]),
    ("host: two rows for the same pool", [host(node=1), host(node=1, pages=10, optimized=0)]),
    ("host: two rows for the same pool", [HOST, HOST]),
    ("host: rows for all nodes and for single nodes", [host(), host(node=0)]),
    (
        "host: its pools together are larger than memory",
        [host(pages=20_000), host(hugepage_size=GIB, pages=30, optimized=0)],
    ),
]
"""The reason, and rows of one host that are rejected for it."""
GOOD = host(host="good", group="good")


@pytest.mark.parametrize(
    ("reason", "rows"), BAD, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_row_that_cannot_be_right(reason, rows, tmp_path):
    """It alone is rejected, for this reason, on this line; the rest is as if it were not there."""
    result = hvo(write_csv([GOOD, *rows], tmp_path / "x.csv"), "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"hvo fleet: {len(rows)} of {len(rows) + 1} rows rejected: --rejects FILE writes them"
        " down\n"
    )
    assert [(row["reason"].startswith(reason), row["rows"]) for row in said["rejects"]] == [
        (True, len(rows))
    ], said["rejects"]
    assert [row["line"] for row in said["first_rejects"]] == list(range(3, 3 + len(rows)))[:5]
    assert (said["hosts"], said["saved"], said["rejected"], said["rows"]) == (
        1,
        400 * SAVED,
        len(rows),
        len(rows) + 1,
    )


def test_every_rule_is_broken_by_some_row():
    """But numbers below 0, which text cannot say, and lines that are no rows."""
    broken = {
        sentence
        for sentence in SENTENCES.values()
        for reason, _ in BAD
        if sentence.startswith(reason)
    }
    elsewhere = {"the line is no row", "pages: fewer than none", "node: below 0"}
    assert set(SENTENCES.values()) - broken == elsewhere


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"pages": -1, "optimized": 0}, "pages: fewer than none"),
        ({"node": -1}, "node: below 0"),
        ({"memory": -GIB}, "memory: expected"),
        ({"optimized": -1}, "optimized: expected 0"),
        ({"page_size": -4096}, "page_size: expected a power"),
        ({"page_size": 0}, "page_size: expected a power"),
        ({"hugepage_size": -(2 * MIB), "optimized": 0}, "hugepage_size: expected"),
        ({"hugepage_size": 1 << 62}, "pages: the pool is larger"),
        ({"memory": (1 << 63) - 1}, "memory: expected"),
        ({"pages": (1 << 63) - 1}, "pages: the pool is larger"),
    ],
)
def test_numbers_that_only_parquet_can_say(values, reason, tmp_path):
    """Below 0, and so large that products do not fit: rejected, and nothing fails."""
    from inventories import write_parquet

    said = ask(write_parquet([GOOD, host(**values)], tmp_path / "x.parquet"))
    assert [(row["reason"].startswith(reason), row["rows"]) for row in said["rejects"]] == [
        (True, 1)
    ], said["rejects"]
    assert [row["line"] for row in said["first_rejects"]] == [2]
    assert said["saved"] == 400 * SAVED


def test_a_bad_row_of_a_host_leaves_its_others(tmp_path):
    """What the others say is still known."""
    said = answer([host(), host(hugepage_size=3 * MIB, optimized=0)], tmp_path)
    assert (said["hosts"], said["rejected"], said["saved"]) == (1, 1, 400 * SAVED)


@pytest.mark.parametrize("name", ["rejects.csv", "rejects.parquet"])
def test_the_table_of_rejects(name, tmp_path):
    """File, line and reason of every one, in order, and what it said, word for word."""
    rows = [
        GOOD,
        host(host="b", memory="64 gigs"),
        host(host="c", gate="perhaps"),
        GOOD | {"host": "d"},
        host(host="e", pages=-3),
    ]
    path, target = write_csv(rows, tmp_path / "x.csv"), tmp_path / name
    result = hvo(path, "--rejects", target)
    assert (result.exit_code, result.stderr) == (
        1,
        f"hvo fleet: 3 of 5 rows rejected: see {target}\n",
    )
    found = (
        list(csv.DictReader(target.open()))
        if name.endswith(".csv")
        else pq.read_table(target).to_pylist()
    )
    assert {row["file"] for row in found} == {str(path)}
    assert [(int(row["line"]), row["host"]) for row in found] == [(3, "b"), (4, "c"), (6, "e")]
    assert (found[0]["memory"], found[1]["gate"], found[2]["pages"]) == ("64 gigs", "perhaps", "-3")
    assert [row["reason"].partition(":")[0] for row in found] == ["memory", "gate", "pages"]


def test_no_rejects_is_an_empty_table(tmp_path):
    """The table is there, with its columns, and it exits 0."""
    result = hvo(write_csv([GOOD], tmp_path / "x.csv"), "--rejects", tmp_path / "rejects.csv")
    assert result.exit_code == 0
    assert (tmp_path / "rejects.csv").read_text().count("\n") == 1


def test_lines_of_csv_that_are_no_rows(tmp_path):
    """Too few and too many fields are rejected with their line; empty lines are none; lines after
    them keep their numbers.
    """
    path = write_csv([GOOD, host(host="late", gate="perhaps")], tmp_path / "x.csv")
    header, good, late = path.read_text().splitlines()
    path.write_text("\n".join([header, "a,b", "", good, good + ",more", ",,,", "", late, ""]))
    said = ask(path)
    assert [(row["line"], row["reason"][:20]) for row in said["first_rejects"]] == [
        (2, "expected 16 fields, "),
        (5, "expected 16 fields, "),
        (6, "expected 16 fields, "),
        (8, "gate: expected true "),
    ]
    assert (said["rows"], said["hosts"]) == (5, 1)


def test_lines_of_json_that_are_no_rows(tmp_path):
    """No JSON, no object, cut short; empty lines are none."""
    path = write_json_lines([GOOD, host(host="late", gate="perhaps")], tmp_path / "x.jsonl")
    good, late = path.read_text().splitlines()
    path.write_text("\n".join(["", good, "[1, 2]", good[:-5], "  ", late, "7"]))
    said = ask(path)
    assert [(row["line"], row["reason"][:14]) for row in said["first_rejects"]] == [
        (3, "no JSON object"),
        (4, "no JSON object"),
        (6, "gate: expected"),
        (7, "no JSON object"),
    ]
    assert (said["rows"], said["hosts"]) == (5, 1)


def test_lines_are_right_across_blocks(tmp_path, monkeypatch):
    """Bad lines at random places of a file that is read in many blocks: each is told with its own
    number, none is lost.
    """
    from hvo.fleet import text_files

    monkeypatch.setattr(text_files, "_BLOCK", 4096)
    draw = random.Random(5)
    good = write_csv([GOOD], tmp_path / "x.csv").read_text().splitlines()
    lines, bad = [good[0]], []
    for number in range(2, 3000):
        kind = draw.choice(["good", "good", "good", "short", "empty", "gate"])
        named, gate = good[1].replace("good", f"h{number}", 1), good[1].replace("on", "no!", 1)
        lines.append({"good": named, "short": "a,b", "empty": "", "gate": gate}[kind])
        bad += [number] if kind in ("short", "gate") else []
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    hvo(tmp_path / "x.csv", "--rejects", tmp_path / "rejects.csv")
    assert [int(row["line"]) for row in csv.DictReader((tmp_path / "rejects.csv").open())] == bad


def test_columns_that_nobody_knows_are_passed_over(tmp_path):
    """Also one that is called as something of ours is."""
    path = tmp_path / "x.csv"
    names, values = (
        [*NAMES, "rack", "hosts", "problem"],
        [*(POOL.get(name, "") for name in NAMES), "r7", "many", "none"],
    )
    path.write_text(
        ",".join(names)
        + "\n"
        + ",".join("on" if value is True else str(value) for value in values)
        + "\n"
    )
    assert ask(path)["saved"] == 400 * SAVED


def test_rejects_of_a_directory_name_their_file(tmp_path):
    """The row's number in its own file."""
    from inventories import write_parquet

    write_parquet([GOOD], tmp_path / "a.parquet")
    write_parquet([GOOD | {"host": "x"}, host(host="y", node=-1)], tmp_path / "b.parquet")
    said = ask(tmp_path)
    assert [(Path(row["file"]).name, row["line"]) for row in said["first_rejects"]] == [
        ("b.parquet", 2)
    ]
    assert said["hosts"] == 2
