"""What tests of `hvo export` need: exporters and Prometheus servers as processes, and their
answers.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from host_trees import GIB, MIB, Host, NodePool

from hvo.cli.main import main

NODES = {0: NodePool(30, 20, 4), 1: NodePool(10, 10)}
HOSTS = {
    "exact": Host(
        pools={2 * MIB: {0: NodePool(50, 40)}, GIB: {0: NodePool()}},
        memmap=(100, 98204 - 7 * 50),
        reserved=3,
    ),
    "two nodes": Host(
        pools={2 * MIB: NODES, GIB: {0: NodePool(), 1: NodePool()}}, memmap=(0, 98304 - 7 * 35)
    ),
    "no counters": Host(pools={2 * MIB: NODES}, memmap=None),
    "contradiction": Host(pools={2 * MIB: NODES}, memmap=(0, 98303)),
    "defect": Host(release="6.12.117", pools={2 * MIB: {0: NodePool(5, 5)}}),
    "cannot": Host(
        arch="arm64", release="6.6.1", gate=None, options=None, pools={2 * MIB: {0: NodePool(5, 5)}}
    ),
}
"""Hosts of every kind."""

HVO = [sys.executable, "-c", "from hvo.cli.main import main; main()"]
TIMEOUT = 60
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and sorted labels."""


class Exporter(NamedTuple):
    """A running exporter."""

    process: subprocess.Popen
    port: int

    def get(self, path: str = "/metrics", **headers: str) -> str:
        """What it answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return answer.read().decode()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it -> exit status and standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, errors

    def resident(self) -> int:
        """Bytes of anonymous memory it has now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


@contextmanager
def exporter(root: Path, *words: str, command: list[str] = HVO) -> Iterator[Exporter]:
    """An exporter of the host in `root`, on a free port."""
    given = [
        *command,
        "export",
        "--root",
        str(root),
        "--json",
        *(words or ("--listen", "127.0.0.1:0")),
    ]
    with subprocess.Popen(
        given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield Exporter(process, json.loads(line)["listen"]["port"])
        finally:
            process.kill()


def scrape(port: int) -> bytes:
    """One scrape over a connection of its own, as cheap as can be."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def parsed(text: str) -> Samples:
    """The samples of a text in Prometheus' format."""
    samples: Samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
            samples[name, tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")))] = (
                float(value)
            )
    return samples


def program(name: str) -> str:
    """The path of a program, or a skip that says that it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no program {name} here (Debian package prometheus)")
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Prometheus(NamedTuple):
    """A running server."""

    port: int

    def ask(self, path: str, **parameters: str) -> dict:
        """What its HTTP API answers; raises `OSError` while it is not there, and for a query that
        it refuses.
        """
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of an expression now."""
        found = self.ask("query", query=expression)
        assert found["resultType"] == "vector"
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    def wait_for(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The same once there is something."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                if found := self.query(expression):
                    return found
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"no answer to {expression}")


@contextmanager
def prometheus(directory: Path, targets: list[int], rules: Path) -> Iterator[Prometheus]:
    """A server that scrapes the exporters at `targets` every 200 ms and knows `rules`; its data is
    in `directory`.
    """
    port = free_port()
    configuration = directory / "prometheus.yml"
    addresses = [f"127.0.0.1:{target}" for target in targets]
    jobs = {"job_name": "hvo", "static_configs": [{"targets": addresses}]}
    whole = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [jobs],
    }
    configuration.write_text(json.dumps(whole))  # JSON is YAML
    options = {
        "config.file": configuration,
        "storage.tsdb.path": directory / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    command = [program("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    with (
        (directory / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield Prometheus(port)
        finally:
            process.terminate()


def status(root: Path) -> dict:
    """What `hvo status --json` says."""
    return json.loads(CliRunner().invoke(main, ["status", "--root", str(root), "--json"]).stdout)


def exported(root: Path, file: Path) -> dict:
    """What `hvo export --textfile` writes, by name and labels."""
    assert (
        CliRunner().invoke(main, ["export", "--root", str(root), "--textfile", str(file)]).exit_code
        == 0
    )
    return parsed(file.read_text())


def get(found: dict, name: str, **labels: object) -> float | None:
    """One value; `None` where there is none."""
    return found.get((name, tuple(sorted((key, str(value)) for key, value in labels.items()))))
