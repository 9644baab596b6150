"""`hvo export --textfile`: readers see a whole file or the old one, and failures leave nothing
behind.
"""

import json
import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from exporters import HOSTS, HVO, exported, get, parsed
from host_trees import NR

from hvo.errors import HvoError
from hvo.host.metrics import Reader

pytest.importorskip(
    "prometheus_client", reason="prometheus-client is not installed: pip install 'hvo[export]'"
)
from hvo.report.metrics import write_textfile


def test_the_textfile_is_whole_or_old(tmp_path):
    """Mode 0644 whatever the umask, nothing left beside it; a name that nobody reads, no directory,
    and a directory: 2 and a line.
    """
    root = HOSTS["exact"].write(tmp_path / "host").root
    place = tmp_path / "textfile"
    place.mkdir()
    old = os.umask(0o077)
    try:
        exported(root, place / "hvo.prom")
    finally:
        os.umask(old)
    assert stat.S_IMODE((place / "hvo.prom").stat().st_mode) == 0o644
    assert os.listdir(place) == ["hvo.prom"]
    (place / "full.prom").mkdir()
    for bad, word in (
        (place / "hvo.txt", ".prom"),
        (tmp_path / "no/hvo.prom", "cannot write"),
        (place / "full.prom", "directory"),
    ):
        done = subprocess.run(
            [*HVO, "export", "--root", root, "--textfile", bad], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr.count("\n"), word in done.stderr) == (2, 1, True), (
            done.stderr
        )
    assert sorted(os.listdir(place)) == ["full.prom", "hvo.prom"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    """The disk is full when the new text is flushed: the old file is there, untouched, and nothing
    beside it.
    """
    reading = Reader(HOSTS["exact"].write(tmp_path / "host")).read()
    place = tmp_path / "textfile"
    place.mkdir()
    (place / "hvo.prom").write_text("old\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HvoError, match="No space left"):
        write_textfile(place / "hvo.prom", reading)
    assert [(path.name, path.read_text()) for path in place.iterdir()] == [("hvo.prom", "old\n")]


def test_readers_see_the_old_file_or_the_new_one(tmp_path):
    """While the file is replaced a hundred times, every read is a whole text: it has its first line
    and its last.
    """
    reader = Reader(HOSTS["exact"].write(tmp_path / "host"))
    file = tmp_path / "hvo.prom"
    write_textfile(file, reader.read())
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [write_textfile(file, reader.read()) for _ in range(100)])
        seen = []
        while not writing.done():
            seen.append(file.read_text())
        writing.result()
    assert seen
    assert all(
        text.startswith("# HELP hvo_build_info") and "\nhvo_scrape_duration_seconds " in text
        for text in seen
    )


def test_a_textfile_of_a_host_that_cannot_be_read(tmp_path):
    """It is written, says so, and the command exits 2 with the reason."""
    root = HOSTS["exact"].write(tmp_path / "host").root
    (root / NR).write_text("x\n")
    words = ["export", "--root", root, "--textfile", tmp_path / "hvo.prom", "--json"]
    done = subprocess.run([*HVO, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert json.loads(done.stdout)["success"] is False
    found = parsed((tmp_path / "hvo.prom").read_text())
    assert {name for name, _ in found} == {"hvo_scrape_success", "hvo_scrape_duration_seconds"}
    assert get(found, "hvo_scrape_success") == 0
