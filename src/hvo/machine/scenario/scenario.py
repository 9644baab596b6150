"""Scenarios: a shell file that works a machine's pools, run by a real `sh`.

Its words are functions of `scenario.sh` that ask this process over two pipes, so loops, arithmetic
and variables are the shell's own. A word does what a write to the kernel's file would: `hvo 0|1` is
the run-time gate, `pool N` the default pool's nr_hugepages, `pool_of 2048kB N` another pool's,
`snap NAME` notes the counters, `$bb mount|fallocate|umount|rm` work on hugetlbfs. What the kernel
would refuse is a message on standard error and status 1, and the scenario goes on. Kernels before
5.19 have no run-time gate: there the word sets the machine's all the same, so that every era can be
driven.
"""

import os
import re
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from getopt import GetoptError, getopt
from pathlib import Path
from typing import IO, NamedTuple

from hvo.errors import HvoError
from hvo.machine.machine import Machine
from hvo.machine.scenario.hugetlbfs import Hugetlbfs, WordError

PRELUDE = Path(__file__).with_name("scenario.sh")
_HOST_FILES = re.compile(rb"^[^#\n]*?(/(?:proc|sys)/\S*)", re.MULTILINE)
_BUSYBOX_SUFFIX = {
    "": 1,
    "c": 1,
    "w": 2,
    "b": 512,
    "kB": 1000,
    "kD": 1000,
    "k": 1 << 10,
    "K": 1 << 10,
    "MB": 10**6,
    "MD": 10**6,
    "M": 1 << 20,
    "GB": 10**9,
    "GD": 10**9,
    "G": 1 << 30,
}


class Snapshot(NamedTuple):
    """The machine's counters, by the kernel's names, at one `snap`."""

    name: str
    counters: dict[str, int]


def run_scenario(machine: Machine, path: str | Path) -> list[Snapshot]:
    """Run the shell file `path` on `machine` -> its snapshots, between `boot` and `end`, which are
    taken by themselves.

    Raises HvoError for a file that cannot be read, that is no shell script, that ends with a
    failure of the shell, or that names files of the host's kernel or a busybox word that is not
    known.
    """
    file = Path(path).absolute()
    _check(file)
    words = Words(machine, file)
    words.snap("boot")
    with _shell(file) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        for arguments in _requests(shell.stdout):
            _reply(shell.stdin, words.ask(arguments))
        status = shell.wait()
    if status:
        raise HvoError(
            f"scenario {path}: the shell ended with status {status} before the end of the file"
        )
    words.snap("end")
    return words.snapshots


def _check(file: Path) -> None:
    """Refuse what cannot run, before anything does; raises HvoError."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise HvoError(f"scenario {file}: {error.strerror}; expected a shell file") from None
    if found := _HOST_FILES.search(text):
        line = text[: found.start(1)].count(b"\n") + 1
        raise HvoError(
            f"scenario {file}: line {line} names {found[1].decode(errors='replace')}, a file of"
            " this host's kernel; the machine is worked with hvo, pool, pool_of, snap and $bb"
        )
    parsed = subprocess.run(
        ["sh", "-n", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    if parsed.returncode:
        raise HvoError(f"scenario {' '.join(parsed.stderr.split()) or file}: expected a shell file")


@contextmanager
def _shell(file: Path) -> Generator[subprocess.Popen[bytes]]:
    """A shell that runs `file` with the words; it does not outlive the block."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("ENV", "BASH_ENV")
    }
    command = ["sh", str(PRELUDE), str(file)]
    shell = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        yield shell
    finally:
        shell.kill()
        shell.wait()
        for stream in (shell.stdin, shell.stdout):
            assert stream is not None
            stream.close()


def _requests(stream: IO[bytes]) -> Iterator[list[str]]:
    """The arguments of each word, as they come."""
    while count := _argument(stream):
        yield [_argument(stream) for _ in range(int(count))]


def _argument(stream: IO[bytes]) -> str:
    """Bytes up to the next NUL."""
    found = bytearray()
    while (byte := stream.read(1)) not in (b"\0", b""):
        found += byte
    return found.decode(errors="replace")


def _reply(stream: IO[bytes], message: str) -> None:
    stream.write(f"{1 if message else 0} {' '.join(message.split())}\n".encode())
    stream.flush()


class Words:
    """What the words of a scenario do to `machine`; `file` stands in messages."""

    def __init__(self, machine: Machine, file: Path) -> None:
        self.machine, self.file = machine, file
        self.hugetlbfs = Hugetlbfs(machine)
        self.snapshots: list[Snapshot] = []
        self._words: dict[str, Callable[[list[str]], None]] = {
            "hvo": self._hvo,
            "pool": self._pool,
            "pool_of": self._pool_of,
            "snap": lambda rest: self.snap(" ".join(rest[:1])),
            "mount": self._mount,
            "umount": self._umount,
            "fallocate": self._fallocate,
            "rm": self._rm,
        }

    def ask(self, arguments: list[str]) -> str:
        """Do one word -> the kernel's or busybox's message when it refuses, else nothing; raises
        HvoError for an unknown word.
        """
        word, *rest = arguments
        if word == "bb":
            word, rest = (rest[0], rest[1:]) if rest else ("", [])
            if word not in ("mount", "umount", "fallocate", "rm"):
                raise HvoError(
                    f"scenario {self.file}: $bb {word}: not known; there are $bb mount, fallocate,"
                    " umount and rm"
                )
        try:
            self._words[word](rest)
        except WordError as error:
            return str(error)
        except GetoptError as error:
            raise HvoError(f"scenario {self.file}: $bb {word}: {error}") from None
        return ""

    def snap(self, name: str) -> None:
        """Note the counters now."""
        self.snapshots.append(Snapshot(name, self.machine.counters()))

    def _hvo(self, rest: list[str]) -> None:
        if not self.machine.gate.built_in:
            raise WordError(
                f"{self.file}: can't create /proc/sys/vm/hugetlb_optimize_vmemmap: nonexistent"
                " directory"
            )
        self.machine.set_gate(self._number(rest) != 0)

    def _pool(self, rest: list[str]) -> None:
        self._resize(self.machine.default_size, rest)

    def _pool_of(self, rest: list[str]) -> None:
        name = "".join(rest[:1])
        sizes = {f"{size // 1024}kB": size for size in self.machine.pools}
        if name not in sizes:
            raise WordError(
                f"{self.file}: can't create /sys/kernel/mm/hugepages/hugepages-{name}/nr_hugepages:"
                " nonexistent directory"
            )
        self._resize(sizes[name], rest[1:])

    def _resize(self, size: int, rest: list[str]) -> None:
        """Write nr_hugepages; no pool can be larger than the machine, so a larger number is as good
        as that.
        """
        most = (
            sum(zone.present_pages for zone in self.machine.world.zones.zones)
            >> self.machine.pool(size).order
        )
        self.machine.resize(size, min(self._number(rest), most))

    def _number(self, rest: list[str]) -> int:
        if not rest or not re.fullmatch("[0-9]+", rest[0]):
            raise WordError(f"{self.file}: write error: Invalid argument")
        return int(rest[0])

    def _mount(self, rest: list[str]) -> None:
        flags, places = getopt(rest, "t:o:")
        options = ",".join(value for flag, value in flags if flag == "-o")
        if dict(flags).get("-t") != "hugetlbfs" or len(places) != 2:
            raise GetoptError("expected -t hugetlbfs [-o pagesize=SIZE,size=SIZE] none DIRECTORY")
        self.hugetlbfs.mount(places[0], places[1], options)

    def _umount(self, rest: list[str]) -> None:
        for point in getopt(rest, "lf")[1]:
            self.hugetlbfs.umount(point)

    def _fallocate(self, rest: list[str]) -> None:
        flags, paths = getopt(rest, "l:o:")
        sizes = {flag: _bytes(value) for flag, value in flags}
        if "-l" not in sizes or len(paths) != 1:
            raise GetoptError("expected [-o OFFSET] -l BYTES FILE")
        self.hugetlbfs.fallocate(paths[0], sizes.get("-o", 0), sizes["-l"])

    def _rm(self, rest: list[str]) -> None:
        flags, paths = getopt(rest, "rfR")
        for path in paths:
            try:
                self.hugetlbfs.remove(path)
            except WordError:
                if ("-f", "") not in flags:
                    raise


def _bytes(text: str) -> int:
    """A number with busybox's suffixes."""
    found = re.fullmatch(r"(-?[0-9]+)([a-zA-Z]*)", text)
    if found is None or found[2] not in _BUSYBOX_SUFFIX:
        raise GetoptError(f"invalid number '{text}'")
    return int(found[1]) * _BUSYBOX_SUFFIX[found[2]]
