"""How many scrapes a second `hvo export` answers, and what memory they leave behind: `python
bench/export.py [SCRAPES [ROOT]]`.

Each scrape is a connection of its own, from two threads of this process, on the same machine; the
exporter is a process of its own.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from walk import cpu_name

WARM_UP = 2000
"""Scrapes before memory is looked at: allocators and caches fill once."""
CLIENTS = 2
REQUEST = b"GET /metrics HTTP/1.0\r\nAccept: text/plain;version=0.0.4\r\n\r\n"


@contextmanager
def exporter(root: str = "/") -> Iterator[tuple[int, int]]:
    """A running exporter: its process id and port."""
    words = ["export", "--listen", "127.0.0.1:0", "--root", root, "--json"]
    command = [sys.executable, "-c", "from hvo.cli.main import main; main()", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, json.loads(process.stdout.readline())["listen"]["port"]
        finally:
            process.terminate()


def scrape(port: int) -> int:
    """One scrape -> bytes of the answer."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(REQUEST)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    answer = b"".join(parts)
    assert answer.startswith(b"HTTP/1.0 200")
    assert b"\nhvo_scrape_success 1.0\n" in answer
    return len(answer)


def scrapes(port: int, number: int) -> float:
    """Do so many scrapes -> how many a second."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for each in [
            pool.submit(lambda: [scrape(port) for _ in range(number // CLIENTS)])
            for _ in range(CLIENTS)
        ]:
            each.result()
    return number / (time.perf_counter() - begun)


def resident(pid: int) -> int:
    """Bytes of anonymous memory that a process has now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    """Print the figures."""
    number, root = int((*sys.argv[1:], "10000")[0]), (*sys.argv[2:], "/")[0]
    with exporter(root) as (pid, port):
        scrapes(port, WARM_UP)
        before = resident(pid)
        rate = scrapes(port, number)
        grown, size = resident(pid) - before, scrape(port)
    print(f"machine: {cpu_name()}")
    print(
        f"{number} scrapes of {size} bytes: {rate:.0f} a second; anonymous memory {before >> 10}"
        f" KiB, {grown >> 10:+d} KiB afterwards"
    )


if __name__ == "__main__":
    main()
