"""`hvo report`: what it reads and refuses, that a page is whole, holds its results, and cannot be
broken by what it shows.
"""

import json
import os
import re
import stat
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_files import hvo

from hvo.errors import HvoError
from hvo.report.page import page
from hvo.report.results import read_results

KINDS = ("run", "scenario", "audit", "defect", "check", "proposals", "plan", "comparison", "fleet")
EVIL = (
    "</script><script>alert(1)</script><img src=x"
    " onerror=alert(1)>\"'&<!--]]>\u2028\ud800\x00\x08\x1b"
)


class _Page(HTMLParser):
    """The tags of a page, what it would load, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.loads, self.ids, self.handlers = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value
            for key, value in attrs
            if key in ("src", "href", "xlink:href") and not value.startswith("#")
        ]
        self.ids += [value for key, value in attrs if key == "id"]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]


def made(results, tmp_path, *names: str) -> str:
    """The page of the results `names`."""
    target = tmp_path / "page.html"
    outcome = hvo("report", *(results[name] for name in names), "-o", target)
    assert outcome.exit_code == 0, outcome.output
    return target.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KINDS)
def test_each_result_becomes_a_page_that_loads_nothing(results, tmp_path, name):
    """One document; no address of anything elsewhere; two scripts, of which one is data; every id
    once.
    """
    text = made(results, tmp_path, name)
    parsed = _Page(text)
    assert text.startswith("<!doctype html>")
    assert not parsed.loads
    assert "://" not in text
    assert parsed.tags.count("script") == 2
    assert parsed.tags.count("h1") == 1
    assert len(parsed.ids) == len(set(parsed.ids))


@pytest.mark.parametrize("name", KINDS)
def test_a_page_turns_back_into_its_results(results, tmp_path, name):
    """`hvo report PAGE --json` prints what the page was made of, value for value."""
    made(results, tmp_path, name)
    outcome = hvo("report", tmp_path / "page.html", "--json")
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout)["reports"] == [json.loads(results[name].read_text())]


def test_several_results_are_several_sections(results, tmp_path):
    """In their order, with a list of them in front that leads to each."""
    text = made(results, tmp_path, "run", "defect", "check")
    assert re.findall(r'<p class="kicker">hvo (\w+)</p>', text) == ["run", "audit", "check"]
    assert re.findall(r'<a href="#(result-\d)">', text) == ["result-1", "result-2", "result-3"]
    assert text.count("<h1>") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "run",
            (
                "300 pages of 2MiB on arm64 with 1GiB",
                "8400KiB",
                "all 8 guarantees hold",
                "hvo run --memory 1GiB --pages 300 --json",
            ),
        ),
        ("scenario", ("grown", "shrunk", "nr_memmap_pages")),
        (
            "defect",
            ("50 errors", "840KiB", "1680KiB", "100MiB", "50 huge pages, 350 frames", "lost-page"),
        ),
        ("audit", ("no findings", "Nothing was found to be wrong.")),
        ("check", ("unsafe", "access-freed", "hvo check --replay ")),
        ("plan", ("600 pages of 1GiB, 1,000 pages of 2MiB", "58.75 %", "5.14", "6.2")),
        ("comparison", ("loongarch64 16KiB, 32MiB", "8190MiB")),
        (
            "fleet",
            (
                "3 hosts",
                "14GiB still possible",
                "1 row rejected",
                "By group",
                "switch on",
                "896MiB",
                "the pool is larger than memory",
            ),
        ),
    ],
)
def test_the_page_says_what_the_result_says(results, tmp_path, name, said):
    """The question, the answer in numbers, the findings and the command."""
    text = made(results, tmp_path, name)
    assert not [words for words in said if words not in text]


def test_a_result_says_which_command_made_it(results):
    """As it was called, quoted for a shell, wherever it was called from."""
    assert (
        json.loads(results["run"].read_text())["command"]
        == "hvo run --memory 1GiB --pages 300 --json"
    )
    assert (
        json.loads(
            hvo(
                "run", "--cmdline", "hugepagesz=2M hugepages=3", "--memory", "1GiB", "--json"
            ).stdout
        )["command"]
        == "hvo run --cmdline 'hugepagesz=2M hugepages=3' --memory 1GiB --json"
    )
    assert json.loads(results["check"].read_text())["command"].startswith(
        "hvo check 5.14+split-lock-read "
    )


@pytest.mark.parametrize("command", [("run", "--memory", "256MiB"), ("audit", "defect")])
def test_html_of_a_command_is_the_page_of_its_result(results, tmp_path, command):
    """There is one page, whether the command or hvo report writes it."""
    words = (
        [json.loads(results["defect"].read_text())["command"].split()[2]]
        if command[0] == "audit"
        else command[1:]
    )
    outcome = hvo(command[0], *words, "--html", tmp_path / "own.html", "--json")
    (tmp_path / "result.json").write_text(outcome.stdout)
    assert hvo("report", tmp_path / "result.json", "-o", tmp_path / "report.html").exit_code == 0
    assert (tmp_path / "own.html").read_bytes() == (tmp_path / "report.html").read_bytes()


# -- hostile text --


def _poisoned(value: object) -> object:
    """`value` with hostile text in place of every text that is free, in keys of counters too."""
    if isinstance(value, dict):
        return {key: _poisoned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_poisoned(inner) for inner in value]
    return EVIL if isinstance(value, str) else value


@pytest.mark.parametrize("name", KINDS)
def test_no_text_becomes_markup(results, tmp_path, name):
    """Every text in a result hostile: the page has no tag that the house did not write, and still
    holds the result.
    """
    poisoned = _poisoned(json.loads(results[name].read_text()))
    if name == "scenario":
        poisoned["snapshots"][0]["counters"][EVIL] = 1
    (tmp_path / "evil.json").write_text(json.dumps(poisoned))
    results = results | {"evil": tmp_path / "evil.json"}
    text = made(results, tmp_path, "evil")
    parsed = _Page(text)
    assert parsed.tags.count("script") == 2
    assert "img" not in parsed.tags
    assert not parsed.handlers
    assert json.loads(hvo("report", tmp_path / "page.html", "--json").stdout)["reports"] == [
        poisoned
    ]


# -- what is refused --


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"hello": 1}',
        '{"a": NaN}',
        "\x00",
        "[" * 100_000,
        '{"saved": ' + "9" * 5000 + "}",
        "<!doctype html><title>another page</title>",
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text):
    """Exit 2 and one line that names the file and what is accepted."""
    (tmp_path / "bad.json").write_text(text)
    outcome = hvo("report", tmp_path / "bad.json", "-o", tmp_path / "page.html")
    assert outcome.exit_code == 2
    assert outcome.stderr.count("\n") == 1
    assert str(tmp_path / "bad.json") in outcome.stderr
    assert "hvo run" in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


def test_files_that_cannot_be_read_or_written(results, tmp_path):
    """Absent, a directory, no text, no place to write: 2 and one line."""
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{}")
    for words in ((tmp_path / "absent.json",), (tmp_path,), (tmp_path / "binary.json",)):
        outcome = hvo("report", *words, "-o", tmp_path / "page.html")
        assert (outcome.exit_code, outcome.stderr.count("\n")) == (2, 1)
        assert str(words[0]) in outcome.stderr
    assert hvo("report", results["run"], "-o", tmp_path / "no/page.html").exit_code == 2
    assert "-o FILE, or --json" in hvo("report", results["run"]).stderr


_WRONG = st.sampled_from(
    [None, -1, 1 << 200, 1e999, True, "text", [], [1], [None], {}, {"a": 1}, [{}], [[1]]]
)


def _places(value: object, path: tuple = ()):
    """Where values are in `value`, lists by their first two elements."""
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:2])
        if isinstance(value, list)
        else ()
    )
    for key, below in inner:
        yield from _places(below, (*path, key))


def _with(value, path: tuple, wrong: object):
    """A copy of `value` that has `wrong` at `path`."""
    if not path:
        return wrong
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], wrong)
    return copy


def _page_or_complaint(result: object) -> bool:
    """Whether `result` becomes a whole page, or is refused in one line that names its file."""
    try:
        return (
            _Page(page(list(read_results(json.dumps(result), "given.json")))).tags.count("script")
            == 2
        )
    except HvoError as error:
        return "given.json" in str(error) and "\n" not in str(error)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), name=st.sampled_from(KINDS), wrong=_WRONG)
def test_a_wrong_value_anywhere_is_an_error_or_a_page(results, data, name, wrong):
    """No value of another kind or size at any place is anything but a page or a one-line error that
    names the file.
    """
    whole = json.loads(results[name].read_text())
    path = data.draw(st.sampled_from(sorted(_places(whole), key=str)))
    assert _page_or_complaint(_with(whole, path, wrong))


# -- writing --


def test_standard_input(results, tmp_path):
    """`-` is standard input."""
    from click.testing import CliRunner

    from hvo.cli.main import main

    outcome = CliRunner().invoke(
        main, ["report", "-", "-o", str(tmp_path / "page.html")], input=results["run"].read_bytes()
    )
    assert outcome.exit_code == 0, outcome.output
    assert "300 pages of 2MiB" in (tmp_path / "page.html").read_text()


def test_a_page_is_replaced_as_a_whole(results, tmp_path):
    """A reader of the old page keeps the old one to its end; a link stays one; nothing is left
    beside it.
    """
    target, link = tmp_path / "page.html", tmp_path / "link.html"
    target.write_text("old")
    link.symlink_to(target)
    with target.open() as reader:
        assert hvo("report", results["run"], "-o", link).exit_code == 0
        assert reader.read() == "old"
    assert link.is_symlink()
    assert target.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "page.html"]


def test_a_pipe_is_written_to_and_not_replaced(results, tmp_path):
    """What is no file stays what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, False)
    outcome = hvo("report", results["proposals"], "-o", pipe)
    assert outcome.exit_code == 0, outcome.output
    assert os.read(reader, 15) == b"<!doctype html>"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_without_the_extra(results, tmp_path, monkeypatch):
    """A page that needs a chart says in one line what is missing; one that needs none is made."""
    monkeypatch.setitem(sys.modules, "altair", None)
    outcome = hvo("report", results["comparison"], "-o", tmp_path / "page.html")
    assert (outcome.exit_code, outcome.stderr) == (
        2,
        "hvo report needs altair: pip install 'hvo[report]'\n",
    )
    assert not (tmp_path / "page.html").exists()
    assert hvo("report", results["run"], "-o", tmp_path / "page.html").exit_code == 0
