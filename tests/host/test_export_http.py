"""`hvo export` over HTTP: the same samples as in the file, for any client, without privileges, at
full speed, and an end with 0.
"""

import gzip
import os
import signal
import socket
import subprocess
import sys
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from exporters import HOSTS, HVO, exported, exporter, get, parsed, scrape
from host_trees import MIB, Host

from hvo.cli.main import main

pytest.importorskip(
    "prometheus_client", reason="prometheus-client is not installed: pip install 'hvo[export]'"
)


def test_http_gives_the_same_and_ends_with_0(tmp_path):
    """The same samples but for the reading's own time, as OpenMetrics too; SIGTERM and SIGINT end
    it with 0 and no word.
    """
    root = HOSTS["exact"].write(tmp_path / "host").root
    file = exported(root, tmp_path / "hvo.prom")
    for number in (signal.SIGTERM, signal.SIGINT):
        with exporter(root) as running:
            plain = parsed(running.get())
            openmetrics = running.get(Accept="application/openmetrics-text; version=1.0.0")
            assert scrape(running.port).startswith(b"HTTP/1.0 200 OK")
            assert running.stop(number) == (0, "")
        del plain["hvo_scrape_duration_seconds", ()], plain["hvo_scrape_errors_total", ()]
        assert plain == {
            key: value for key, value in file.items() if key[0] != "hvo_scrape_duration_seconds"
        }
        assert openmetrics.endswith("# EOF\n")


def test_the_running_host():
    """The real procfs and sysfs are exported as they are; other tests may change pools meanwhile,
    so only the kernel is compared.
    """
    with exporter(Path("/")) as running:
        found = parsed(running.get())
    assert get(found, "hvo_scrape_success") == 1
    assert [dict(labels)["release"] for name, labels in found if name == "hvo_kernel_info"] == [
        os.uname().release
    ]


def test_gzip_and_other_methods(tmp_path):
    """Compressed where asked for, with the same text inside; a method that is not GET is refused,
    and not for those after it.
    """
    with exporter(HOSTS["exact"].write(tmp_path).root) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")
            answer = connection.makefile("rb").read()
        assert b"hvo_scrape_success 1.0" in gzip.decompress(answer.split(b"\r\n\r\n", 1)[1])
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(b"POST /metrics HTTP/1.0\r\n\r\n")
            assert b" 405 " in connection.makefile("rb").readline()
        assert "hvo_scrape_success 1.0" in running.get()


def test_the_exporter_outlives_a_failure(tmp_path):
    """Over HTTP: 200 with success 0, one line on standard error however often it is scraped, and
    the process goes on.
    """
    root = HOSTS["exact"].write(tmp_path).root
    (root / "proc/vmstat").unlink()
    with exporter(root) as running:
        answers = [parsed(running.get()) for _ in range(3)]
        assert {get(answer, "hvo_scrape_success") for answer in answers} == {0}
        status_and_errors = running.stop()
    assert status_and_errors[0] == 0
    assert status_and_errors[1].count("\n") == 1
    assert "vmstat" in status_and_errors[1]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "HOST:PORT"),
        (["--listen", "192.0.2.1:9750"], "cannot listen on 192.0.2.1"),
        (["--listen", "127.0.0.1:0", "--textfile", "x.prom"], "exclude"),
    ],
)
def test_addresses_that_cannot_be(words, word, tmp_path):
    """Exit 2 and one line."""
    Host().write(tmp_path)
    done = subprocess.run(
        [*HVO, "export", "--root", tmp_path, *words], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n"), word in done.stderr) == (
        2,
        1,
        True,
    ), done.stderr


def test_a_taken_port_is_one_line(tmp_path):
    """Two exporters on one port: the second says so and exits 2."""
    Host().write(tmp_path)
    with exporter(tmp_path) as running:
        words = ["export", "--root", tmp_path, "--listen", f"127.0.0.1:{running.port}"]
        done = subprocess.run([*HVO, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n"), "in use" in done.stderr) == (2, 1, True)


def test_it_listens_on_loopback_unless_told_otherwise(tmp_path):
    """The default address is 127.0.0.1:9750; one of IPv6 works where the host has it; the socket is
    bound to what was asked for only.
    """
    Host().write(tmp_path)
    help_text = " ".join(CliRunner().invoke(main, ["export", "--help"]).stdout.split())
    assert "[default: 127.0.0.1:9750]" in help_text
    with (
        exporter(tmp_path, "--listen", "127.0.0.2:0") as running,
        pytest.raises(urllib.error.URLError),
    ):
        running.get()
    try:
        with socket.socket(socket.AF_INET6) as free:
            free.bind(("::1", 0))
    except OSError:
        return
    with (
        exporter(tmp_path, "--listen", "[::1]:0") as running,
        socket.create_connection(("::1", running.port)) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b" 200 " in connection.makefile("rb").readline()


def test_without_privileges(tmp_path):
    """Another user, who may not gain privileges and read no other processes: everything is
    exported.
    """
    if os.geteuid():
        pytest.skip("only root can become another user")
    root = HOSTS["two nodes"].write(tmp_path / "host").root
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (root / "run/hvo").mkdir(parents=True)
    (root / "run/hvo").chmod(0o700)  # as a conversion leaves it behind when root's umask is 077
    words = (
        "cli.main",
        "cli.export",
        "host.metrics",
        "host.metrics_table",
        "report.metrics",
        "report.metrics_http",
    )
    load = ", ".join(
        f"hvo.{word}" for word in words
    )  # before the change: the new user may not be able to read Python itself
    code = (
        f"import encodings.idna, os, sys, {load}; os.setgroups([]); os.setgid(65534);"
        " os.setuid(65534); hvo.cli.main.main()"
    )
    with exporter(root, command=[sys.executable, "-c", code]) as running:
        assert get(parsed(running.get()), "hvo_hugetlb_optimized_pages", size="2MiB") == 35
        assert running.stop() == (0, "")


def test_scraping_at_full_speed_does_not_grow_memory(tmp_path):
    """4000 scrapes after 2000 to warm up, each on a connection of its own: less than 1 MiB more,
    and every answer is whole.
    """
    with (
        exporter(HOSTS["two nodes"].write(tmp_path).root) as running,
        ThreadPoolExecutor(2) as pool,
    ):

        def many(number: int) -> int:
            whole = (b"hvo_scrape_success 1.0\n" in scrape(running.port) for _ in range(number))
            return sum(whole)

        assert sum(pool.map(many, [1000, 1000])) == 2000
        before = running.resident()
        assert sum(pool.map(many, [2000, 2000])) == 4000
        assert running.resident() - before < MIB


def test_a_client_that_says_nothing_does_not_stop_others(tmp_path):
    """Ten connections without a request are open while another is answered, and the exporter ends
    at once.
    """
    with exporter(HOSTS["exact"].write(tmp_path).root) as running:
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(10)]
        assert "hvo_scrape_success 1.0" in running.get()
        assert running.stop() == (0, "")
        for connection in silent:
            connection.close()
