"""An audit of the core of a full 1 TiB machine, and a plain drgn script for comparison: `python
bench/audit.py [MEMORY [ERA]]`.

The machine is saved to a temporary file (2.5 GiB for 1 TiB) by a process of its own. The script
walks one vmemmap page after the other, with one read for each level of the page table; it gets one
section's pages, and the time of an entry is compared.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import drgn

from hvo.audit.audit import audit
from hvo.audit.tables import read_tables
from hvo.audit.vmemmap import VmemmapPages
from hvo.kernel.image import KernelImage
from hvo.kernel.sections import Sections
from hvo.layout import format_size
from hvo.memory.core import CoreMemory, open_core
from walk import cpu_name

ROUNDS = 40
"""How often the script walks the pages of one section."""
ADDRESS = 0x000F_FFFF_FFFF_F000
SAVE = """
import sys
from hvo.machine.machine import Machine
from hvo.machine.cores.save import save_core
machine = Machine.build("x86_64", 4096, sys.argv[1], era=sys.argv[2])
machine.fill("2MiB")
save_core(machine, sys.argv[3])
"""


def anonymous() -> int:
    """Bytes of anonymous memory that this process has now; pages of mapped files do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


@contextmanager
def watched() -> Iterator[list[int]]:
    """Collects the anonymous memory of this process every 5 ms."""
    seen, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def script(core: Path, memory: CoreMemory) -> float:
    """Seconds for an entry, when each page is walked from the top with a read of drgn's for each
    level (x86-64 with 4 levels).
    """
    program = drgn.Program()
    program.set_core_dump(core)
    image = KernelImage.of(memory)
    base = int(Sections.of(image).memmap[-1])
    pages = range(base, base + 512 * 4096, 4096)
    begun = time.perf_counter()
    for _ in range(ROUNDS):
        for page in pages:
            walk_one(program, image.root, page)
    return (time.perf_counter() - begun) / (ROUNDS * len(pages))


def walk_one(program: drgn.Program, table: int, address: int) -> bool:
    """Whether the page at a virtual address may be written."""
    writable = True
    for shift in (39, 30, 21, 12):
        entry = program.read_u64(table + (address >> shift & 511) * 8, physical=True)
        if not entry & 1:
            return False
        writable &= bool(entry & 2)
        if shift == 12 or entry & 0x80:
            return writable
        table = entry & ADDRESS
    return writable


def main() -> None:
    """Print the figures."""
    size, era = (*sys.argv[1:], *("1TiB", "6.2")[len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory() as directory:
        core = Path(directory) / "machine.elf"
        subprocess.run([sys.executable, "-c", SAVE, size, era, str(core)], check=True)
        print(
            f"machine: {cpu_name()}; core of x86-64 {size}, era {era}:"
            f" {format_size(core.stat().st_size)}"
        )
        memory = open_core(core)
        for number in range(3):
            report(memory, number)
        entry, entries = script(core, memory), len(walked(memory).frame)
        for name, work in (("the entries alone", walked), ("the whole audit", audit)):
            each = best(lambda work=work: work(memory)) / entries
            print(
                f"an entry: script {entry * 1e6:.2f} us, {name} {each * 1e6:.3f} us:"
                f" {entry / each:.0f} times faster"
            )


def report(memory: CoreMemory, number: int) -> None:
    """One audit: time and memory."""
    with watched() as seen:
        begun, cpu = time.perf_counter(), time.process_time()
        found = audit(memory)
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    counts = found.pools[0].counts
    assert (counts.optimized, found.findings) == (counts.pages, ())
    peak = format_size(max(seen) >> 20 << 20)
    print(
        f"audit {number + 1}: {took:.2f} s ({cpu:.2f} s of CPU), {counts.optimized} optimised"
        f" pages, peak {peak} anonymous",
        flush=True,
    )


def walked(memory: CoreMemory) -> VmemmapPages:
    """What the script does: every vmemmap page, its frame and whether it may be written."""
    image = KernelImage.of(memory)
    sections = Sections.of(image)
    return VmemmapPages.read(image, sections, read_tables(image, sections))


def best(work: Callable[[], object]) -> float:
    """Seconds that the fastest of three takes."""
    times: list[float] = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main()
