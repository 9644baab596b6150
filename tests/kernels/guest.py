"""A guest: a kernel that is booted, driven by a shell scenario, and asked what it says about
itself.

run = Guest(debian_kernel("6.12"), 768, "hvo 1; pool 100").run(core)
run.snapshots["end"]["HugePages_Total"]
"""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kernels.initrd import initrd
from kernels.installed import Kernel
from kernels.qemu import Qmp, machine

Counters = dict[str, int]
_READY = b"@@ ready"
_HUGEPAGES = re.compile(r"/sys/kernel/mm/hugepages/hugepages-(\w+)/(\w+):(\d+)")
_COUNTER = re.compile(r"(\w+(?:\(\w+\))?):?\s+(\d+)(?: kB)?")


class Captured(NamedTuple):
    """What a command printed in the guest on standard output and on standard error, and its exit
    status.
    """

    text: str
    errors: str
    status: int


@dataclass(frozen=True)
class GuestRun:
    """What a guest said: `release` of its kernel, counters by name of the snapshot ("boot" and
    "end" are always there; kB where the kernel prints kB, those of a HugeTLB size as
    `nr_hugepages@2048kB`), captured commands, console, and seconds it took.
    """

    release: str
    snapshots: dict[str, Counters]
    captured: dict[str, Captured]
    console: str
    seconds: float


@dataclass(frozen=True)
class Guest:
    """A `kernel` with `memory_mib` of memory on `nodes` NUMA nodes, and `dimms` of so many MiB that
    are added, that runs `scenario` (its words are in init.sh); `image` is its disk.
    """

    kernel: Kernel
    memory_mib: int
    scenario: str
    image: Path | None = None
    append: str = ""
    nodes: int = 1
    dimms: tuple[int, ...] = ()

    def run(self, core: Path | None = None, *, limit: float = 240) -> GuestRun:
        """Boot it, wait for the scenario's end (`limit` seconds), save its memory as the ELF file
        `core`, and let it go.

        Raises `RuntimeError` with the end of the console when the guest does not get there.
        """
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            modules = ["qemu_fw_cfg", *(["virtio_pci", "virtio_blk"] if self.image else [])]
            (work / "initrd").write_bytes(initrd(self.kernel, self.scenario, modules))
            with machine(
                self.kernel,
                work,
                self.memory_mib,
                self.append,
                self.image,
                self.nodes,
                self.dimms,
            ) as process:
                report = _await_ready(process, work, started + limit)
                if core:
                    _save(work, core)
            return _parse(report, _text(work / "console"), time.monotonic() - started)


def _await_ready(process: subprocess.Popen[bytes], work: Path, deadline: float) -> str:
    while True:
        report = work / "report" if (work / "report").exists() else work / "console"
        if report.exists() and _READY in report.read_bytes():
            return _text(report)
        if process.poll() is not None or time.monotonic() > deadline:
            why = (
                "took too long"
                if process.returncode is None
                else f"ended with {process.returncode}"
            )
            told = "\n".join(
                _text(work / port)[-1500:] for port in ("console", "report", "emulator")
            )
            raise RuntimeError(f"the guest {why}; its last words:\n{told}")
        time.sleep(0.1)


def _text(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r\n", "\n") if path.exists() else ""


def _save(work: Path, core: Path) -> None:
    qmp = Qmp(work / "qmp")
    qmp.ask("stop")
    qmp.dump(core)


def _parse(report: str, console: str, seconds: float) -> GuestRun:
    """Take the guest's blocks apart; a capture is followed by its errors and its status."""
    blocks = [
        (*head.split(" ", 1), body)
        for head, body in re.findall(r"^@@ (\w+ .*)\n((?:(?!@@ ).*\n)*)", report, re.MULTILINE)
    ]
    errors = iter(body for word, _, body in blocks if word == "errors")
    statuses = iter(int(name) for word, name, _ in blocks if word == "status")
    return GuestRun(
        release=next(name for word, name, _ in blocks if word == "kernel"),
        snapshots={name: counters(body) for word, name, body in blocks if word == "snapshot"},
        captured={
            name: Captured(body.rstrip("\n"), next(errors).rstrip("\n"), next(statuses))
            for word, name, body in blocks
            if word == "capture"
        },
        console=console,
        seconds=seconds,
    )


def counters(text: str) -> Counters:
    """The counters in the lines of /proc/meminfo, /proc/vmstat and sysfs."""
    hugepages = {f"{name}@{size}": int(value) for size, name, value in _HUGEPAGES.findall(text)}
    return hugepages | {
        found[1]: int(found[2]) for line in text.splitlines() if (found := _COUNTER.fullmatch(line))
    }
