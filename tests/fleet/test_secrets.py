"""A password in the address of a database is in no output: JSON, text, rejects, pages, errors, in
every form of every command that takes one.
"""

import json
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvo.cli.main import main

SECRET = "Zq9secret"
FAILING = (
    "postgresql://u:{}@localhost/db",
    "mysql://u:{}@h:3306/db?ssl=1",
    "nosuch://u:{}@h",
    "clickhouse://u:{}@h:99999/db",
    "duckdb://u:{}@/nowhere/x.duckdb",
    "sqlite:///nowhere/x.db?password={}",
    "sqlite:///nowhere/x.db?pass%77ord={}&a=1",
    "nosuch://host/db?user=u;token={}",
    "s3://AKIAABCDEFGHIJKLMNOP:{}@bucket/x.parquet",
    "md:fleet?motherduck_token={}",
    "host=h user=u password={}",
    "host=h password='{} and more' user=u",
    "Driver=x;Server=h;PWD={{{}}};",
    "postgresql://u:a {} b@h/db",
    "postgresql://u:p/{}?x@h/db",
)
"""Addresses that cannot be opened here."""


def hvo(*words: object) -> Result:
    """The outcome of a command."""
    return CliRunner().invoke(main, list(map(str, words)), prog_name="hvo")


@pytest.fixture
def address(tmp_path: Path) -> str:
    """An address with a secret that can be opened: SQLite takes all behind the slashes for a path.
    One of its rows is rejected.
    """
    place = tmp_path / f"user:{SECRET}@host"
    place.mkdir()
    with sqlite3.connect(place / "fleet.db") as database:
        database.execute("CREATE TABLE inventory (host, arch, kernel, page_size, memory)")
        rows = [(name, "x86_64", "6.1", size, "64GiB") for name, size in (("a", 4096), ("b", 4095))]
        database.executemany("INSERT INTO inventory VALUES (?, ?, ?, ?, ?)", rows)
    database.close()
    return f"sqlite://{place}/fleet.db"


def test_answers_and_all_that_is_made_of_them(address, tmp_path):
    """Text, JSON, rejects as CSV and Parquet, and pages of it, also of what 0.1.0 has printed."""
    outputs = [hvo("fleet", address)]
    for name in ("rejects.csv", "rejects.parquet"):
        outputs.append(hvo("fleet", address, "--json", "--rejects", tmp_path / name))
        assert outputs[-1].exit_code == 1, outputs[-1].stderr
        data = (tmp_path / name).read_bytes()
        assert b"file" in data
        assert SECRET.encode() not in data
    said = json.loads(outputs[-1].stdout)
    assert said["inventory"] == said["first_rejects"][0]["file"].split()[0]
    assert said["inventory"].startswith("sqlite:///")
    assert "***@host" in said["inventory"]
    old = {**said, "inventory": address, "command": f"hvo fleet {address} --json"}
    old["first_rejects"] = [{**said["first_rejects"][0], "file": f"{address} inventory"}]
    for number, found in enumerate((said, old)):
        (tmp_path / "said.json").write_text(json.dumps(found))
        page = tmp_path / f"{number}.html"
        outputs.append(hvo("report", tmp_path / "said.json", "-o", page, "--json"))
        assert outputs[-1].exit_code == 0, outputs[-1].stderr
        assert "***@host" in page.read_text()
        outputs.append(hvo("report", page, "--json"))
        assert SECRET not in page.read_text()
    for ended in outputs:
        assert SECRET not in ended.stdout + ended.stderr


@pytest.mark.parametrize("form", FAILING)
def test_errors(form):
    """As an inventory, a table, an engine, a file to collect and a result to report; text and
    JSON.
    """
    address = form.format(SECRET)
    forms = (
        ("fleet", address),
        ("fleet", "answer", address, "--table", "x"),
        ("fleet", "x.csv", "--engine", address),
        ("fleet", "collect", address, "-o", "x.csv"),
        ("fleet", address, "--rejects", address),
        ("fleet", "generate", "--hosts", "1", "-o", f"nowhere/{address}"),
        ("report", address, "--json"),
        ("report", "x", "-o", f"nowhere/{address}"),
        ("audit", address),
        ("check", "--replay", address),
        ("status", "--root", address),
        ("status", "--audit", address),
        ("convert", address),
    )
    for words in forms:
        for more in ((), ("--json",)):
            ended = hvo(*words, *more)
            assert ended.exit_code == 2 or "--audit" in words, words
            assert SECRET not in ended.stdout + ended.stderr, words


def test_a_database_that_can_be_opened_and_not_read(address, tmp_path):
    """No such table, a missing column, no rows, a file that is no database."""
    path = Path(address.removeprefix("sqlite://"))
    said = [hvo("fleet", address, "--table", "missing").stderr]
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM inventory")
    said.append(hvo("fleet", address).stderr)
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE inventory DROP COLUMN arch")
    said.append(hvo("fleet", address).stderr)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (a)")
    database.close()
    said.append(hvo("fleet", address).stderr)
    path.write_bytes(b"no database at all" * 1000)
    said.append(hvo("fleet", address).stderr)
    for text in said:
        assert text.startswith("hvo: sqlite:///"), said
        assert SECRET not in text


def test_results_that_are_none(tmp_path):
    """Errors of `hvo report` quote what they found, and the name of the file."""
    values = {"hosts": f"postgresql://u:{SECRET}@h", "saved": 1, "possible": 1}
    place = tmp_path / f"u:{SECRET}@h"
    place.mkdir()
    for text in (json.dumps(values), f"postgresql://u:{SECRET}@h", "[]"):
        (place / "x.json").write_text(text)
        ended = hvo("report", f"file://{place}/x.json", "--json")
        assert ended.exit_code == 2
        assert SECRET not in ended.stdout + ended.stderr
        ended = hvo("report", place / "x.json", "-o", tmp_path / "x.html")
        assert ended.exit_code == 2
        assert f"u:{SECRET}@h" not in ended.stderr.replace(str(place), "")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.sampled_from(FAILING[:6]),
    st.booleans(),
)
def test_any_password(text, form, encoded):
    """Whatever is in it, encoded or not, with the error of the library that is given it."""
    secret = SECRET + text
    ended = hvo("fleet", form.format(quote(secret, safe="") if encoded else secret), "--json")
    assert ended.exit_code == 2
    assert SECRET not in ended.stdout + ended.stderr


def test_names_cannot_control_a_terminal(tmp_path):
    """Hosts, groups, kernels and files with control characters: escaped in every table and error,
    and one row each; markup is text.
    """
    evil = "e\x1b[2J\x07\n\u202e[/red]v"
    row = '"{0}{1}","{0}",x86_64,"6.1{0}",{2},64GiB\n'
    rows = [row.format(evil, 0, 4096), row.format(evil, 1, 4095)]
    path = tmp_path / f"fleet{evil.replace('/', '-')}.csv"
    path.write_text("host,group,arch,kernel,page_size,memory\n" + "".join(rows), newline="")
    ended = hvo("fleet", path)
    assert ended.exit_code == 1, ended.stderr
    missing = hvo("fleet", f"{path}x")
    for text in (ended.stdout, ended.stderr, missing.stderr):
        assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "e\\x1b[2J\\x07\\n\\u202e[/red]v" in ended.stdout
    assert missing.stderr.count("\n") == 1
    assert "\\x1b[2J\\x07\\n\\u202e" in missing.stderr
