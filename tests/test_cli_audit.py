"""`hvo audit` and `hvo ptdump`: what they print, how they exit, and what they say of bad input."""

import json
import lzma
import os
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from hvo.cli.main import main
from shared_files import CORES, SHARED, core, log, need, truth

KEYS = {
    "kernel",
    "arch",
    "page_size",
    "struct_page_size",
    "layout",
    "sections",
    "pools",
    "findings",
    "table_cost",
    "missing",
    "lost",
}
POOL_KEYS = {
    "size",
    "pages",
    "optimized",
    "partial",
    "flagged",
    "vmemmap_pages",
    "backing_frames",
    "saved",
    "possible",
    "nodes",
}
FINDING_KEYS = {"id", "severity", "pfn", "address", "message", "entry", "expected", "count"}


def run(*args):
    """The command's result."""
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ("name", "status"), [("x86-6.12-on", 0), ("arm64-6.1-4k-mixed", 0), ("bad-tail-writable", 1)]
)
def test_json(name, status):
    """One object with the keys of the contract; 1 where there are findings."""
    result = run("audit", core(name), "--json")
    assert result.exit_code == status
    out = json.loads(result.stdout)
    assert out.keys() >= KEYS
    assert all(pool.keys() >= POOL_KEYS for pool in out["pools"])
    assert [finding.keys() >= FINDING_KEYS for finding in out["findings"]] == [True] * status
    assert all(
        pool["saved"] + pool["possible"] == pool["pages"] * 7 * 4096 for pool in out["pools"]
    )


def test_a_packed_core():
    """As the reference material has them."""
    result = run("audit", need(SHARED / "cores/x86-7.3-on.elf.xz"), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["layout"] == "tail-shared"


def test_text():
    """The table has the numbers, the map the marks, and the finding names frame, address and
    entry.
    """
    result = run("audit", core("bad-tail-writable"))
    assert result.exit_code == 1
    for text in ("2MiB", "90", "head-shared", "tail-writable", "0x46800", "1 error", "✗", "█", "░"):
        assert text in result.stdout
    assert "no findings" in run("audit", core("arm64-6.1-4k-on")).stdout


class _Page(HTMLParser):
    """Collects what a page would load, and its data."""

    def __init__(self):
        super().__init__()
        self.loads, self.data, self._inside = [], "", False

    def handle_starttag(self, tag, attrs):
        self.loads += [value for key, value in attrs if key in ("src", "href")]
        self._inside = ("id", "results") in attrs

    def handle_data(self, data):
        self.data += data if self._inside else ""

    def handle_endtag(self, tag):
        self._inside = False


def test_html(tmp_path):
    """One page that loads nothing, with a cell for each part of the vmemmap and every finding."""
    page = tmp_path / "audit.html"
    assert run("audit", core("defect-x86-6.12.117-mixed"), "--html", page).exit_code == 1
    text = page.read_text()
    parser = _Page()
    parser.feed(text)
    assert not parser.loads
    assert "://" not in text
    (data,) = json.loads(parser.data)
    cells = data["cells"]
    assert len(cells["start"]) * cells["frames"] * data["page_size"] == 8 << 27
    assert sum(share > 0 for share in cells["findings"]) == text.count('<i class="finding">') == 50
    assert text.count('<span class="bad">error</span>') == 50
    assert (
        len(
            {
                len(cells[name])
                for name in ("start", "outside", "own", "shared", "findings", "unmapped")
            }
        )
        == 1
    )


def test_html_escapes_what_a_core_says(tmp_path):
    """The name of a kernel is text, whatever it holds."""
    data = bytearray(core("x86-7.3-on").read_bytes())
    release = re.search(rb"OSRELEASE=([^\n]*)", data)
    evil = b"</script><b>".ljust(len(release.group(1)), b"x")
    data[release.start(1) : release.end(1)] = evil
    (tmp_path / "evil.elf").write_bytes(data)
    assert run("audit", tmp_path / "evil.elf", "--html", tmp_path / "page.html").exit_code == 0
    assert "</script><b>" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    "name", [name for name in CORES if SHARED.exists() and truth()[name]["kernel_ptdump"]]
)
def test_ptdump(name):
    """What the kernel printed itself, byte for byte."""
    printed = (
        re.search(r"@@ ptdump\r?\n(.*?)@@ ptdump end", log(name), re.DOTALL)
        .group(1)
        .replace("\r", "")
    )
    result = run("ptdump", core(name))
    assert result.exit_code == 0
    assert result.stdout == printed
    assert json.loads(run("ptdump", core(name), "--json").stdout)["lines"] == printed.splitlines()


@pytest.mark.parametrize("command", ["audit", "ptdump"])
@pytest.mark.parametrize(
    "what", ["absent", "directory", "empty", "text", "cut", "packed", "other", "region"]
)
def test_bad_input(tmp_path, command, what):
    """2, and one line that names the file."""
    path = tmp_path / "core"
    data = core("arm64-6.1-64k-few").read_bytes()
    if what == "directory":
        path.mkdir()
    elif what == "other":
        path.write_bytes(data[:18] + b"\x15\0" + data[20:])
    elif what == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif what == "packed":
        path.write_bytes(lzma.compress(data, preset=0)[:5000])
    elif what != "absent":
        path.write_bytes({"empty": b"", "text": b"hello\n", "region": b""}[what])
    result = run(command, path)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert str(path) in result.stderr
    assert not result.stdout


def test_live_without_a_kernel():
    """Where the running kernel cannot be read, one line says why; where it can, this is an
    audit.
    """
    result = run("audit", "live", "--json")
    if os.path.exists("/proc/kcore") and os.access("/proc/kcore", os.R_OK):
        assert result.exit_code in (0, 1, 2)
    else:
        assert result.exit_code == 2
        assert "/proc/kcore" in result.stderr
    assert result.exit_code < 2 or result.stderr.count("\n") == 1
