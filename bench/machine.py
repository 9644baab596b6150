"""One shape: fills a pool, optimises and restores it, and prints the seconds as JSON.

`python bench/machine.py MEMORY HUGEPAGE ERA [ARCH PAGE]`
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from hvo import Machine


def timed(work: Callable[[], Any]) -> float:
    """How long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Run the shape that the arguments name."""
    memory, size, era, arch, page = (*sys.argv[1:], "arm64", "4KiB")[:5]
    machines: list[Machine] = []
    build = timed(lambda: machines.append(Machine.build(arch, page, memory, era=era, gate=False)))
    machine = machines[0]
    fill = timed(lambda: machine.fill(size))
    optimize = timed(lambda: machine.optimize(size))
    optimized = machine.optimized(size).size
    restore = timed(lambda: machine.restore(size))
    left = machine.optimized(size).size
    seconds = {"build": build, "fill": fill, "optimize": optimize, "restore": restore}
    print(json.dumps(seconds | {"optimized": int(optimized), "left": int(left)}))


if __name__ == "__main__":
    main()
