"""The figures of the project, with the machine's name: `make bench`.

Each shape runs in a process of its own, whose anonymous memory is sampled from outside while it
runs.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from hvo.layout import format_size, parse_size
from walk import cpu_name

HERE = Path(__file__).parent
SHAPES = [
    *(("1TiB", "2MiB", era) for era in ("5.14", "5.18", "6.2", "7.1")),
    *(("1TiB", "1GiB", era) for era in ("5.14", "5.18", "6.2", "7.1")),
    ("4TiB", "2MiB", "7.1"),
    ("4TiB", "1GiB", "7.1"),
    ("16TiB", "2MiB", "7.1"),
    ("16TiB", "1GiB", "7.1"),
]
"""Memory, HugeTLB page size and era, all on arm64 with 4 KiB pages."""
NEEDED_PER_TIB = 512 << 20
"""Memory of the host that a shape is given a chance with, in bytes for each TiB of the machine."""


def available() -> int:
    """Bytes of memory that the host can spare."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory that a process has now; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def measure(shape: tuple[str, str, str]) -> str:
    """Run one shape -> its line."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "machine.py"), *shape], stdout=subprocess.PIPE, text=True
    )
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.005)
    assert process.stdout is not None
    if process.returncode:
        return f"failed with status {process.returncode}"
    figures = json.loads(process.stdout.read())
    assert figures["left"] == 0
    return (
        f"optimise {figures['optimize']:6.2f} s, restore {figures['restore']:6.2f} s, peak"
        f" {format_size(peak >> 20 << 20):>8} anonymous (build {figures['build']:.2f} s, fill"
        f" {figures['fill']:.2f} s, {figures['optimized']} pages)"
    )


def main() -> None:
    """Print every figure."""
    print(f"machine: {cpu_name()}, {format_size(available())} of memory available")
    for shape in SHAPES:
        memory, size, era = shape
        enough = available() > (parse_size(memory) >> 40) * NEEDED_PER_TIB
        line = measure(shape) if enough else "not tried, the host has too little memory"
        print(f"arm64 4KiB {memory:>5} of {size}, {era:>4}: {line}", flush=True)
    for other in (
        ["walk.py"],
        ["walk.py", "--random"],
        ["buddy.py"],
        ["audit.py"],
        ["check.py"],
        ["export.py"],
        ["fleet.py"],
    ):
        subprocess.run([sys.executable, str(HERE / other[0]), *other[1:]], check=True)


if __name__ == "__main__":
    main()
